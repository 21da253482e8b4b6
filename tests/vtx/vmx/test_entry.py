"""VM entry: state loaded, events injected, timers started."""

import pytest

from tests.vtx.engines import EVERY_ENGINE
from tests.vtx.vmx.bench import (
    GUEST_CODE,
    GUEST_HANDLER,
    GUEST_IDT,
    GUEST_STACK,
    HOST_CODE,
    NOP,
    VMCS,
    Bench,
    controls,
)
from vtx.spec import EXITS

VMCALL, VMLAUNCH = b"\x0f\x01\xc1", b"\x0f\x01\xc2"
VALID, ERROR = 1 << 31, 1 << 11
ENTRY_FAILED = 1 << 31
MSR_AREA = 0x9000
TIMER = controls("pin", "PREEMPTION_TIMER")


@EVERY_ENGINE
def test_guest_state_is_what_the_vmcs_says(engine: str) -> None:
    fields = {
        "GUEST_FS_BASE": 0x1111, "GUEST_GS_BASE": 0x2222, "GUEST_IA32_SYSENTER_EIP": 0x3333,
        "GUEST_RFLAGS": 0x8C7, "GUEST_IA32_PAT": 0x0606, "GUEST_DR7": 0x455,
        "VMENTRY_CONTROLS": controls("entry", "IA32E_MODE_GUEST", "LOAD_PAT",
                                     "LOAD_DEBUG_CONTROLS"),
    }  # fmt: skip
    bench = Bench(engine, fields=fields)
    assert bench.enter() == 0
    assert bench.state.rflags == 0x8C7
    expected = {
        "fs_base": 0x1111, "gs_base": 0x2222, "sysenter_eip": 0x3333, "pat": 0x0606,
        "dr7": 0x455, "rip": GUEST_CODE, "efer": 0x500,
    }  # fmt: skip
    assert {slot: bench.word(slot) for slot in expected} == expected
    assert bench.cpu.bus.load(VMCS + 8, 64) == 1


@EVERY_ENGINE
def test_a_vmcs_edited_by_plain_stores_takes_effect(engine: str) -> None:
    from vtx.vmx.vmcs import OFFSETS

    bench = Bench(engine, guest=NOP + VMCALL)
    bench.cpu.bus.store(VMCS + OFFSETS["GUEST_RIP"], 64, GUEST_CODE + 1)
    assert bench.run() == EXITS.VMCALL
    assert bench.vmread("GUEST_RIP") == GUEST_CODE + 1


# --- modes -----------------------------------------------------------------------------------

GUEST_32 = {
    "VMENTRY_CONTROLS": controls("entry"), "GUEST_CS_ACCESS_RIGHTS": 0xC09B,
    "GUEST_CR4": 0x2000,
}  # fmt: skip


def _real_mode() -> dict[str, int]:
    fields = {"GUEST_RIP": 0, "GUEST_CR0": 0x30}
    for name in ("CS", "SS", "DS", "ES", "FS", "GS"):
        fields[f"GUEST_{name}_SELECTOR"] = GUEST_CODE >> 4
        fields[f"GUEST_{name}_BASE"] = GUEST_CODE
        fields[f"GUEST_{name}_LIMIT"] = 0xFFFF
        fields[f"GUEST_{name}_ACCESS_RIGHTS"] = 0x9B if name == "CS" else 0x93
    return fields


@EVERY_ENGINE
def test_a_pae_guest_takes_its_pdptes_from_the_vmcs_under_ept(engine: str) -> None:
    fields = {**GUEST_32, "GUEST_CR4": 0x2020, "GUEST_CR3": 0}
    bench = Bench(engine, guest=VMCALL, fields=fields)
    bench.use_ept()
    bench.vmwrite("GUEST_PDPTE0", 0x2_2001)
    assert bench.run() == EXITS.VMCALL
    assert bench.vmread("GUEST_PDPTE0") == 0x2_2001


@EVERY_ENGINE
def test_a_pae_guest_takes_its_pdptes_from_memory_without_ept(engine: str) -> None:
    fields = {**GUEST_32, "GUEST_CR4": 0x2020, "GUEST_CR3": MSR_AREA}
    bench = Bench(engine, guest=VMCALL, fields=fields)
    bench.cpu.bus.store(MSR_AREA, 64, 0x2_2001)
    assert bench.run() == EXITS.VMCALL


@EVERY_ENGINE
@pytest.mark.parametrize("mode", ["unpaged", "real"])
def test_an_unrestricted_guest_runs_without_paging_and_without_protection(
    engine: str, mode: str
) -> None:
    change = {"GUEST_CR0": 0x31} if mode == "unpaged" else _real_mode()
    bench = Bench(engine, guest=VMCALL, fields={**GUEST_32, **change})
    bench.use_ept("UNRESTRICTED_GUEST")
    assert bench.run() == EXITS.VMCALL
    assert bench.vmread("GUEST_CR0") == change["GUEST_CR0"]
    assert bench.word("cr0") == 0x8001_0031


@EVERY_ENGINE
@pytest.mark.covers("control.exit.HOST_ADDRESS_SPACE_SIZE")
def test_a_32_bit_host_gets_a_32_bit_code_segment_back(engine: str) -> None:
    fields = {**GUEST_32, "VMEXIT_CONTROLS": controls("exit"), "HOST_CR4": 0x2000}
    bench = Bench(engine, guest=VMCALL, fields=fields | {"GUEST_CR0": 0x31})
    bench.use_ept("UNRESTRICTED_GUEST")
    bench.state.write("efer", 0)
    assert bench.run() == EXITS.VMCALL
    assert (bench.word("cs_ar"), bench.word("efer")) == (0xC09B, 0)


# --- event injection -------------------------------------------------------------------------


@EVERY_ENGINE
@pytest.mark.parametrize(
    ("info", "error", "length", "frame"),
    [
        (3 << 8 | 6, 0, 0, [GUEST_CODE]),
        (ERROR | 3 << 8 | 13, 0x1234, 0, [0x1234, GUEST_CODE]),
        (4 << 8 | 0x41, 0, 2, [GUEST_CODE + 2]),
        (6 << 8 | 3, 0, 1, [GUEST_CODE + 1]),
        (0 << 8 | 0x30, 0, 0, [GUEST_CODE]),
    ],
    ids=["exception", "with-error-code", "int-n", "int3", "interrupt"],
)
def test_an_injected_event_reaches_its_handler(
    engine: str, info: int, error: int, length: int, frame: list[int]
) -> None:
    fields = {
        "VMENTRY_INTERRUPTION_INFO": VALID | info, "VMENTRY_EXCEPTION_ERROR_CODE": error,
        "VMENTRY_INSTRUCTION_LENGTH": length, "GUEST_RFLAGS": 0x202,
        "GUEST_IDTR_LIMIT": 0xFFF,
    }  # fmt: skip
    bench = Bench(engine, guest=NOP * 8, fields=fields)
    bench.use_idt(info & 0xFF, VMCALL)
    assert bench.run() == EXITS.VMCALL
    assert bench.vmread("GUEST_RIP") == GUEST_HANDLER
    rsp = bench.vmread("GUEST_RSP")
    assert rsp == GUEST_STACK - 32 - 8 * len(frame)
    assert [bench.cpu.bus.load(rsp + 8 * n, 64) for n in range(len(frame))] == frame
    assert bench.vmread("IDT_VECTORING_INFO") == 0
    assert bench.vmread("VMENTRY_INTERRUPTION_INFO") == info
    assert bench.vmread("GUEST_RFLAGS") & 0x200 == 0


@EVERY_ENGINE
def test_an_injected_nmi_blocks_further_ones(engine: str) -> None:
    bench = Bench(engine, fields={"VMENTRY_INTERRUPTION_INFO": VALID | 2 << 8 | 2})
    bench.use_idt(2, VMCALL)
    assert bench.run() == EXITS.VMCALL
    assert bench.vmread("GUEST_INTERRUPTIBILITY_STATE") == 8


@EVERY_ENGINE
def test_an_injected_event_is_told_when_its_delivery_exits(engine: str) -> None:
    info = VALID | ERROR | 3 << 8 | 13
    fields = {"VMENTRY_INTERRUPTION_INFO": info, "VMENTRY_EXCEPTION_ERROR_CODE": 0x18}
    bench = Bench(engine, fields=fields)
    bench.use_ept()
    bench.cpu.bus.store(0x33000 + 8 * (GUEST_IDT >> 12), 64, 0)
    assert bench.run() == EXITS.EPT_VIOLATION
    assert bench.vmread("GUEST_PHYSICAL_ADDRESS") & ~0xFFF == GUEST_IDT
    assert bench.vmread("IDT_VECTORING_INFO") == info
    assert bench.vmread("IDT_VECTORING_ERROR_CODE") == 0x18
    assert bench.vmread("GUEST_RIP") == GUEST_CODE
    assert bench.vmread("GUEST_RSP") == GUEST_STACK
    bench.cpu.bus.store(0x33000 + 8 * (GUEST_IDT >> 12), 64, GUEST_IDT | 0x37)
    bench.call("vmx_invept", 2, 0, 0)
    bench.use_idt(13, VMCALL)
    bench.vmwrite("VMENTRY_INTERRUPTION_INFO", info)
    assert bench.run(0) == EXITS.VMCALL
    assert bench.vmread("IDT_VECTORING_INFO") == 0


@EVERY_ENGINE
def test_a_software_event_keeps_its_length_when_its_delivery_exits(engine: str) -> None:
    info = VALID | 4 << 8 | 0x41
    bench = Bench(
        engine, fields={"VMENTRY_INTERRUPTION_INFO": info, "VMENTRY_INSTRUCTION_LENGTH": 2}
    )
    bench.use_ept()
    bench.cpu.bus.store(0x33000 + 8 * (GUEST_IDT >> 12), 64, 0)
    assert bench.run() == EXITS.EPT_VIOLATION
    assert bench.vmread("IDT_VECTORING_INFO") == info
    assert bench.vmread("EXIT_INSTRUCTION_LENGTH") == 2


@EVERY_ENGINE
def test_injecting_other_event_0_is_a_monitor_trap_exit_before_any_instruction(
    engine: str,
) -> None:
    bench = Bench(engine, guest=NOP, fields={"VMENTRY_INTERRUPTION_INFO": VALID | 7 << 8})
    assert bench.run() == EXITS.MONITOR_TRAP_FLAG
    assert bench.vmread("GUEST_RIP") == GUEST_CODE


# --- VMX-preemption timer --------------------------------------------------------------------


@EVERY_ENGINE
@pytest.mark.parametrize("value", [0, 1, 2, 7, 33])
def test_the_preemption_timer_lets_exactly_its_value_of_instructions_retire(
    engine: str, value: int
) -> None:
    fields = {"PINBASED_CONTROLS": TIMER, "PREEMPTION_TIMER_VALUE": value}
    bench = Bench(engine, guest=NOP * 64, fields=fields)
    before = bench.word("retired")
    assert bench.run() == EXITS.PREEMPTION_TIMER
    assert bench.vmread("GUEST_RIP") == GUEST_CODE + value
    assert bench.word("retired") == before + value


@EVERY_ENGINE
def test_the_preemption_timer_counts_the_same_behind_a_vmlaunch_instruction(engine: str) -> None:
    fields = {"PINBASED_CONTROLS": TIMER, "PREEMPTION_TIMER_VALUE": 5}
    bench = Bench(engine, guest=NOP * 64, fields=fields)
    bench.host(VMLAUNCH, 1)
    bench.runner.run(10_000)
    assert bench.vmread("EXIT_REASON") == EXITS.PREEMPTION_TIMER
    assert bench.vmread("GUEST_RIP") == GUEST_CODE + 5


@EVERY_ENGINE
def test_the_preemption_timer_is_saved_where_asked(engine: str) -> None:
    fields = {
        "PINBASED_CONTROLS": TIMER, "PREEMPTION_TIMER_VALUE": 100,
        "VMEXIT_CONTROLS": controls("exit", "HOST_ADDRESS_SPACE_SIZE", "SAVE_PREEMPTION_TIMER"),
    }  # fmt: skip
    bench = Bench(engine, guest=NOP * 9 + VMCALL, fields=fields)
    assert bench.run() == EXITS.VMCALL
    assert bench.vmread("PREEMPTION_TIMER_VALUE") == 91


@EVERY_ENGINE
def test_the_timer_waits_for_the_injected_event(engine: str) -> None:
    fields = {
        "PINBASED_CONTROLS": TIMER, "PREEMPTION_TIMER_VALUE": 0,
        "VMENTRY_INTERRUPTION_INFO": VALID | 3 << 8 | 6,
    }  # fmt: skip
    bench = Bench(engine, fields=fields)
    bench.use_idt(6, VMCALL)
    assert bench.run() == EXITS.PREEMPTION_TIMER
    assert bench.vmread("GUEST_RIP") == GUEST_HANDLER


# --- windows and trap flag -------------------------------------------------------------------


@EVERY_ENGINE
@pytest.mark.parametrize(("flags", "blocking", "where"), [(0x202, 0, 0), (0x202, 1, 1)])
def test_the_interrupt_window_opens_with_if_and_without_blocking(
    engine: str, flags: int, blocking: int, where: int
) -> None:
    fields = {
        "PROCBASED_CONTROLS": controls("proc", "INTERRUPT_WINDOW_EXITING"),
        "GUEST_RFLAGS": flags, "GUEST_INTERRUPTIBILITY_STATE": blocking,
    }  # fmt: skip
    bench = Bench(engine, guest=NOP * 4 + VMCALL, fields=fields)
    assert bench.run() == EXITS.INTERRUPT_WINDOW
    assert bench.vmread("GUEST_RIP") == GUEST_CODE + where


@EVERY_ENGINE
def test_blocking_by_sti_outlives_a_vmlaunch_that_is_run_alone(engine: str) -> None:
    fields = {
        "PROCBASED_CONTROLS": controls("proc", "INTERRUPT_WINDOW_EXITING"),
        "GUEST_RFLAGS": 0x202, "GUEST_INTERRUPTIBILITY_STATE": 1,
    }  # fmt: skip
    bench = Bench(engine, guest=NOP * 4, fields=fields)
    bench.state.write("dr7", 0x401)
    bench.host(VMLAUNCH, 1)
    bench.runner.run(10_000)
    assert bench.vmread("EXIT_REASON") == EXITS.INTERRUPT_WINDOW
    assert bench.vmread("GUEST_RIP") == GUEST_CODE + 1


@EVERY_ENGINE
def test_the_interrupt_window_stays_shut_without_if(engine: str) -> None:
    fields = {"PROCBASED_CONTROLS": controls("proc", "INTERRUPT_WINDOW_EXITING")}
    bench = Bench(engine, guest=NOP * 4 + VMCALL, fields=fields)
    assert bench.run() == EXITS.VMCALL


@EVERY_ENGINE
@pytest.mark.parametrize(("blocking", "reason"), [(0, 8), (8, 18)])
def test_the_nmi_window_is_open_unless_nmis_are_blocked(
    engine: str, blocking: int, reason: int
) -> None:
    fields = {
        "PINBASED_CONTROLS": controls("pin", "NMI_EXITING", "VIRTUAL_NMIS"),
        "PROCBASED_CONTROLS": controls("proc", "NMI_WINDOW_EXITING"),
        "GUEST_INTERRUPTIBILITY_STATE": blocking,
    }
    assert Bench(engine, guest=NOP + VMCALL, fields=fields).run() == reason


@EVERY_ENGINE
def test_the_monitor_trap_flag_exits_behind_each_instruction(engine: str) -> None:
    fields = {"PROCBASED_CONTROLS": controls("proc", "MONITOR_TRAP_FLAG")}
    bench = Bench(engine, guest=NOP * 4, fields=fields)
    for launch, count in ((1, 1), (0, 2), (0, 3)):
        assert bench.run(launch) == EXITS.MONITOR_TRAP_FLAG
        assert bench.vmread("GUEST_RIP") == GUEST_CODE + count


# --- MSR areas -------------------------------------------------------------------------------


def _area(bench: Bench, *entries: tuple[int, int]) -> None:
    for n, (index, value) in enumerate(entries):
        bench.cpu.bus.store(MSR_AREA + 16 * n, 64, index)
        bench.cpu.bus.store(MSR_AREA + 16 * n + 8, 64, value)


LOAD = {"VMENTRY_MSR_LOAD_COUNT": 9, "VMENTRY_MSR_LOAD_ADDR": MSR_AREA}
LSTAR, FS_BASE = 0xC000_0082, 0xC000_0100


@EVERY_ENGINE
def test_entry_loads_every_msr_of_its_area(engine: str) -> None:
    bench = Bench(engine, fields=LOAD)
    _area(bench, *((LSTAR, n) for n in range(9)))
    assert bench.enter() == 0
    assert (bench.word("vmx"), bench.word("lstar")) == (2, 8)


@EVERY_ENGINE
@pytest.mark.parametrize("bad", [(FS_BASE, 0), (1 << 32 | LSTAR, 0), (LSTAR, 1 << 60), (0x7777, 0)])
def test_a_refused_msr_fails_entry_with_its_number(engine: str, bad: tuple[int, int]) -> None:
    bench = Bench(engine, fields=LOAD)
    _area(bench, *((LSTAR, n) for n in range(8)), bad)
    assert bench.enter() == 0
    assert (bench.word("vmx"), bench.word("rip")) == (1, HOST_CODE)
    assert bench.vmread("EXIT_REASON") == ENTRY_FAILED | EXITS.ENTRY_FAIL_MSR_LOADING
    assert bench.vmread("EXIT_QUALIFICATION") == 9
