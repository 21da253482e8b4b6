"""Rows of the tables that no other test meets: before VM entry, VPIDs, RDSEED, x2APIC MSRs."""

import pytest

from tests.vtx.engines import QUICK_ENGINES
from tests.vtx.vmx.bench import (
    GUEST_CODE,
    HOST_CODE,
    NOP,
    SECONDARY,
    VMCS,
    Bench,
    controls,
)
from vtx.isa.program import Service
from vtx.spec import EXITS
from vtx.vmx.capability import REVISION

VMLAUNCH, VMCALL, RDSEED = b"\x0f\x01\xc2", b"\x0f\x01\xc1", b"\x0f\xc7\xf8"
LOAD_EAX = b"\x8b\x06"  # mov eax, [rsi]
UD, GP = 6, 13
SHADOW_INDICATOR = 1 << 31
LATER = 0x50000
USER, CODE, PRESENT_USER = 3, 0xA09B, 7


def fault_of_vmlaunch(engine: str, **state: int) -> int:
    """Vector of the exception that VMLAUNCH raises in VMX root operation, changed by `state`."""
    bench = Bench(engine)
    for slot, value in state.items():
        bench.state.write(slot, value)
    for level in range(3):
        place = 0x2000 + 0x1000 * level
        bench.cpu.bus.store(place, 64, bench.cpu.bus.load(place, 64) | PRESENT_USER)
    bench.cpu.bus.store(0x5000 + 8 * (HOST_CODE >> 12), 64, HOST_CODE | PRESENT_USER)
    bench.cpu.switch_context()
    bench.cpu.bus.write_bytes(HOST_CODE, VMLAUNCH)
    bench.engine.settle(0)
    # No IDT: the first exception ends in shutdown, and its vector stays to be seen.
    bench.engine.settle = lambda status: None  # type: ignore[method-assign]
    assert bench.engine.run_block(1)
    assert bench.word("vmx") == 1
    return bench.word("fault_vector")


@QUICK_ENGINES
@pytest.mark.covers("check.before.cpl")
def test_vmlaunch_outside_ring_0_is_a_general_protection_fault(engine: str) -> None:
    assert fault_of_vmlaunch(engine, cs_ar=CODE | USER << 5, ss_ar=0xC0F3, cs_sel=0xB) == GP


@QUICK_ENGINES
@pytest.mark.covers("check.before.not-compatibility-mode")
def test_vmlaunch_in_compatibility_mode_is_undefined(engine: str) -> None:
    assert fault_of_vmlaunch(engine, cs_ar=0xC09B) == UD


@QUICK_ENGINES
@pytest.mark.covers("check.before.protected-mode")
def test_vmlaunch_in_virtual_8086_mode_is_undefined(engine: str) -> None:
    changed = {"efer": 0, "cr0": 0x31, "cs_ar": 0xF3, "ss_ar": 0xF3, "rflags": 1 << 17 | 2}
    assert fault_of_vmlaunch(engine, **changed) == UD


@QUICK_ENGINES
@pytest.mark.covers("check.basic.not-shadow-vmcs")
def test_a_shadow_vmcs_cannot_be_entered(engine: str) -> None:
    bench = Bench(engine)
    bench.cpu.bus.store(VMCS, 32, REVISION | SHADOW_INDICATOR)
    assert bench.enter() == 1
    bench.cpu.bus.store(VMCS, 32, REVISION)
    assert bench.enter() == 0


@QUICK_ENGINES
@pytest.mark.covers("check.basic.blocking-by-mov-ss")
def test_vm_entry_fails_while_mov_ss_blocks(engine: str) -> None:
    bench = Bench(engine)
    bench.state.write("interruptibility", 2)
    assert (bench.enter(), bench.error) == (2, 26)
    bench.state.write("interruptibility", 0)
    assert bench.enter() == 0


@QUICK_ENGINES
@pytest.mark.covers("check.msr-load.x2apic")
def test_an_x2apic_register_is_not_loaded_in_x2apic_mode(engine: str) -> None:
    fields = {"VMENTRY_MSR_LOAD_COUNT": 1, "VMENTRY_MSR_LOAD_ADDR": 0x9000}
    bench = Bench(engine, fields=fields)
    bench.cpu.bus.store(0x9000, 64, 0x808)
    bench.state.write("apic_base", 0xFEE0_0D00)
    assert bench.enter() == 0
    assert bench.vmread("EXIT_REASON") == 1 << 31 | EXITS.ENTRY_FAIL_MSR_LOADING
    assert bench.vmread("EXIT_QUALIFICATION") == 1


@QUICK_ENGINES
@pytest.mark.parametrize("vpid", [True, False])
@pytest.mark.covers("control.sec.ENABLE_VPID")
def test_translations_outlive_an_exit_exactly_with_a_vpid(engine: str, vpid: bool) -> None:
    bench = Bench(engine, guest=LOAD_EAX + VMCALL, fields={"VPID": 7})
    if vpid:
        bench.vmwrite("PROCBASED_CONTROLS", controls("proc", SECONDARY))
        bench.vmwrite("SECONDARY_PROCBASED_CONTROLS", controls("sec", "ENABLE_VPID"))
    bench.state.write("rsi", LATER)
    bench.cpu.bus.store(LATER, 32, 0x1111)
    bench.cpu.bus.store(LATER + 0x1000, 32, 0x2222)
    assert bench.run() == EXITS.VMCALL
    assert bench.word("rax") == 0x1111
    bench.cpu.bus.store(0x23000 + 8 * (LATER >> 12), 64, (LATER + 0x1000) | 3)
    bench.vmwrite("GUEST_RIP", GUEST_CODE)
    assert bench.run(0) == EXITS.VMCALL
    assert bench.word("rax") == (0x1111 if vpid else 0x2222)


@QUICK_ENGINES
@pytest.mark.covers("exit.RDSEED", "control.sec.RDSEED_EXITING")
def test_rdseed_exits_by_its_control(engine: str) -> None:
    bench = Bench(engine, profile="max", guest=RDSEED)
    bench.vmwrite("PROCBASED_CONTROLS", controls("proc", SECONDARY))
    bench.vmwrite("SECONDARY_PROCBASED_CONTROLS", 1 << 16)
    assert bench.run() == EXITS.RDSEED
    assert bench.vmread("EXIT_INSTRUCTION_LENGTH") == 3


@QUICK_ENGINES
@pytest.mark.covers("exit.RDSEED", "control.sec.RDSEED_EXITING")
def test_rdseed_does_not_exit_without_it(engine: str) -> None:
    bench = Bench(engine, profile="max", guest=RDSEED + NOP + VMCALL)
    bench.cpu.services[Service.RANDOM] = lambda: 7
    assert bench.run() == EXITS.VMCALL
    assert bench.vmread("GUEST_RIP") == GUEST_CODE + 4


@QUICK_ENGINES
@pytest.mark.parametrize("load", [True, False])
@pytest.mark.covers("control.exit.LOAD_PAT", "control.exit.LOAD_EFER")
def test_an_exit_loads_pat_and_efer_of_the_host_exactly_where_asked(
    engine: str, load: bool
) -> None:
    names = ("LOAD_PAT", "LOAD_EFER") if load else ()
    fields = {
        "VMEXIT_CONTROLS": controls("exit", "HOST_ADDRESS_SPACE_SIZE", *names),
        "HOST_IA32_PAT": 0x0606, "HOST_IA32_EFER": 0xD01,
    }  # fmt: skip
    bench = Bench(engine, guest=VMCALL, fields=fields)
    bench.state.write("pat", 0x0404)
    bench.run()
    assert bench.word("pat") == (0x0606 if load else 0x0404)
    assert bench.word("efer") == (0xD01 if load else 0x500)


@QUICK_ENGINES
@pytest.mark.parametrize("save", [True, False])
@pytest.mark.covers(
    "control.exit.SAVE_PAT", "control.exit.SAVE_EFER", "control.exit.SAVE_DEBUG_CONTROLS",
    "control.exit.SAVE_PREEMPTION_TIMER",
)  # fmt: skip
def test_an_exit_saves_the_guest_s_exactly_where_asked(engine: str, save: bool) -> None:
    names = ("SAVE_DEBUG_CONTROLS", "SAVE_PAT", "SAVE_EFER", "SAVE_PREEMPTION_TIMER")
    fields = {
        "VMEXIT_CONTROLS": controls("exit", "HOST_ADDRESS_SPACE_SIZE", *(names if save else ())),
        "PINBASED_CONTROLS": controls("pin", "PREEMPTION_TIMER"), "PREEMPTION_TIMER_VALUE": 100,
        "GUEST_IA32_PAT": 0, "GUEST_IA32_EFER": 0, "GUEST_DR7": 0x400,
    }  # fmt: skip
    bench = Bench(engine, guest=NOP * 9 + VMCALL, fields=fields)
    bench.state.write("pat", 0x0707)
    bench.state.write("dr7", 0x401)
    bench.run()
    names_saved = ("GUEST_IA32_PAT", "GUEST_IA32_EFER", "GUEST_DR7", "PREEMPTION_TIMER_VALUE")
    found = [bench.vmread(name) for name in names_saved]
    assert found == ([0x0707, 0x500, 0x401, 91] if save else [0, 0, 0x400, 100])
