"""What a hot region is: blocks that reach each other, as forms with the numbers filled in.

A region is found by following known jumps from its head through code that was translated
before. It is a plain value: another process can compile it, and equal regions have equal code.
Nothing here knows how a region is compiled or entered.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from vtx.engine.native.blocks import Piece
from vtx.engine.native.forms import BEHIND, HERE, SLOT, Form
from vtx.isa.primitives import PURE, Prim

MOST_BLOCKS = 64
MOST_INSTRUCTIONS = 500

_TAKEN = frozenset(PURE) | {
    Prim.CONST, Prim.GET, Prim.PUT, Prim.GETVAR, Prim.SETVAR, Prim.FLAGS, Prim.COND, Prim.LOAD,
    Prim.STORE, Prim.PROBE, Prim.LOOKUP, Prim.IF, Prim.ELSE, Prim.END, Prim.NEXT, Prim.JUMP,
    Prim.FAULT, Prim.EXIT, Prim.RAISED,
}  # fmt: skip
"""Primitives a region knows. Instructions with others are left to the stencils."""


@dataclass(frozen=True)
class Step:
    """One instruction: its form and what goes into each of the form's holes."""

    form: Form
    numbers: tuple[int, ...]

    @property
    def here(self) -> int:
        """Offset of the instruction in CS."""
        return self.numbers[HERE]

    @property
    def behind(self) -> int:
        return self.numbers[BEHIND]

    def hole_width(self, temp: int) -> int:
        """Width in bits of an argument that is a hole."""
        kind = self.form.holes[-1 - temp]
        assert kind != SLOT
        return int(kind) if kind.isdigit() else 64

    @cached_property
    def targets(self) -> tuple[int, ...]:
        """Known places where it may go on, the one behind it included."""
        found = [self.behind] if any(op.prim is Prim.NEXT for op in self.form.ops) else []
        for op in self.form.ops:
            if op.prim is Prim.JUMP and op.args[0] < 0:
                found.append(self.numbers[-1 - op.args[0]])
        return tuple(dict.fromkeys(found))

    @cached_property
    def goes_straight_on(self) -> bool:
        """It only ever goes on at the instruction behind it."""
        ends = [op.prim for op in self.form.ops if op.prim in (Prim.NEXT, Prim.JUMP)]
        return ends == [Prim.NEXT] and self.form.ops[-1].prim is Prim.NEXT

    @cached_property
    def is_call(self) -> bool:
        """It leaves the place behind it on the stack, where a return finds it."""
        stored = (op.args[1] for op in self.form.ops if op.prim is Prim.STORE)
        return bool(self.targets) and any(
            temp < 0 and self.numbers[-1 - temp] == self.behind for temp in stored
        )


@dataclass(frozen=True)
class RegionBlock:
    """Instructions that are entered at the first and left behind the last."""

    ip: int
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Region:
    """Blocks, the head first. It is entered at the head."""

    blocks: tuple[RegionBlock, ...]

    @property
    def ip(self) -> int:
        return self.blocks[0].ip

    @property
    def instructions(self) -> int:
        return sum(len(block.steps) for block in self.blocks)

    @cached_property
    def return_places(self) -> tuple[int, ...]:
        """Blocks of the region that stand behind a call in it."""
        ips = {block.ip for block in self.blocks}
        steps = (block.steps[-1] for block in self.blocks)
        return tuple(s.behind for s in steps if s.is_call and s.behind in ips)


@dataclass(frozen=True, slots=True)
class CompiledRegion:
    """An object with the function `region`, and where its exits @X0, @X1, ... lead."""

    object: bytes
    exits: tuple[int, ...]


def step_of(piece: Piece) -> Step | None:
    """A piece with its numbers in place; None if a region cannot hold it."""
    form = piece.filling.form
    if form.resync or any(op.prim not in _TAKEN for op in form.ops):
        return None
    numbers = []
    for fixed, varying in zip(piece.filling.fixed, piece.filling.varying, strict=True):
        if fixed is None:
            assert varying is not None, "a hole has a number"
            fixed = piece.values[varying]
        numbers.append(fixed)
    return Step(form, tuple(numbers))


PiecesAt = Callable[[int], Sequence[Piece]]
"""Offset in CS -> the translated block there; empty where there is none, or another page."""


def discover(head: int, pieces_at: PiecesAt) -> Region | None:
    """The region of what is reached from `head` on its page; None if it never comes back."""
    found: dict[int, tuple[Step, ...]] = {}
    waiting, count = [head], 0
    while waiting and len(found) < MOST_BLOCKS:
        ip = waiting.pop(0)
        if ip in found:
            continue
        steps = _steps(pieces_at(ip))
        if not steps or count + len(steps) > MOST_INSTRUCTIONS:
            continue
        found[ip] = steps
        count += len(steps)
        waiting += steps[-1].targets
        if steps[-1].is_call:
            waiting.append(steps[-1].behind)
    if head not in found:
        return None
    region = Region(tuple(RegionBlock(ip, _cut(steps, found)) for ip, steps in found.items()))
    return region if _comes_back(region) else None


def _steps(pieces: Sequence[Piece]) -> tuple[Step, ...]:
    steps: list[Step] = []
    for piece in pieces:
        step = step_of(piece)
        if step is None:
            break
        steps.append(step)
        if not step.goes_straight_on:
            break
    return tuple(steps)


def _cut(steps: tuple[Step, ...], leaders: dict[int, tuple[Step, ...]]) -> tuple[Step, ...]:
    """The steps up to where another block begins."""
    for n, step in enumerate(steps):
        if n and step.here in leaders:
            return steps[:n]
    return steps


def _comes_back(region: Region) -> bool:
    """Some block of the region jumps to another that it came from."""
    order = {block.ip: n for n, block in enumerate(region.blocks)}
    return any(
        order.get(target, n + 1) <= n or target == region.ip
        for n, block in enumerate(region.blocks)
        for target in block.steps[-1].targets
    )
