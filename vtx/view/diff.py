"""Comparing two traces: where they first part, and how much differs after that.

Must not know how a trace is stored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Set
from dataclasses import dataclass, field
from typing import Any, TextIO

import msgspec

from vtx.trace import Event, Header, TraceReader
from vtx.view.align import Pair, align, identity
from vtx.view.show import event_line
from vtx.view.text import Table, count, print_table, printable

ALWAYS_IGNORED = frozenset({"seq"})
"""One exit more on one side would make every later sequence number differ."""


@dataclass(frozen=True, slots=True)
class FieldDifference:
    """A field with its value on either side; None where a side lacks the whole event."""

    name: str
    left: Any
    right: Any


@dataclass(frozen=True, slots=True)
class Divergence:
    """One place where the traces differ. A side without the event has None."""

    retired: int
    left: Event | None
    right: Event | None
    fields: tuple[FieldDifference, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON; events as the trace has them."""
        return {
            "retired": self.retired,
            "left": None if self.left is None else msgspec.to_builtins(self.left),
            "right": None if self.right is None else msgspec.to_builtins(self.right),
            "fields": [_field_dict(found) for found in self.fields],
        }


@dataclass(slots=True)
class TraceDiff:
    """What was found. Counts are of events; `kinds` of differing ones by what they are."""

    header: tuple[FieldDifference, ...] = ()
    divergences: list[Divergence] = field(default_factory=list)
    equal: int = 0
    changed: int = 0
    only_left: int = 0
    only_right: int = 0
    kinds: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def same(self) -> bool:
        """Whether nothing differs that was not to be ignored."""
        return not self.header and not (self.changed or self.only_left or self.only_right)

    @property
    def first(self) -> Divergence | None:
        """The first divergence of the events."""
        return self.divergences[0] if self.divergences else None

    def as_dict(self) -> dict[str, Any]:
        """For JSON; `divergences` holds no more than were asked for, the first among them."""
        return {
            "same": self.same,
            "header": [_field_dict(found) for found in self.header],
            "first": self.first.as_dict() if self.first else None,
            "divergences": [found.as_dict() for found in self.divergences],
            "events": {
                "equal": self.equal,
                "changed": self.changed,
                "only_left": self.only_left,
                "only_right": self.only_right,
            },
            "kinds": [
                {"event": name, "how": how, "count": number}
                for (name, how), number in sorted(self.kinds.items())
            ],
        }


def diff_traces(
    left: TraceReader, right: TraceReader, *, ignore: Set[str] = frozenset(), limit: int = 10
) -> TraceDiff:
    """Compare headers and events, without the fields in `ignore`.

    At most `limit` divergences are kept, but always the first. TraceError from reading.
    """
    ignored = ignore | ALWAYS_IGNORED
    found = TraceDiff(header=_differing(left.header, right.header, ignored))
    for pair in align(left, right):
        _judge(found, pair, ignored, max(limit, 1))
    return found


def _judge(found: TraceDiff, pair: Pair, ignored: Set[str], limit: int) -> None:
    fields: tuple[FieldDifference, ...] = ()
    if pair.left is not None and pair.right is not None:
        fields = _differing(pair.left, pair.right, ignored) if pair.left != pair.right else ()
        if not fields:
            found.equal += 1
            return
        found.changed += 1
        how = "changed"
    elif pair.left is not None:
        found.only_left += 1
        how = "only left"
    else:
        found.only_right += 1
        how = "only right"
    event = pair.left or pair.right
    assert event is not None
    found.kinds[identity(event), how] += 1
    if len(found.divergences) < limit:
        found.divergences.append(Divergence(pair.retired, pair.left, pair.right, fields))


def _differing(
    left: Event | Header, right: Event | Header, ignored: Set[str]
) -> tuple[FieldDifference, ...]:
    """Fields of two structs of the same type that are not equal."""
    return tuple(
        FieldDifference(
            name,
            msgspec.to_builtins(getattr(left, name)),
            msgspec.to_builtins(getattr(right, name)),
        )
        for name in left.__struct_fields__
        if name not in ignored and getattr(left, name) != getattr(right, name)
    )


def _field_dict(found: FieldDifference) -> dict[str, Any]:
    return {"field": found.name, "left": found.left, "right": found.right}


def show_diff(found: TraceDiff, out: TextIO) -> None:
    """The divergences and the summary as text."""
    for item in found.header:
        print(f"header: {_field_line(item)}", file=out)
    for index, divergence in enumerate(found.divergences):
        head = "First divergence" if index == 0 else "Divergence"
        print(f"{head} after {count(divergence.retired)} retired instructions", file=out)
        print(f"  left   {_side(divergence.left)}", file=out)
        print(f"  right  {_side(divergence.right)}", file=out)
        for item in divergence.fields:
            print(f"         {_field_line(item)}", file=out)
    if found.kinds:
        _show_kinds(found, out)
    print(_summary(found), file=out)


def _side(event: Event | None) -> str:
    return "(no such event)" if event is None else " ".join(event_line(event).split())


def _field_line(item: FieldDifference) -> str:
    return f"{item.name}: {_value(item.left)} | {_value(item.right)}"


def _value(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value} ({value:#x})" if value > 9 else str(value)
    return printable(str(value))


def _show_kinds(found: TraceDiff, out: TextIO) -> None:
    rows = tuple(
        (printable(name), how, count(number)) for (name, how), number in sorted(found.kinds.items())
    )
    print_table(Table(("EVENT", "Difference", "Count"), rows, frozenset({2})), out)


def _summary(found: TraceDiff) -> str:
    verdict = "The traces are the same" if found.same else "The traces differ"
    parts = (
        f"{count(found.equal)} equal",
        f"{count(found.changed)} changed",
        f"{count(found.only_left)} only left",
        f"{count(found.only_right)} only right",
    )
    return f"{verdict}: {', '.join(parts)}"
