"""Exits as text."""

from __future__ import annotations

import io
import json

import pytest

from vtx.spec import SpecError
from vtx.trace import End, Event, Exit, Input, Interrupt, Note, Probe, TraceError
from vtx.view.show import event_line, exit_in_full, show_events, show_one

VIOLATION = Exit(
    seq=1,
    retired=1234,
    vcpu=0,
    reason="EPT_VIOLATION",
    number=48,
    qualification=0x182,
    rip=0x101000,
    decoded={"write": 1},
    symbol="store+0x4",
    instruction_bytes="8907",
    instruction_text="mov [rdi], eax",
    gla=0x5000,
    gpa=0xFEE000B0,
    idt_vectoring_info=0x80000020,
    action="complete",
    action_text="LAPIC write",
    vmcs_changes={"GUEST_RIP": 0x101002},
    register_changes={"RFLAGS": 2},
)
CPUID = Exit(
    seq=0, retired=10, vcpu=0, reason="CPUID", number=10, qualification=0, rip=0x100000,
    instruction_length=2,
)  # fmt: skip
PAGE_FAULT = Exit(
    seq=2, retired=1300, vcpu=0, reason="EXCEPTION_OR_NMI", number=0, qualification=0x7000,
    rip=0x100000, intr_info=0x80000B0E, intr_error=6,
)  # fmt: skip
EVENTS: list[Event] = [
    Input(now=3, data=b"x\n"),
    CPUID,
    Interrupt(retired=20, vector=0x20),
    VIOLATION,
    PAGE_FAULT,
    Note(retired=1400, text="odd\x1b[2J"),
    End(retired=1500, ended="halted", exit_status=0, memory_sha256=""),
]


def lines(**options: object) -> list[str]:
    out = io.StringIO()
    show_events(EVENTS, out, **options)  # type: ignore[arg-type]
    return out.getvalue().splitlines()


def test_there_is_one_line_for_each_exit() -> None:
    found = lines()

    assert [line.split()[:3] for line in found] == [
        ["0", "10", "CPUID"],
        ["1", "1234", "EPT_VIOLATION"],
        ["2", "1300", "EXCEPTION_OR_NMI"],
    ]


def test_a_line_has_place_symbol_instruction_qualification_and_action() -> None:
    line = event_line(VIOLATION)

    for part in ("0x0000000000101000", "store+0x4", "mov [rdi], eax", "write, gva valid"):
        assert part in line
    assert line.endswith("-> complete: LAPIC write")


def test_only_one_reason_can_be_asked_for_by_name_or_number() -> None:
    assert lines(reason="EPT_VIOLATION") == lines(reason="48") == [event_line(VIOLATION)]
    with pytest.raises(SpecError, match="no exit reason is called 'EPT_VIOLATIONS'"):
        lines(reason="EPT_VIOLATIONS")


def test_all_events_are_shown_when_asked_for() -> None:
    found = lines(all_events=True)

    assert len(found) == len(EVENTS)
    assert "input at 3: b'x\\n'" in found[0]
    assert "interrupt 0x20 delivered" in found[2]
    assert found[5].endswith("note: odd\\x1b[2J")
    assert found[6].endswith("end: halted, exit status 0")


def test_json_lines_are_the_events_with_the_qualification_in_words() -> None:
    found = [json.loads(line) for line in lines(as_json=True, all_events=True)]

    assert [item["event"] for item in found] == [
        "input", "exit", "interrupt", "exit", "exit", "note", "end",
    ]  # fmt: skip
    assert found[3]["qualification_text"].startswith("write")
    assert found[3]["qualification"] == 0x182


def test_an_exit_in_full_says_every_number_in_words() -> None:
    text = exit_in_full(VIOLATION)

    for part in (
        "Exit 1 of vcpu 0, after 1,234 instructions",
        "48 EPT_VIOLATION: the extended page tables do not allow the access",
        "0x182: write, gva valid",
        "write = 0x1",
        "mov [rdi], eax  (89 07)",
        "guest linear          0x5000",
        "guest physical        0xfee000b0",
        "IDT vectoring         0x80000020: vector 32, external interrupt",
        "complete: LAPIC write",
        "GUEST_RIP = 0x101002",
        "RFLAGS = 0x2",
    ):
        assert part in text


def test_what_an_exit_does_not_define_is_not_shown() -> None:
    text = exit_in_full(CPUID)

    assert "guest linear" not in text
    assert "interruption" not in text
    assert "action                none recorded" in text


def test_an_exception_shows_its_vector_and_error_code_and_its_own_qualification() -> None:
    text = exit_in_full(PAGE_FAULT)

    assert "vector 14, hardware exception" in text
    assert "error code            0x6" in text
    assert "0x7000: gva 0x7000" in text


def test_a_failed_entry_says_so() -> None:
    failed = Exit(
        seq=0, retired=0, vcpu=0, reason="ENTRY_FAIL_GUEST_STATE", number=33, qualification=4,
        rip=0, entry_failure=True,
    )  # fmt: skip

    assert "a failed VM entry" in exit_in_full(failed)
    assert "link pointer" in exit_in_full(failed)


def test_a_reason_that_no_table_has_is_still_shown() -> None:
    odd = Exit(seq=0, retired=0, vcpu=0, reason="FUTURE", number=200, qualification=5, rip=0)

    assert "200 FUTURE" in exit_in_full(odd)
    assert "FUTURE" in event_line(odd)


def test_one_exit_is_found_by_its_number() -> None:
    out = io.StringIO()
    show_one(EVENTS, 1, out)

    assert out.getvalue() == exit_in_full(VIOLATION) + "\n"


def test_an_exit_that_is_not_there_is_an_error_that_says_which_are() -> None:
    with pytest.raises(TraceError, match="the trace has no exit 7; its last is 2"):
        show_one(EVENTS, 7, io.StringIO())
    with pytest.raises(TraceError, match="the trace has no exit 0; it has none"):
        show_one([], 0, io.StringIO())


def test_probes_are_shown_among_the_exits_but_not_with_a_reason() -> None:
    probe = Probe(retired=77, rip=0x101000, symbol="fork", cr3=0x5000)
    shown, reasoned = io.StringIO(), io.StringIO()
    show_events([CPUID, probe], shown)
    show_events([CPUID, probe], reasoned, reason="CPUID")

    assert shown.getvalue().splitlines() == [event_line(CPUID), event_line(probe)]
    assert reasoned.getvalue().splitlines() == [event_line(CPUID)]
    assert event_line(probe).split() == [
        "77", "probe", "0x0000000000101000", "fork", "cr3", "0x5000",
    ]  # fmt: skip
