"""The order of a region's blocks, and where on the way the budget is looked at.

The head is written twice: once for who enters the region, whose flags are of any kind, and once
for who comes back to it. The budget is looked at where a way through the region closes; it has
to do for every way from there to the next such place. Nothing here is text.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from vtx.engine.native.region_plan import Region, RegionBlock

ENTRY = -1
"""The node of the head as it is entered from outside; all other nodes are named by their IP."""


@dataclass(frozen=True)
class Graph:
    """The nodes of a region that can be reached, and what follows from how they are connected."""

    region: Region

    def block(self, node: int) -> RegionBlock:
        return self._blocks[node]

    @cached_property
    def _blocks(self) -> dict[int, RegionBlock]:
        blocks = {block.ip: block for block in self.region.blocks}
        return {ENTRY: self.region.blocks[0], **blocks}

    @cached_property
    def successors(self) -> dict[int, tuple[int, ...]]:
        """Node -> the nodes that it may go on at."""
        result = {}
        for node, block in self._blocks.items():
            last = block.steps[-1]
            places = last.targets if last.targets else self.region.return_places
            result[node] = tuple(ip for ip in places if ip in self._blocks)
        return result

    @cached_property
    def _walk(self) -> tuple[list[int], frozenset[int]]:
        """The nodes, each before those that are reached from it, and who closes a cycle."""
        finished: list[int] = []
        closing: set[int] = set()
        state: dict[int, bool] = {ENTRY: False}  # whether everything behind a node is done
        stack = [(ENTRY, iter(self.successors[ENTRY]))]
        while stack:
            node, rest = stack[-1]
            following = next(rest, None)
            if following is None:
                state[node] = True
                finished.append(node)
                stack.pop()
            elif following not in state:
                state[following] = False
                stack.append((following, iter(self.successors[following])))
            elif not state[following]:
                closing.add(following)
        return finished[::-1], frozenset(closing)

    @property
    def order(self) -> list[int]:
        """The nodes that can be reached, the entry first; only cycles lead backwards."""
        return self._walk[0]

    @property
    def checks(self) -> frozenset[int]:
        """Where the budget is looked at."""
        return self._walk[1] | {ENTRY}

    def closed_by(self, node: int) -> set[int]:
        """Successors that the node goes back to, or into the copy of itself."""
        place = {known: n for n, known in enumerate(self.order)}
        head = self.region.ip
        return {
            target
            for target in self.successors[node]
            if place[target] <= place[node] or (node == ENTRY and target == head)
        }

    @cached_property
    def needs(self) -> dict[int, int]:
        """Check -> the instructions on the longest way to the next check or out."""
        longest: dict[int, int] = {}
        for node in reversed(self.order):
            onward = (longest[n] for n in self.successors[node] if n not in self.checks)
            longest[node] = len(self.block(node).steps) + max(onward, default=0)
        return {node: longest[node] for node in self.checks}

    @cached_property
    def only_way(self) -> dict[int, int]:
        """Node that is no check -> the one node that goes on at it."""
        found: dict[int, set[int]] = {}
        for node in self.order:
            for target in self.successors[node]:
                found.setdefault(target, set()).add(node)
        return {
            node: next(iter(origins))
            for node, origins in found.items()
            if len(origins) == 1 and node not in self.checks
        }


def union(sets: Iterable[frozenset[str]]) -> frozenset[str]:
    """Everything that is in one of the sets."""
    return frozenset[str]().union(*sets)
