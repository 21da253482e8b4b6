"""Exits as text: one a line, or one in full with every number in words.

Must not know how a trace is stored; the words come from `vtx.spec`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TextIO

import msgspec

from vtx import spec
from vtx.trace import Event, Exit, Input, Interrupt, Note, Probe, Startup, TraceError
from vtx.view.text import count, json_line, printable


def show_events(
    events: Iterable[Event],
    out: TextIO,
    *,
    reason: str | None = None,
    all_events: bool = False,
    as_json: bool = False,
) -> None:
    """One line for each exit and probe hit, or for each event; with `reason` only those exits.

    SpecError when `reason` is no exit reason.
    """
    number = None if reason is None else spec.exit_reason(reason).number
    for event in events:
        if not _wanted(event, number, all_events):
            continue
        print(json_line(event_as_dict(event)) if as_json else event_line(event), file=out)


def _wanted(event: Event, number: int | None, all_events: bool) -> bool:
    if isinstance(event, Exit):
        return number is None or event.number == number
    return all_events or (isinstance(event, Probe) and number is None)


def show_one(events: Iterable[Event], seq: int, out: TextIO, *, as_json: bool = False) -> None:
    """Exit number `seq` in full. TraceError when the trace has no such exit."""
    last = None
    for event in events:
        if not isinstance(event, Exit):
            continue
        if event.seq == seq:
            print(json_line(event_as_dict(event)) if as_json else exit_in_full(event), file=out)
            return
        last = event.seq
    has = "it has none" if last is None else f"its last is {last}"
    raise TraceError(f"the trace has no exit {seq}; {has}")


def event_as_dict(event: Event) -> dict[str, Any]:
    """An event as JSON has it, an exit's qualification in words added as `qualification_text`."""
    found: dict[str, Any] = msgspec.to_builtins(event)
    if isinstance(event, Exit):
        found["qualification_text"] = qualification_words(event)
    return found


def qualification_words(event: Exit) -> str:
    """The exit qualification in words, "" where it says nothing or the reason is unknown."""
    try:
        return spec.format_qualification(event.number, event.qualification, event.vector)
    except spec.SpecError:
        return ""


def event_line(event: Event) -> str:
    """Any event in one line."""
    if isinstance(event, Exit):
        return _exit_line(event)
    if isinstance(event, Probe):
        return _probe_line(event)
    if isinstance(event, Interrupt):
        said = f"interrupt {event.vector:#x} {event.how}{_of_cpu(event.vcpu)}"
    elif isinstance(event, Startup):
        said = f"{_SIGNALS[event.how].format(event.vector << 12)}{_of_cpu(event.vcpu)}"
    elif isinstance(event, Input):
        said = f"input at {count(event.now)}: {event.data!r}"
    elif isinstance(event, Note):
        said = f"note: {printable(event.text)}"
    else:
        said = f"end: {printable(event.ended)}, exit status {event.exit_status}"
    retired = "" if isinstance(event, Input) else str(event.retired)
    return f"{'':>7} {retired:>11}  {said}"


_SIGNALS = {"init": "INIT", "startup": "start-up IPI, real mode at {:#x}"}


def _of_cpu(vcpu: int) -> str:
    """The first CPU is not named: in most traces there is no other."""
    return f", CPU {vcpu}" if vcpu else ""


def _exit_line(event: Exit) -> str:
    words = qualification_words(event)
    done = ": ".join(filter(None, (event.action, event.action_text)))
    columns = (
        f"{event.seq:>7} {event.retired:>11}  {printable(event.reason):<18}",
        f"{event.rip:#018x} {printable(event.symbol):<20}",
        f"{printable(event.instruction_text):<28}",
        words,
        f"-> {printable(done)}" if done else "",
    )
    return "  ".join(column for column in columns if column).rstrip()


def _probe_line(event: Probe) -> str:
    place = f"{event.rip:#018x} {printable(event.symbol):<20}"
    said = f"{place}  cr3 {event.cr3:#x}{_of_cpu(event.vcpu)}"
    return f"{'':>7} {event.retired:>11}  {'probe':<18}  {said}"


def exit_in_full(event: Exit) -> str:
    """Every field of an exit that means something, one a line, numbers in words."""
    head = f"Exit {event.seq} of vcpu {event.vcpu}, after {count(event.retired)} instructions"
    return "\n".join([head, *(f"  {name:<22}{said}" for name, said in _rows(event))])


def _rows(event: Exit) -> Iterator[tuple[str, str]]:
    yield "reason", _reason(event)
    yield "qualification", _with_words(event.qualification, qualification_words(event))
    for name, setting in event.decoded.items():
        if setting:
            yield "", f"{printable(name)} = {setting:#x}"
    yield "rip", f"{event.rip:#x} {printable(event.symbol)}".rstrip()
    if event.instruction_bytes or event.instruction_text:
        code = " ".join(_pairs(printable(event.instruction_bytes)))
        yield "instruction", f"{printable(event.instruction_text)}  ({code})"
    if event.instruction_length is not None:
        yield "instruction length", str(event.instruction_length)
    if event.instruction_info is not None:
        yield "instruction info", _with_words(event.instruction_info, _info_words(event))
    if event.gla is not None:
        yield "guest linear", f"{event.gla:#x}"
    if event.gpa is not None:
        yield "guest physical", f"{event.gpa:#x}"
    yield from _event_rows(event)
    done = ": ".join(filter(None, (event.action, event.action_text)))
    yield "action", printable(done) or "none recorded"
    yield from _changes("VMCS changed", event.vmcs_changes)
    yield from _changes("registers changed", event.register_changes)


def _event_rows(event: Exit) -> Iterator[tuple[str, str]]:
    """Interruption and IDT-vectoring information, with their error codes."""
    if event.intr_info is not None:
        words = spec.format_layout("exit-interruption", event.intr_info)
        yield "interruption", _with_words(event.intr_info, words)
    if event.intr_error is not None:
        yield "error code", f"{event.intr_error:#x}"
    if event.idt_vectoring_info is not None:
        words = spec.format_layout("idt-vectoring", event.idt_vectoring_info)
        yield "IDT vectoring", _with_words(event.idt_vectoring_info, words)
    if event.idt_vectoring_error is not None:
        yield "IDT vectoring error", f"{event.idt_vectoring_error:#x}"


def _reason(event: Exit) -> str:
    failed = ", a failed VM entry" if event.entry_failure else ""
    try:
        meaning = spec.exit_reason(event.number).meaning
    except spec.SpecError:
        meaning = "no reason of the architecture"
    said = f": {meaning}" if meaning else ""
    return f"{event.number} {printable(event.reason)}{failed}{said}"


def _changes(title: str, changes: dict[str, int]) -> Iterator[tuple[str, str]]:
    for name, value in changes.items():
        yield title, f"{printable(name)} = {value:#x}"
        title = ""


def _with_words(value: int, words: str) -> str:
    return f"{value:#x}: {words}" if words else f"{value:#x}"


def _info_words(event: Exit) -> str:
    try:
        return spec.format_instruction_info(event.number, event.instruction_info or 0)
    except spec.SpecError:
        return ""


def _pairs(text: str) -> Iterator[str]:
    for start in range(0, len(text), 2):
        yield text[start : start + 2]
