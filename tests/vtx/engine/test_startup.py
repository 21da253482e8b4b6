"""INIT and start-up IPIs are taken between instructions, where VMX operation lets them."""

from __future__ import annotations

import pytest

from vtx.engine.boundary import Boundary
from vtx.engine.choice import make_engine
from vtx.engine.reference import Reference
from vtx.machine.computer import Computer
from vtx.machine.cpu_model import cpu_model

OUTSIDE, ROOT, NON_ROOT = range(3)
HALTED, WAITS = 1, 3


@pytest.fixture
def engine() -> Reference:
    """The second CPU of a machine, running; its pending single-step trap is for later."""
    machine = Computer(cpu=cpu_model("haswell,+vmx"), ram_size=1 << 20, cpu_count=2)
    cpu = machine.cpus[1]
    cpu.state.write("activity", 0)
    cpu.state.write("rip", 0x1234)
    return make_engine("reference", cpu, machine.features)


def settle(engine: Reference) -> bool:
    return Boundary(engine, None).settle()


def test_init_makes_a_running_or_halted_cpu_wait(engine: Reference) -> None:
    state = engine.cpu.state
    for activity in (0, HALTED):
        state.write("activity", activity)
        engine.cpu.signals.raise_init()

        assert settle(engine)
        assert (state.read("activity"), state.read("rip")) == (WAITS, 0xFFF0)
        assert not engine.cpu.signals.waiting
        assert engine.key.bits == 16 and not engine.key.protected


def test_init_comes_before_a_debug_trap_and_ends_it(engine: Reference) -> None:
    engine.cpu.state.write("pending_debug", 1 << 14)
    engine.cpu.signals.raise_init()

    assert settle(engine)
    assert engine.cpu.state.read("pending_debug") == 0
    assert engine.cpu.state.read("activity") == WAITS


def test_in_vmx_root_operation_init_waits_and_a_startup_ipi_is_lost(engine: Reference) -> None:
    state, signals = engine.cpu.state, engine.cpu.signals
    state.write("vmx", ROOT)
    signals.raise_init()
    signals.raise_startup(8)

    assert not settle(engine)
    assert state.read("rip") == 0x1234
    assert signals.init and signals.startup is None

    state.write("vmx", OUTSIDE)  # VMXOFF
    assert settle(engine)
    assert state.read("activity") == WAITS
    assert not settle(engine)  # nothing starts it


def test_who_waits_for_a_startup_ipi_takes_nothing_else(engine: Reference) -> None:
    state = engine.cpu.state
    engine.cpu.signals.raise_init()
    settle(engine)
    state.write("pending_debug", 1 << 14)

    assert not settle(engine)
    engine.cpu.signals.raise_startup(0x55)
    assert settle(engine)
    assert (state.read("cs_base"), state.read("rip"), state.read("activity")) == (0x55000, 0, 0)


def test_a_startup_ipi_is_dropped_by_a_running_cpu(engine: Reference) -> None:
    engine.cpu.signals.raise_startup(8)

    assert not settle(engine)
    assert not engine.cpu.signals.waiting
    assert engine.cpu.state.read("rip") == 0x1234


def test_a_guest_that_runs_discards_a_start_up_ipi(engine: Reference) -> None:
    engine.cpu.state.write("vmx", NON_ROOT)
    engine.cpu.signals.raise_startup(5)

    assert not settle(engine)
    assert engine.cpu.signals.startup is None
    assert engine.cpu.state.read("rip") == 0x1234
