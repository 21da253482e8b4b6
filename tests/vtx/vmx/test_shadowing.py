"""VMCS shadowing: a guest's VMREAD and VMWRITE without an exit."""

import pytest

from tests.vtx.engines import EVERY_ENGINE
from tests.vtx.vmx.bench import GUEST_CODE, SECONDARY, VMCS, Bench, controls
from vtx.spec import EXITS, MSRS, field, profile
from vtx.vmx.capability import REVISION, capability_msrs
from vtx.vmx.vmcs import OFFSETS, SHADOW_INDICATOR

VMREAD, VMWRITE, VMCALL = b"\x0f\x78\xd0", b"\x0f\x79\xd0", b"\x0f\x01\xc1"
"""vmread rax, rdx; vmwrite rdx, rax; the exit."""
SHADOW, READS, WRITES = 0x9000, 0xA000, 0xB000
CF, ZF = 1, 1 << 6
RSP = field("GUEST_RSP").encoding


def make(engine: str, guest: bytes, encoding: int = RSP, link: int = SHADOW) -> Bench:
    fields = {
        "PROCBASED_CONTROLS": controls("proc", SECONDARY),
        "SECONDARY_PROCBASED_CONTROLS": controls("sec", "VMCS_SHADOWING"),
        "VMREAD_BITMAP_ADDR": READS, "VMWRITE_BITMAP_ADDR": WRITES, "VMCS_LINK_POINTER": link,
    }  # fmt: skip
    bench = Bench(engine, guest=guest, fields=fields)
    bench.cpu.bus.store(SHADOW, 32, REVISION | SHADOW_INDICATOR)
    bench.cpu.bus.store(SHADOW + OFFSETS["GUEST_RSP"], 64, 0x1122_3344_5566_7788)
    bench.state.write("rdx", encoding)
    bench.state.write("rax", 0x99)
    return bench


def shadow(bench: Bench, name: str) -> int:
    return bench.cpu.bus.load(SHADOW + OFFSETS[name], 64)


def intercept(bench: Bench, bitmap: int, encoding: int) -> None:
    bench.cpu.bus.store(bitmap + encoding // 8, 8, 1 << encoding % 8)


@EVERY_ENGINE
@pytest.mark.covers("control.sec.VMCS_SHADOWING")
def test_a_guest_reads_and_writes_the_shadow_vmcs(engine: str) -> None:
    bench = make(engine, VMREAD + VMCALL)
    assert bench.run() == EXITS.VMCALL
    assert bench.word("rax") == 0x1122_3344_5566_7788
    bench = make(engine, VMWRITE + VMCALL)
    assert bench.run() == EXITS.VMCALL
    assert shadow(bench, "GUEST_RSP") == 0x99
    assert bench.vmread("GUEST_RSP") != 0x99, "not the current VMCS"


@EVERY_ENGINE
def test_each_bitmap_makes_its_own_instruction_exit(engine: str) -> None:
    for code, bitmap, other, reason in (
        (VMREAD, READS, WRITES, EXITS.VMREAD), (VMWRITE, WRITES, READS, EXITS.VMWRITE),
    ):  # fmt: skip
        bench = make(engine, code + VMCALL)
        intercept(bench, bitmap, RSP)
        assert bench.run() == reason
        assert bench.vmread("EXIT_INSTRUCTION_INFO") == 1 << 10 | 2 << 28
        assert bench.vmread("EXIT_INSTRUCTION_LENGTH") == 3
        bench = make(engine, code + VMCALL)
        intercept(bench, other, RSP)
        assert bench.run() == EXITS.VMCALL


@EVERY_ENGINE
@pytest.mark.parametrize("encoding", [RSP | 1 << 15, RSP | 1 << 32, RSP | 1 << 63])
def test_an_encoding_with_bits_above_14_exits(engine: str, encoding: int) -> None:
    assert make(engine, VMREAD, encoding).run() == EXITS.VMREAD
    assert make(engine, VMWRITE, encoding).run() == EXITS.VMWRITE


@EVERY_ENGINE
def test_without_a_link_pointer_they_fail_invalid(engine: str) -> None:
    for code in (VMREAD, VMWRITE):
        bench = make(engine, code + VMCALL, link=(1 << 64) - 1)
        assert bench.run() == EXITS.VMCALL
        assert bench.vmread("GUEST_RFLAGS") & (CF | ZF) == CF


@EVERY_ENGINE
def test_an_unknown_field_fails_with_the_error_in_the_shadow_vmcs(engine: str) -> None:
    for code in (VMREAD, VMWRITE):
        bench = make(engine, code + VMCALL, 0x7FFE)
        assert bench.run() == EXITS.VMCALL
        assert bench.vmread("GUEST_RFLAGS") & (CF | ZF) == ZF
        assert shadow(bench, "VM_INSTRUCTION_ERROR") == 12
        assert bench.word("rax") == 0x99


@EVERY_ENGINE
def test_fields_of_exit_information_can_be_written(engine: str) -> None:
    bench = make(engine, VMWRITE + VMCALL, field("EXIT_REASON").encoding)
    assert bench.run() == EXITS.VMCALL
    assert shadow(bench, "EXIT_REASON") == 0x99
    assert capability_msrs(profile("haswell"))[MSRS.IA32_VMX_MISC] >> 29 & 1


@EVERY_ENGINE
@pytest.mark.covers("control.sec.VMCS_SHADOWING")
def test_without_the_control_both_exit(engine: str) -> None:
    for code, reason in ((VMREAD, EXITS.VMREAD), (VMWRITE, EXITS.VMWRITE)):
        bench = make(engine, code, link=(1 << 64) - 1)
        bench.vmwrite("SECONDARY_PROCBASED_CONTROLS", 0)
        assert bench.run() == reason
        assert bench.vmread("GUEST_RIP") == GUEST_CODE


@EVERY_ENGINE
def test_the_link_pointer_has_to_name_a_shadow_vmcs(engine: str) -> None:
    for header, qualification in ((REVISION, 4), (REVISION + 1 | SHADOW_INDICATOR, 4)):
        bench = make(engine, VMREAD)
        bench.cpu.bus.store(SHADOW, 32, header)
        assert bench.enter() == 0
        assert bench.vmread("EXIT_REASON") == 1 << 31 | 33
        assert bench.vmread("EXIT_QUALIFICATION") == qualification


@EVERY_ENGINE
def test_a_shadow_vmcs_can_be_current_but_not_entered(engine: str) -> None:
    bench = make(engine, VMREAD)
    assert bench.call("vmx_vmptrld", SHADOW) == (0,)
    assert bench.vmread("GUEST_RSP") == 0x1122_3344_5566_7788
    assert bench.enter() == 1, "VMfailInvalid"
    assert bench.enter(0) == 1
    assert bench.call("vmx_vmptrld", VMCS) == (0,)
    bench.cpu.bus.store(0x9000, 32, REVISION + 1 | SHADOW_INDICATOR)
    assert bench.call("vmx_vmptrld", SHADOW) == (2,)
    assert bench.error == 11


@EVERY_ENGINE
def test_a_vmxon_region_has_no_shadow_indicator(engine: str) -> None:
    bench = Bench(engine, start=False)
    bench.cpu.bus.store(0x6000, 32, REVISION | SHADOW_INDICATOR)
    assert bench.call("vmx_vmxon", 0x6000) == (1,)
