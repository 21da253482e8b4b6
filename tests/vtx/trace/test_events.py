"""Events as values."""

from __future__ import annotations

import msgspec
import pytest

from vtx.spec import EXITS, exit_reason
from vtx.trace.events import (
    KINDS,
    Exit,
    Header,
    Input,
    Interrupt,
    Note,
    decode_exit_qualification,
    kind,
    sha256,
    when,
)


def some_exit(**fields: object) -> Exit:
    given = {"seq": 0, "retired": 1, "vcpu": 0, "reason": "CPUID", "number": 10}
    return Exit(**{**given, "qualification": 0, "rip": 0, **fields})  # type: ignore[arg-type]


def test_kinds_have_the_names_that_files_use() -> None:
    assert [struct.__struct_config__.tag for struct in KINDS] == [
        "exit",
        "input",
        "interrupt",
        "note",
        "end",
        "probe",
        "startup",
    ]
    assert kind(Note(retired=1, text="x")) == "note"


def test_an_input_stands_at_its_clock_tick_and_the_rest_at_retired_instructions() -> None:
    assert when(Input(now=9, data=b"")) == 9
    assert when(Interrupt(retired=7, vector=32)) == 7


def test_events_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        some_exit().retired = 2  # type: ignore[misc]


def test_a_header_names_no_engine_and_no_time() -> None:
    names = set(Header.__struct_fields__)

    assert not names & {"engine", "time", "date", "host"}


def test_the_vector_is_that_of_valid_interruption_information() -> None:
    assert some_exit(intr_info=0x80000B0E).vector == 14
    assert some_exit(intr_info=0x0000000E).vector is None
    assert some_exit().vector is None


def test_a_qualification_is_taken_apart_by_the_table_of_its_reason() -> None:
    decoded = decode_exit_qualification(EXITS.EPT_VIOLATION, 0x181)

    assert decoded["read"] == 1
    assert decoded["write"] == 0
    assert decode_exit_qualification(EXITS.CPUID, 0) == {}


def test_a_page_fault_qualification_is_an_address() -> None:
    assert decode_exit_qualification(0, 0x1234, 0x80000B0E) == {"gva": 0x1234}


def test_every_reason_of_the_architecture_makes_an_event() -> None:
    for number in range(76):
        try:
            row = exit_reason(number)
        except LookupError:
            continue
        event = some_exit(
            reason=row.name,
            number=number,
            decoded=decode_exit_qualification(number, ~0 & 2**64 - 1),
        )
        assert msgspec.json.decode(msgspec.json.encode(event), type=Exit) == event


def test_hashes_are_sha256_in_hex() -> None:
    assert sha256(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
