"""Virtualize x2APIC mode: the task priority, MSR 808H, is the virtual APIC's."""

import pytest

from tests.vtx.engines import EVERY_ENGINE
from tests.vtx.vmx.bench import GUEST_CODE, SECONDARY, Bench, controls
from vtx.isa.program import Service
from vtx.spec import EXITS

RDMSR, WRMSR, VMCALL = b"\x0f\x32", b"\x0f\x30", b"\x0f\x01\xc1"
APIC_PAGE, BITMAP, TPR = 0x9000, 0xA000, 0x808
GP, VALID, HARDWARE, HAS_ERROR = 13, 1 << 31, 3 << 8, 1 << 11


def make(engine: str, guest: bytes, threshold: int = 0, value: int = 0, index: int = TPR) -> Bench:
    fields = {
        "PROCBASED_CONTROLS": controls("proc", SECONDARY, "USE_TPR_SHADOW", "USE_MSR_BITMAPS"),
        "SECONDARY_PROCBASED_CONTROLS": controls("sec", "VIRTUALIZE_X2APIC_MODE"),
        "VIRTUAL_APIC_ADDR": APIC_PAGE, "MSR_BITMAP": BITMAP, "TPR_THRESHOLD": threshold,
        "EXCEPTION_BITMAP": 1 << GP,
    }  # fmt: skip
    bench = Bench(engine, guest=guest, fields=fields)
    bench.cpu.bus.store(APIC_PAGE + 0x80, 64, 0x1234_5678_0000_00A5)
    for register, word in (("rcx", index), ("rax", value & 0xFFFF_FFFF), ("rdx", value >> 32)):
        bench.state.write(register, word)
    return bench


@EVERY_ENGINE
@pytest.mark.covers("control.sec.VIRTUALIZE_X2APIC_MODE")
def test_rdmsr_reads_eight_bytes_of_the_virtual_apic_page(engine: str) -> None:
    bench = make(engine, RDMSR + VMCALL)
    assert bench.run() == EXITS.VMCALL
    assert (bench.word("rdx"), bench.word("rax")) == (0x1234_5678, 0xA5)


@EVERY_ENGINE
def test_wrmsr_writes_the_virtual_task_priority(engine: str) -> None:
    bench = make(engine, WRMSR + VMCALL, threshold=4, value=0x45)
    assert bench.run() == EXITS.VMCALL
    assert bench.cpu.bus.load(APIC_PAGE + 0x80, 64) == 0x45


@EVERY_ENGINE
def test_a_priority_below_the_threshold_exits_behind_the_instruction(engine: str) -> None:
    bench = make(engine, WRMSR + VMCALL, threshold=5, value=0x4F)
    assert bench.run() == EXITS.TPR_BELOW_THRESHOLD
    assert bench.vmread("GUEST_RIP") == GUEST_CODE + 2
    assert bench.cpu.bus.load(APIC_PAGE + 0x80, 64) == 0x4F


@EVERY_ENGINE
@pytest.mark.parametrize("value", [0x100, 1 << 31, 1 << 32])
def test_reserved_bits_are_a_general_protection_fault(engine: str, value: int) -> None:
    bench = make(engine, WRMSR + VMCALL, value=value)
    assert bench.run() == EXITS.EXCEPTION_OR_NMI
    assert bench.vmread("EXIT_INTERRUPTION_INFO") == VALID | HARDWARE | HAS_ERROR | GP
    assert bench.cpu.bus.load(APIC_PAGE + 0x80, 8) == 0xA5


@EVERY_ENGINE
def test_the_msr_bitmap_goes_first(engine: str) -> None:
    for code, half, reason in ((RDMSR, 0, EXITS.RDMSR), (WRMSR, 0x800, EXITS.WRMSR)):
        bench = make(engine, code + VMCALL, value=0x1000)
        bench.cpu.bus.store(BITMAP + half + TPR // 8, 8, 1 << TPR % 8)
        assert bench.run() == reason


@EVERY_ENGINE
@pytest.mark.covers("control.sec.VIRTUALIZE_X2APIC_MODE")
def test_without_the_control_it_is_the_apic_itself(engine: str) -> None:
    bench = make(engine, RDMSR + VMCALL)
    bench.vmwrite("SECONDARY_PROCBASED_CONTROLS", 0)
    assert bench.vmread("VIRTUAL_APIC_ADDR") == APIC_PAGE
    bench.cpu.services[Service.APIC_READ] = lambda index: (1, 0x77)
    assert bench.run() == EXITS.VMCALL
    assert bench.word("rax") == 0x77
