"""Two sequences of VM exits held against each other: do two VMMs see the same machine?

Exits are the same when reason, qualification, RIP and the guest's clock are. Those of one
instruction are matched in order, so an exit that one VMM alone makes costs no other its match.
It does not know what the VMMs do about exits.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import groupby
from typing import NamedTuple

from vtx.trace import Event
from vtx.trace import Exit as ExitEvent


class ExitKey(NamedTuple):
    """What makes an exit the same in two runs. `retired` is the guest's clock less its sleep."""

    retired: int
    reason: str
    qualification: int
    rip: int


@dataclass(frozen=True)
class ExitAlignment:
    """Two styles' exits: how many are the same, and which reasons only one of them has."""

    where: str
    """The two styles, `ept/firmware`."""
    equal: int
    only_left: dict[str, int]
    only_right: dict[str, int]


class ExitSequence:
    """Takes the events of a run and keeps what alignment needs of its exits."""

    def __init__(self) -> None:
        self.keys: list[ExitKey] = []

    def __call__(self, event: Event) -> None:
        if isinstance(event, ExitEvent):
            key = ExitKey(event.retired, event.reason, event.qualification, event.rip)
            self.keys.append(key)


def align_exits(where: str, left: Sequence[ExitKey], right: Sequence[ExitKey]) -> ExitAlignment:
    """Match the exits of each instruction."""
    lefts, rights = dict(_by_instruction(left)), dict(_by_instruction(right))
    equal, only_left, only_right = 0, Counter[str](), Counter[str]()
    for retired in sorted(lefts.keys() | rights.keys()):
        one, other = lefts.get(retired, []), rights.get(retired, [])
        matched = _matched(one, other)
        equal += sum(size for _, _, size in matched)
        only_left.update(_unmatched(one, ((i, size) for i, _, size in matched)))
        only_right.update(_unmatched(other, ((j, size) for _, j, size in matched)))
    return ExitAlignment(where, equal, dict(only_left), dict(only_right))


def _by_instruction(keys: Sequence[ExitKey]) -> Iterator[tuple[int, list[ExitKey]]]:
    for retired, exits in groupby(keys, key=lambda key: key.retired):
        yield retired, list(exits)


def _matched(one: list[ExitKey], other: list[ExitKey]) -> list[tuple[int, int, int]]:
    if one == other:
        return [(0, 0, len(one))]
    blocks = SequenceMatcher(a=one, b=other, autojunk=False).get_matching_blocks()
    return [(block.a, block.b, block.size) for block in blocks]


def _unmatched(exits: list[ExitKey], matched: Iterable[tuple[int, int]]) -> Iterator[str]:
    taken = {at + n for at, size in matched for n in range(size)}
    return (key.reason for n, key in enumerate(exits) if n not in taken)
