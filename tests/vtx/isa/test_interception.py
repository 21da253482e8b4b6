"""Exceptions and NMIs in VMX non-root operation, and that every program is legal."""

import itertools

import pytest
from iced_x86 import Decoder

from vtx.isa.features import mnemonic_of
from vtx.isa.instruction import SEMANTICS, translate
from vtx.isa.key import Key
from vtx.isa.program import routine, routine_names, verify
from vtx.machine.cpu import EXIT

DB, BP, UD, DF, GP, PF = 1, 3, 6, 8, 13, 14
CODE, IDT = 0x10000, 0x2000
VALID, HARDWARE, PRIVILEGED, SOFTWARE, HAS_ERROR = 1 << 31, 3 << 8, 5 << 8, 6 << 8, 1 << 11


@pytest.fixture
def guest(long):
    long["vmx"] = 2
    return long


def exit_of(bench, source: str) -> tuple[int, int] | None:
    """Reason and interruption information of the VM exit an instruction ends in, or None."""
    return (bench["exit_reason"], bench["exit_intr_info"]) if bench.exits(source) else None


def test_exceptions_exit_by_the_bitmap(guest):
    assert exit_of(guest, "ud2") is None
    guest["exception_bitmap"] = 1 << UD
    assert exit_of(guest, "ud2") == (0, VALID | HARDWARE | UD)
    assert (guest["exit_length"], guest["event_valid"]) == (0, 0)


def test_an_intercepted_exception_changes_nothing(guest):
    guest["exception_bitmap"], guest["cr2"] = 1 << PF, 0x77
    before = guest["rsp"], guest["rflags"], guest["retired"]
    assert exit_of(guest, "mov eax, [0x400123]") == (0, VALID | HARDWARE | HAS_ERROR | PF)
    assert (guest["exit_qualification"], guest["exit_intr_error"]) == (0x400123, 0)
    assert (guest["cr2"], guest["rip"]) == (0x77, CODE)
    assert (guest["rsp"], guest["rflags"], guest["retired"]) == before


@pytest.mark.parametrize(
    ("bitmap", "mask", "match", "exits"),
    [(1, 2, 2, True), (1, 2, 0, False), (0, 2, 2, False), (0, 2, 0, True), (1, 0, 0, True),
     (0, 0, 1, True)],
)  # fmt: skip
def test_page_faults_exit_when_the_match_equals_the_bit(guest, bitmap, mask, match, exits):
    guest["exception_bitmap"], guest["pf_mask"], guest["pf_match"] = bitmap << PF, mask, match
    assert (exit_of(guest, "mov [0x400000], eax") is not None) == exits


def test_software_exceptions_report_their_type_and_length(guest):
    guest["exception_bitmap"] = 1 << BP | 1 << DB
    assert exit_of(guest, "int3") == (0, VALID | SOFTWARE | BP)
    assert guest["exit_length"] == 1
    assert exit_of(guest, "int1") == (0, VALID | PRIVILEGED | DB)
    assert exit_of(guest, ".byte 0xcd, 3") is None  # INT n is never intercepted


def test_general_detect_is_reported_in_the_qualification(guest):
    guest["exception_bitmap"], guest["dr7"], guest["dr6"] = 1 << DB, 0x2400, 0xFFFF0FF0
    assert exit_of(guest, "mov rax, dr0") == (0, VALID | HARDWARE | DB)
    assert guest["exit_qualification"] == 1 << 13
    assert (guest["dr7"], guest["dr6"]) == (0x2400, 0xFFFF0FF0)


def test_a_fault_during_delivery_exits_with_the_event_still_valid(guest):
    guest.write(IDT + 16 * UD + 5, 0x0E, 1)
    guest["exception_bitmap"] = 1 << 11
    assert exit_of(guest, "ud2") == (0, VALID | HARDWARE | HAS_ERROR | 11)
    assert (guest["event_valid"], guest["event_vector"]) == (1, UD)


def test_a_double_fault_exit_is_not_during_delivery(guest):
    guest.write(IDT + 16 * GP + 5, 0x0E, 1)
    guest["exception_bitmap"] = 1 << DF
    guest["rax"] = 0x1230
    assert exit_of(guest, "mov ds, eax") == (0, VALID | HARDWARE | HAS_ERROR | DF)
    assert guest["event_valid"] == 0


def test_a_triple_fault_in_a_guest_is_an_exit(guest):
    guest["idtr_limit"] = 0
    assert exit_of(guest, "ud2") == (2, 0)
    assert guest["activity"] == 0


def test_nmis_exit_when_the_pin_control_asks(guest):
    guest["pin_controls"] = 1 << 3
    assert guest.engine.call("deliver_nmi") is None
    assert guest.cpu.status == EXIT
    assert (guest["exit_reason"], guest["exit_intr_info"]) == (0, VALID | 2 << 8 | 2)


def test_a_delivered_nmi_blocks_further_ones(long):
    long.engine.call("deliver_nmi")
    assert (long.vector, long["interruptibility"]) == (2, 8)


def test_an_interrupted_iret_tells_that_nmis_were_unblocked(guest):
    guest["interruptibility"], guest["exception_bitmap"] = 8, 1 << GP
    guest.write(guest["rsp"], 0x6000)
    guest.write(guest["rsp"] + 8, 0)
    assert exit_of(guest, "iretq") == (0, VALID | 1 << 12 | HARDWARE | HAS_ERROR | GP)


# --- every program is legal ------------------------------------------------------------------

_KEYS = [
    Key(bits, bits if bits == 64 else 32, cpl, protected, False, bits == 64, vmx, 0, False, False)
    for bits, cpl, vmx, protected in itertools.product((16, 32, 64), (0, 3), (0, 2), (True, False))
    if protected or (bits == 16 and cpl == 0)
] + [Key(16, 16, 3, True, True, False, 0, 0, False, False)]
_OPCODES = [
    "0f00 c0", "0f00 c8", "0f00 10", "0f00 18", "0f00 20", "0f00 28", "0f01 00", "0f01 08",
    "0f01 10", "0f01 18", "0f01 20", "0f01 e0", "0f01 30", "0f01 f0", "0f01 38", "0f01 f8",
    "0f01 f9", "0f01 c8", "0f01 c9", "0f01 ca", "0f01 cb", "0f01 d0", "0f01 d1", "0f02 c1",
    "0f03 01", "0f05", "0f06", "0f07", "480f07", "0f08", "0f09", "0f0b", "0f20 c0", "0f20 d8",
    "0f20 e0", "440f20 c0", "0f22 c0", "0f22 d0", "0f22 d8", "0f22 e0", "440f22 c0", "0f21 f8",
    "0f23 f0", "0f23 c0", "0f30", "0f31", "0f32", "0f33", "0f34", "0f35", "480f35", "0fa0",
    "0fa1", "0fa2", "0faa", "0fb2 00", "0fb4 00", "0fc7 f0", "0fc7 f8", "660f3882 00", "07", "17",
    "1e", "62 00", "63 c8", "6c", "66f36d", "f36e", "6f", "8c d8", "8c 18", "8e d8", "8e 10",
    "8e c8", "9a 00000000 0800", "c4 00", "c5 00", "ca 0800", "cb", "48cb", "66cb", "cc", "cd 80",
    "ce", "cf", "66cf", "48cf", "e4 60", "e5 60", "e6 60", "ea 00000000 0800", "ec", "66ed", "ee",
    "ef", "f1", "f390", "f30fae c0", "f3480fae d8", "f4", "fa", "fb", "ff 18", "ff 28", "48ff 28",
]  # fmt: skip


@pytest.mark.parametrize("code", _OPCODES)
def test_programs_are_legal_in_every_mode(code):
    from vtx.engine.families import load_all

    load_all()
    for key in _KEYS:
        decoded = Decoder(key.bits, bytes.fromhex(code) + bytes(8)).decode()
        mnemonic = mnemonic_of(decoded)
        if not decoded.is_invalid and mnemonic in SEMANTICS:
            verify(translate(decoded, key, mnemonic))


def test_every_routine_is_legal():
    for name in routine_names():
        verify(routine(name))
