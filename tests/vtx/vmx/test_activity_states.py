"""The shutdown and wait-for-SIPI activity states of a guest, INIT and start-up IPIs."""

from dataclasses import dataclass

import pytest

from tests.vtx.engines import EVERY_ENGINE
from tests.vtx.vmx.bench import GUEST_CODE, NOP, Bench, controls
from vtx.engine.guest_signals import take_in_guest
from vtx.engine.run import Ended, Runner
from vtx.spec import EXITS, MSRS, profile
from vtx.vmx.capability import capability_msrs

ACTIVE, HLT, SHUTDOWN, WAIT_FOR_SIPI = range(4)
VALID, NMI_TYPE = 1 << 31, 2 << 8


@dataclass
class Events:
    """A source of an NMI and an interrupt that come as soon as somebody looks."""

    nmi: bool = False
    interrupt: bool = False

    def interrupt_pending(self) -> bool:
        return self.interrupt

    def acknowledge_interrupt(self) -> int:
        self.interrupt = False
        return 0x30

    def nmi_pending(self) -> bool:
        return self.nmi

    def take_nmi(self) -> None:
        self.nmi = False

    def next_event(self) -> int | None:
        return None

    def advance(self, now: int) -> None:
        pass


@dataclass
class Signals:
    init: bool = False
    startup: int | None = None

    def take_startup(self) -> int | None:
        vector, self.startup = self.startup, None
        return vector


def make(engine: str, state: int, *pin: str, **fields: int) -> Bench:
    values = {"GUEST_ACTIVITY_STATE": state, "PINBASED_CONTROLS": controls("pin", *pin)}
    return Bench(engine, guest=NOP * 10, fields=values | fields)


def run(bench: Bench, events: Events) -> Ended:
    assert bench.enter() == 0
    return Runner(bench.engine, events, python_root=True).run(bench.cpu.now() + 1000)


def test_the_capability_msr_has_all_three() -> None:
    assert capability_msrs(profile("haswell"))[MSRS.IA32_VMX_MISC] >> 6 & 7 == 7


@EVERY_ENGINE
@pytest.mark.parametrize("state", [SHUTDOWN, WAIT_FOR_SIPI])
def test_external_interrupts_wait_in_both_states(engine: str, state: int) -> None:
    bench = make(engine, state, "EXTERNAL_INTERRUPT_EXITING", GUEST_RFLAGS=0x202)
    assert run(bench, Events(interrupt=True)) is Ended.HALTED
    assert (bench.word("vmx"), bench.word("activity")) == (2, state)
    assert bench.word("rip") == GUEST_CODE


@EVERY_ENGINE
def test_an_nmi_exits_from_shutdown_and_the_exit_says_where_the_guest_was(engine: str) -> None:
    bench = make(engine, SHUTDOWN, "NMI_EXITING")
    assert run(bench, Events(nmi=True)) is Ended.VM_EXIT
    assert bench.vmread("EXIT_REASON") == EXITS.EXCEPTION_OR_NMI
    assert bench.vmread("EXIT_INTERRUPTION_INFO") == VALID | NMI_TYPE | 2
    assert bench.vmread("GUEST_ACTIVITY_STATE") == SHUTDOWN
    assert bench.word("activity") == ACTIVE


@EVERY_ENGINE
def test_an_nmi_wakes_a_guest_in_shutdown(engine: str) -> None:
    bench = make(engine, SHUTDOWN)
    bench.use_idt(2, b"\x0f\xa2")
    assert run(bench, Events(nmi=True)) is Ended.VM_EXIT
    assert bench.vmread("EXIT_REASON") == EXITS.CPUID
    assert bench.vmread("GUEST_ACTIVITY_STATE") == ACTIVE


@EVERY_ENGINE
def test_an_nmi_waits_for_the_start_up_ipi(engine: str) -> None:
    events = Events(nmi=True)
    assert run(make(engine, WAIT_FOR_SIPI, "NMI_EXITING"), events) is Ended.HALTED
    assert events.nmi


@EVERY_ENGINE
def test_the_preemption_timer_ends_shutdown_but_not_wait_for_sipi(engine: str) -> None:
    bench = make(engine, SHUTDOWN, "PREEMPTION_TIMER", PREEMPTION_TIMER_VALUE=50)
    assert run(bench, Events()) is Ended.VM_EXIT
    assert bench.vmread("EXIT_REASON") == EXITS.PREEMPTION_TIMER
    assert bench.vmread("GUEST_ACTIVITY_STATE") == SHUTDOWN
    bench = make(engine, WAIT_FOR_SIPI, "PREEMPTION_TIMER", PREEMPTION_TIMER_VALUE=50)
    assert run(bench, Events()) is Ended.HALTED
    assert bench.word("vmx") == 2


@EVERY_ENGINE
def test_an_injected_nmi_ends_shutdown(engine: str) -> None:
    bench = make(engine, SHUTDOWN, VMENTRY_INTERRUPTION_INFO=VALID | NMI_TYPE | 2)
    bench.use_idt(2, b"\x0f\xa2")
    assert bench.run() == EXITS.CPUID


# --- INIT and start-up IPIs ------------------------------------------------------------------


@EVERY_ENGINE
@pytest.mark.parametrize("state", [ACTIVE, HLT, SHUTDOWN])
@pytest.mark.covers("exit.INIT_SIGNAL")
def test_init_exits_and_a_start_up_ipi_is_discarded(engine: str, state: int) -> None:
    bench = make(engine, state)
    assert bench.enter() == 0
    signals = Signals(startup=9)
    assert not take_in_guest(bench.engine, signals)
    assert signals.startup is None
    signals.init = True
    assert take_in_guest(bench.engine, signals)
    assert not signals.init
    assert bench.vmread("EXIT_REASON") == EXITS.INIT_SIGNAL
    assert bench.vmread("EXIT_QUALIFICATION") == 0
    assert bench.vmread("GUEST_ACTIVITY_STATE") == state
    assert bench.vmread("GUEST_RIP") == GUEST_CODE


@EVERY_ENGINE
@pytest.mark.covers("exit.STARTUP_IPI")
def test_a_start_up_ipi_exits_from_wait_for_sipi_with_its_vector(engine: str) -> None:
    bench = make(engine, WAIT_FOR_SIPI)
    assert bench.enter() == 0
    signals = Signals(init=True)
    assert not take_in_guest(bench.engine, signals), "INIT is held back"
    assert signals.init
    signals.startup = 0x9A
    assert take_in_guest(bench.engine, signals)
    assert bench.vmread("EXIT_REASON") == EXITS.STARTUP_IPI
    assert bench.vmread("EXIT_QUALIFICATION") == 0x9A
    assert bench.vmread("GUEST_ACTIVITY_STATE") == WAIT_FOR_SIPI
