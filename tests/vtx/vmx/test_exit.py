"""VM exits: what is told, guest state saved, host state loaded."""

from dataclasses import dataclass

import pytest

from tests.vtx.engines import EVERY_ENGINE
from tests.vtx.vmx.bench import (
    CPUID,
    GUEST_CODE,
    GUEST_HANDLER,
    GUEST_STACK,
    HOST_CODE,
    NOP,
    UD2,
    VMCS,
    Bench,
    controls,
)
from vtx.engine.run import Ended, Runner
from vtx.spec import EXITS

VMCALL, HLT = b"\x0f\x01\xc1", b"\xf4"
VALID = 1 << 31
MSR_AREA = 0x9000
LSTAR = 0xC000_0082


@EVERY_ENGINE
def test_cpuid_exits_with_its_length_and_the_guest_where_it_was(engine: str) -> None:
    bench = Bench(engine, guest=NOP + CPUID)
    assert bench.run() == EXITS.CPUID
    assert bench.vmread("GUEST_RIP") == GUEST_CODE + 1
    assert bench.vmread("EXIT_INSTRUCTION_LENGTH") == 2
    assert bench.vmread("EXIT_INTERRUPTION_INFO") == 0


@EVERY_ENGINE
def test_host_state_is_loaded_with_fixed_attributes(engine: str) -> None:
    bench = Bench(engine, guest=VMCALL, fields={"GUEST_RFLAGS": 0x8D7, "HOST_DS_SELECTOR": 0})
    bench.run()
    expected = {
        "rip": HOST_CODE, "rsp": 0x5000, "vmx": 1, "dr7": 0x400, "cs_ar": 0xA09B, "cs_sel": 8,
        "cs_limit": 0xFFFF_FFFF, "ss_ar": 0xC093, "ds_ar": 0x10000, "tr_ar": 0x8B,
        "tr_limit": 0x67, "ldtr_ar": 0x10000, "fs_base": 0x1234, "gdtr_base": 0x4000,
        "gdtr_limit": 0xFFFF, "idtr_limit": 0xFFFF, "activity": 0, "debugctl": 0,
    }  # fmt: skip
    assert {slot: bench.word(slot) for slot in expected} == expected
    assert bench.state.rflags == 2
    assert bench.vmread("GUEST_RFLAGS") == 0x8D7


@EVERY_ENGINE
def test_an_intercepted_exception_is_described(engine: str) -> None:
    bench = Bench(engine, guest=NOP + UD2, fields={"EXCEPTION_BITMAP": 1 << 6})
    assert bench.run() == EXITS.EXCEPTION_OR_NMI
    assert bench.vmread("EXIT_INTERRUPTION_INFO") == VALID | 3 << 8 | 6
    assert bench.vmread("IDT_VECTORING_INFO") == 0
    assert bench.vmread("GUEST_RIP") == GUEST_CODE + 1
    assert bench.vmread("GUEST_RFLAGS") == 1 << 16 | 2, "a fault's image has RF set"


@EVERY_ENGINE
def test_nothing_of_one_exit_stays_for_the_next(engine: str) -> None:
    bench = Bench(engine, guest=UD2 + VMCALL, fields={"EXCEPTION_BITMAP": 1 << 6})
    assert bench.run() == EXITS.EXCEPTION_OR_NMI
    bench.vmwrite("GUEST_RIP", GUEST_CODE + 2)
    assert bench.run(0) == EXITS.VMCALL
    empty = (
        "EXIT_INTERRUPTION_INFO", "EXIT_QUALIFICATION", "EXIT_INTERRUPTION_ERROR_CODE",
        "GUEST_LINEAR_ADDRESS", "GUEST_PHYSICAL_ADDRESS", "IDT_VECTORING_INFO",
    )  # fmt: skip
    assert [bench.vmread(name) for name in empty] == [0] * len(empty)


@EVERY_ENGINE
def test_a_page_fault_exit_has_the_address_and_error_code(engine: str) -> None:
    # mov [rsi], eax
    bench = Bench(engine, guest=b"\x89\x06", fields={"EXCEPTION_BITMAP": 1 << 14})
    bench.state.write("rsi", 0x40_0123)
    assert bench.run() == EXITS.EXCEPTION_OR_NMI
    assert bench.vmread("EXIT_INTERRUPTION_INFO") == VALID | 1 << 11 | 3 << 8 | 14
    assert bench.vmread("EXIT_INTERRUPTION_ERROR_CODE") == 2
    assert bench.vmread("EXIT_QUALIFICATION") == 0x40_0123


@EVERY_ENGINE
def test_a_triple_fault_exits(engine: str) -> None:
    bench = Bench(engine, guest=UD2, fields={"GUEST_IDTR_LIMIT": 0})
    assert bench.run() == EXITS.TRIPLE_FAULT
    assert bench.vmread("IDT_VECTORING_INFO") == 0
    assert bench.vmread("GUEST_RSP") == GUEST_STACK


@EVERY_ENGINE
def test_an_exit_with_debug_pat_and_efer_saves_them_where_asked(engine: str) -> None:
    wanted = ("SAVE_DEBUG_CONTROLS", "SAVE_PAT", "SAVE_EFER")
    fields = {"VMEXIT_CONTROLS": controls("exit", "HOST_ADDRESS_SPACE_SIZE", *wanted)}
    bench = Bench(engine, guest=VMCALL, fields=fields | {"GUEST_IA32_EFER": 0})
    bench.state.write("pat", 0x0707)
    bench.state.write("dr7", 0x401)
    bench.run()
    assert bench.vmread("GUEST_IA32_PAT") == 0x0707
    assert bench.vmread("GUEST_DR7") == 0x401
    assert bench.vmread("GUEST_IA32_EFER") == 0x500


@EVERY_ENGINE
def test_exit_stores_and_loads_its_msr_areas(engine: str) -> None:
    fields = {
        "VMEXIT_MSR_STORE_COUNT": 1, "VMEXIT_MSR_STORE_ADDR": MSR_AREA,
        "VMEXIT_MSR_LOAD_COUNT": 1, "VMEXIT_MSR_LOAD_ADDR": MSR_AREA + 16,
    }  # fmt: skip
    bench = Bench(engine, guest=VMCALL, fields=fields)
    bench.cpu.bus.store(MSR_AREA, 64, LSTAR)
    bench.cpu.bus.store(MSR_AREA + 16, 64, LSTAR)
    bench.cpu.bus.store(MSR_AREA + 24, 64, 0x4444)
    bench.state.write("lstar", 0x3333)
    bench.run()
    assert bench.cpu.bus.load(MSR_AREA + 8, 64) == 0x3333
    assert bench.word("lstar") == 0x4444


@EVERY_ENGINE
def test_an_msr_that_cannot_be_loaded_is_a_vmx_abort(engine: str) -> None:
    fields = {"VMEXIT_MSR_LOAD_COUNT": 1, "VMEXIT_MSR_LOAD_ADDR": MSR_AREA}
    bench = Bench(engine, guest=VMCALL, fields=fields)
    bench.cpu.bus.store(MSR_AREA, 64, 0x7777)
    assert bench.enter() == 0
    assert bench.runner.run(100) is Ended.VM_EXIT
    assert bench.cpu.bus.load(VMCS + 4, 32) == 4
    assert bench.word("activity") == 2
    assert Runner(bench.engine).run(100) is Ended.SHUTDOWN


@EVERY_ENGINE
def test_rf_survives_an_ept_violation_but_not_an_exiting_instruction(engine: str) -> None:
    load_eax = b"\x8b\x06"
    for code, wanted in ((load_eax, 1 << 16 | 2), (VMCALL, 2)):
        bench = Bench(engine, guest=code, fields={"GUEST_RFLAGS": 1 << 16 | 2})
        bench.use_ept()
        bench.cpu.bus.store(0x33000 + 8 * 0x50, 64, 0)
        bench.state.write("rsi", 0x5_0000)
        bench.run()
        assert bench.vmread("GUEST_RFLAGS") == wanted


# --- interrupts and NMIs ---------------------------------------------------------------------


@dataclass
class Source:
    """One interrupt or NMI that is waiting."""

    vector: int | None = None
    nmi: bool = False

    def interrupt_pending(self) -> bool:
        return self.vector is not None

    def acknowledge_interrupt(self) -> int:
        assert self.vector is not None
        vector, self.vector = self.vector, None
        return vector

    def nmi_pending(self) -> bool:
        return self.nmi

    def take_nmi(self) -> None:
        self.nmi = False

    def next_event(self) -> int | None:
        return None

    def advance(self, now: int) -> None:
        pass


def _run_with(bench: Bench, source: Source) -> int:
    assert bench.enter() == 0
    assert Runner(bench.engine, source, python_root=True).run(10_000) is Ended.VM_EXIT
    return bench.vmread("EXIT_REASON")


@EVERY_ENGINE
@pytest.mark.parametrize("acknowledge", [True, False])
@pytest.mark.covers(
    "exit.EXTERNAL_INTERRUPT",
    "control.pin.EXTERNAL_INTERRUPT_EXITING",
    "control.exit.ACK_INTERRUPT_ON_EXIT",
)
def test_an_external_interrupt_exits_even_with_if_clear(engine: str, acknowledge: bool) -> None:
    extra = ("ACK_INTERRUPT_ON_EXIT",) if acknowledge else ()
    fields = {
        "PINBASED_CONTROLS": controls("pin", "EXTERNAL_INTERRUPT_EXITING"),
        "VMEXIT_CONTROLS": controls("exit", "HOST_ADDRESS_SPACE_SIZE", *extra),
    }
    source = Source(vector=0x31)
    bench = Bench(engine, guest=NOP * 4, fields=fields)
    assert _run_with(bench, source) == EXITS.EXTERNAL_INTERRUPT
    assert bench.vmread("EXIT_INTERRUPTION_INFO") == (VALID | 0x31 if acknowledge else 0)
    assert (source.vector is None) == acknowledge


@EVERY_ENGINE
@pytest.mark.covers("control.pin.NMI_EXITING")
def test_an_nmi_exit_leaves_the_host_blocked_and_the_guest_not(engine: str) -> None:
    bench = Bench(engine, guest=NOP, fields={"PINBASED_CONTROLS": controls("pin", "NMI_EXITING")})
    assert _run_with(bench, Source(nmi=True)) == EXITS.EXCEPTION_OR_NMI
    assert bench.vmread("EXIT_INTERRUPTION_INFO") == VALID | 2 << 8 | 2
    assert bench.word("interruptibility") == 8
    assert bench.vmread("GUEST_INTERRUPTIBILITY_STATE") == 0


@EVERY_ENGINE
def test_an_nmi_that_wakes_a_halted_guest_finds_it_in_hlt(engine: str) -> None:
    fields = {"PINBASED_CONTROLS": controls("pin", "NMI_EXITING"), "GUEST_ACTIVITY_STATE": 1}
    bench = Bench(engine, guest=NOP, fields=fields)
    assert _run_with(bench, Source(nmi=True)) == EXITS.EXCEPTION_OR_NMI
    assert bench.vmread("GUEST_ACTIVITY_STATE") == 1


@EVERY_ENGINE
def test_an_interrupt_is_delivered_before_the_monitor_trap(engine: str) -> None:
    fields = {
        "PROCBASED_CONTROLS": controls("proc", "MONITOR_TRAP_FLAG"),
        "GUEST_RFLAGS": 1 << 9 | 2,
    }
    bench = Bench(engine, guest=NOP, fields=fields)
    bench.use_idt(0x31, NOP)
    assert _run_with(bench, Source(vector=0x31)) == EXITS.MONITOR_TRAP_FLAG
    assert bench.vmread("GUEST_RIP") == GUEST_HANDLER


@EVERY_ENGINE
def test_an_interrupt_that_wakes_a_halted_guest_finds_it_in_hlt(engine: str) -> None:
    fields = {
        "PINBASED_CONTROLS": controls("pin", "EXTERNAL_INTERRUPT_EXITING"),
        "GUEST_ACTIVITY_STATE": 1,
    }
    bench = Bench(engine, guest=NOP, fields=fields)
    assert _run_with(bench, Source(vector=0x31)) == EXITS.EXTERNAL_INTERRUPT
    assert bench.vmread("GUEST_ACTIVITY_STATE") == 1
    assert bench.word("activity") == 0
