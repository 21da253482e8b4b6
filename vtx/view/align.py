"""Two event streams side by side, aligned by retired instructions.

Events of one retired instruction form a group; groups of the same instruction are matched by what
kind of event they hold, in order. Neither stream is ever held whole. Must not know what is told
about the result.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher

from vtx.trace import End, Event, Exit, Input, Interrupt, Probe, Startup

MAX_GROUP = 256
"""Events of one instruction that are matched at once; a longer group is cut."""


@dataclass(frozen=True, slots=True)
class Pair:
    """An event of each side, or of one side alone. `retired` is where they stand."""

    retired: int
    left: Event | None
    right: Event | None


def identity(event: Event) -> str:
    """What an event is in few words: its reason, vector, symbol or kind."""
    if isinstance(event, Exit):
        return event.reason
    if isinstance(event, Interrupt):
        return f"interrupt {event.vector:#x}"
    if isinstance(event, Probe):
        return f"probe {event.symbol}"
    if isinstance(event, Startup):
        return event.how
    if isinstance(event, Input):
        return "input"
    return "end" if isinstance(event, End) else "note"


@dataclass(frozen=True, slots=True)
class _Group:
    retired: int
    events: tuple[Event, ...]


def align(left: Iterable[Event], right: Iterable[Event]) -> Iterator[Pair]:
    """Pairs in order of retired instructions."""
    lefts, rights = _groups(left), _groups(right)
    one, other = next(lefts, None), next(rights, None)
    while one or other:
        if one and other and one.retired == other.retired:
            yield from _matched(one, other)
            one, other = next(lefts, None), next(rights, None)
        elif one and (other is None or one.retired < other.retired):
            yield from (Pair(one.retired, event, None) for event in one.events)
            one = next(lefts, None)
        elif other:
            yield from (Pair(other.retired, None, event) for event in other.events)
            other = next(rights, None)


def _groups(events: Iterable[Event]) -> Iterator[_Group]:
    """Runs of events with the same place; an input stands where the event before it does."""
    place, gathered = 0, list[Event]()
    for event in events:
        reached = place if isinstance(event, Input) else max(place, event.retired)
        if gathered and (reached != place or len(gathered) >= MAX_GROUP):
            yield _Group(place, tuple(gathered))
            gathered = []
        place = reached
        gathered.append(event)
    if gathered:
        yield _Group(place, tuple(gathered))


def _matched(one: _Group, other: _Group) -> Iterator[Pair]:
    left = [identity(event) for event in one.events]
    right = [identity(event) for event in other.events]
    if left == right:
        for a, b in zip(one.events, other.events, strict=True):
            yield Pair(one.retired, a, b)
        return
    for tag, i, i_end, j, j_end in SequenceMatcher(a=left, b=right, autojunk=False).get_opcodes():
        if tag == "equal":
            for a, b in zip(one.events[i:i_end], other.events[j:j_end], strict=True):
                yield Pair(one.retired, a, b)
        else:
            yield from (Pair(one.retired, event, None) for event in one.events[i:i_end])
            yield from (Pair(one.retired, None, event) for event in other.events[j:j_end])
