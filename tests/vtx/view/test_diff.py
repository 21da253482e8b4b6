"""Aligning and comparing traces."""

from __future__ import annotations

import io
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from vtx.trace import (
    End,
    Event,
    Exit,
    Header,
    Input,
    Interrupt,
    Note,
    Probe,
    TraceReader,
    TraceWriter,
)
from vtx.view.align import MAX_GROUP, align
from vtx.view.diff import TraceDiff, diff_traces, show_diff

HEADER = Header(image_sha256="0" * 64, style="ept", cpu="haswell", memory=1 << 20)


def exit_at(retired: int, reason: str = "CPUID", **more: object) -> Exit:
    given = {"seq": retired, "vcpu": 0, "number": 10, "qualification": 0, "rip": 0x1000}
    return Exit(**{**given, "retired": retired, "reason": reason, **more})  # type: ignore[arg-type]


END = End(retired=50, ended="halted", exit_status=0, memory_sha256="1" * 64)
EVENTS: list[Event] = [
    Input(now=0, data=b"a"),
    exit_at(10),
    exit_at(10, "HLT"),
    Interrupt(retired=20, vector=32),
    exit_at(30),
    END,
]


def opened(events: Sequence[Event], header: Header = HEADER) -> TraceReader:
    file = io.BytesIO()
    writer = TraceWriter(file, header, "t")
    for event in events:
        writer.write(event)
    writer.flush()
    file.seek(0)
    return TraceReader(io.BufferedReader(file), "t")  # type: ignore[arg-type]


def difference(right: Sequence[Event], header: Header = HEADER, **options: object) -> TraceDiff:
    return diff_traces(opened(EVENTS), opened(right, header), **options)  # type: ignore[arg-type]


def text_of(found: TraceDiff) -> str:
    out = io.StringIO()
    show_diff(found, out)
    return out.getvalue()


def test_a_trace_is_the_same_as_itself() -> None:
    found = difference(EVENTS)

    assert (found.same, found.equal, found.first) == (True, len(EVENTS), None)
    assert text_of(found).startswith("The traces are the same: 6 equal")


def test_a_changed_field_is_named_with_both_values() -> None:
    found = difference([*EVENTS[:4], exit_at(30, rip=0x2000), END])

    assert (found.same, found.changed) == (False, 1)
    assert found.first is not None
    assert found.first.retired == 30
    assert [(f.name, f.left, f.right) for f in found.first.fields] == [("rip", 0x1000, 0x2000)]
    assert "rip: 4096 (0x1000) | 8192 (0x2000)" in text_of(found)


def test_an_event_more_does_not_make_the_later_ones_differ() -> None:
    found = difference([*EVENTS[:3], exit_at(15, "RDTSC"), *EVENTS[3:]])

    assert (found.only_left, found.only_right, found.changed, found.equal) == (0, 1, 0, 6)
    assert found.first is not None
    assert (found.first.retired, found.first.left) == (15, None)
    assert "(no such event)" in text_of(found)


def test_an_event_less_is_only_on_the_left() -> None:
    found = difference([event for event in EVENTS if not isinstance(event, Interrupt)])

    assert (found.only_left, found.only_right) == (1, 0)
    assert dict(found.kinds) == {("interrupt 0x20", "only left"): 1}


def test_events_of_one_instruction_are_matched_by_what_they_are() -> None:
    found = difference([EVENTS[0], exit_at(10, "RDTSC"), exit_at(10, "HLT"), *EVENTS[3:]])

    assert (found.only_left, found.only_right, found.equal) == (1, 1, 5)


def test_sequence_numbers_do_not_count() -> None:
    moved = [replace(event, seq=7) if isinstance(event, Exit) else event for event in EVENTS]

    assert difference(moved).same


def test_the_end_is_compared() -> None:
    found = difference([*EVENTS[:-1], replace(END, memory_sha256="2" * 64)])

    assert not found.same
    assert found.first is not None
    assert [item.name for item in found.first.fields] == ["memory_sha256"]


def test_headers_are_compared_and_fields_can_be_ignored() -> None:
    shadow = replace(HEADER, style="shadow")

    assert [item.name for item in difference(EVENTS, shadow).header] == ["style"]
    assert "header: style: ept | shadow" in text_of(difference(EVENTS, shadow))
    assert not difference(EVENTS, shadow).same
    assert difference(EVENTS, shadow, ignore=frozenset({"style"})).same


def test_no_more_divergences_are_kept_than_asked_for_but_always_the_first() -> None:
    found = difference([], limit=2)

    assert (len(found.divergences), found.only_left) == (2, len(EVENTS))
    assert len(difference([], limit=0).divergences) == 1


def test_json_has_verdict_first_divergence_and_counts() -> None:
    found = difference([*EVENTS[:4], exit_at(30, rip=0x2000), END]).as_dict()

    assert found["same"] is False
    assert found["first"]["retired"] == 30
    assert found["first"]["left"]["event"] == "exit"
    assert found["events"] == {"equal": 5, "changed": 1, "only_left": 0, "only_right": 0}
    assert found["kinds"] == [{"event": "CPUID", "how": "changed", "count": 1}]


def test_alignment_holds_no_more_than_a_group() -> None:
    taken = 0

    def endless() -> object:
        nonlocal taken
        while True:
            taken += 1
            yield Note(retired=1, text="stuck")

    pairs = align(endless(), endless())  # type: ignore[arg-type]
    for _ in range(10):
        assert next(pairs).left == Note(retired=1, text="stuck")
    assert taken <= 4 * MAX_GROUP


places = st.lists(st.tuples(st.integers(0, 6), st.sampled_from("ABC")), max_size=12)


@given(places, places)
@settings(max_examples=200, deadline=None)
def test_alignment_loses_no_event_and_keeps_order(
    left: list[tuple[int, str]], right: list[tuple[int, str]]
) -> None:
    one = [exit_at(place, name) for place, name in sorted(left)]
    other = [exit_at(place, name) for place, name in sorted(right)]
    pairs = list(align(one, other))

    assert [pair.left for pair in pairs if pair.left] == one
    assert [pair.right for pair in pairs if pair.right] == other
    assert [pair.retired for pair in pairs] == sorted(pair.retired for pair in pairs)
    for pair in pairs:
        if isinstance(pair.left, Exit) and isinstance(pair.right, Exit):
            assert (pair.left.retired, pair.left.reason) == (pair.right.retired, pair.right.reason)


@given(places)
@settings(max_examples=50, deadline=None)
def test_any_trace_is_the_same_as_itself(left: list[tuple[int, str]]) -> None:
    events = [exit_at(place, name) for place, name in sorted(left)]

    assert diff_traces(opened(events), opened(events)).same


def test_probes_are_matched_by_their_symbol() -> None:
    def hit(symbol: str, cr3: int = 0x1000) -> Probe:
        return Probe(retired=20, rip=0x1000, symbol=symbol, cr3=cr3)

    found = diff_traces(opened([hit("fork"), hit("exit"), END]), opened([hit("exit", 0x2000), END]))

    assert (found.equal, found.changed, found.only_left, found.only_right) == (1, 1, 1, 0)
    assert dict(found.kinds) == {("probe fork", "only left"): 1, ("probe exit", "changed"): 1}
