"""The monitor trap flag: after one instruction, or after the delivery of an event.

Source: SDM 3C, Monitor Trap Flag.
"""

import pytest

from tests.vtx.vmx.bench import GUEST_CODE, GUEST_HANDLER, NOP, Bench, controls
from vtx.spec import EXITS

READERS = pytest.mark.parametrize("quick", [True, False], ids=["quick", "plain"])
MONITORED = {"PROCBASED_CONTROLS": controls("proc", "MONITOR_TRAP_FLAG")}
VALID, EXCEPTION, OTHER_EVENT = 1 << 31, 3 << 8, 7 << 8
TF, BS = 1 << 8, 1 << 14


@READERS
def test_the_trap_comes_after_one_instruction(quick: bool) -> None:
    bench = Bench(quick, guest=NOP + NOP, fields=MONITORED)
    assert bench.run() == EXITS.MONITOR_TRAP_FLAG
    assert bench.vmread("GUEST_RIP") == GUEST_CODE + 1


@READERS
def test_behind_an_injected_event_the_trap_comes_before_the_handler(quick: bool) -> None:
    injected = {"VMENTRY_INTERRUPTION_INFO": VALID | EXCEPTION | 6}
    bench = Bench(quick, guest=NOP, fields=MONITORED | injected)
    bench.use_idt(6, NOP + NOP)
    assert bench.run() == EXITS.MONITOR_TRAP_FLAG
    assert bench.vmread("GUEST_RIP") == GUEST_HANDLER


@READERS
def test_the_trap_comes_before_a_single_step_which_stays_pending(quick: bool) -> None:
    bench = Bench(quick, guest=NOP + NOP, fields=MONITORED | {"GUEST_RFLAGS": 2 | TF})
    bench.use_idt(1, NOP)
    assert bench.run() == EXITS.MONITOR_TRAP_FLAG
    assert bench.vmread("GUEST_RIP") == GUEST_CODE + 1
    assert bench.vmread("GUEST_PENDING_DBG_EXCEPTIONS") == BS
    assert bench.run(0) == EXITS.MONITOR_TRAP_FLAG, "behind the delivery of the single step"
    assert bench.vmread("GUEST_RIP") == GUEST_HANDLER
    assert bench.vmread("GUEST_PENDING_DBG_EXCEPTIONS") == 0


@READERS
def test_an_injected_trap_needs_no_control_and_runs_nothing(quick: bool) -> None:
    injected = {"VMENTRY_INTERRUPTION_INFO": VALID | OTHER_EVENT}
    bench = Bench(quick, guest=NOP, fields=injected)
    assert bench.run() == EXITS.MONITOR_TRAP_FLAG
    assert bench.vmread("GUEST_RIP") == GUEST_CODE
