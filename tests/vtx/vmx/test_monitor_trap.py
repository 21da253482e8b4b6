"""The monitor trap flag: after one instruction, or after the delivery of an event.

Source: SDM 3C, Monitor Trap Flag.
"""

from tests.vtx.engines import EVERY_ENGINE
from tests.vtx.vmx.bench import GUEST_CODE, GUEST_HANDLER, NOP, Bench, controls
from vtx.spec import EXITS

MONITORED = {"PROCBASED_CONTROLS": controls("proc", "MONITOR_TRAP_FLAG")}
VALID, EXCEPTION, OTHER_EVENT = 1 << 31, 3 << 8, 7 << 8
TF, BS = 1 << 8, 1 << 14


@EVERY_ENGINE
def test_the_trap_comes_after_one_instruction(engine: str) -> None:
    bench = Bench(engine, guest=NOP + NOP, fields=MONITORED)
    assert bench.run() == EXITS.MONITOR_TRAP_FLAG
    assert bench.vmread("GUEST_RIP") == GUEST_CODE + 1


@EVERY_ENGINE
def test_behind_an_injected_event_the_trap_comes_before_the_handler(engine: str) -> None:
    injected = {"VMENTRY_INTERRUPTION_INFO": VALID | EXCEPTION | 6}
    bench = Bench(engine, guest=NOP, fields=MONITORED | injected)
    bench.use_idt(6, NOP + NOP)
    assert bench.run() == EXITS.MONITOR_TRAP_FLAG
    assert bench.vmread("GUEST_RIP") == GUEST_HANDLER


@EVERY_ENGINE
def test_the_trap_comes_before_a_single_step_which_stays_pending(engine: str) -> None:
    bench = Bench(engine, guest=NOP + NOP, fields=MONITORED | {"GUEST_RFLAGS": 2 | TF})
    bench.use_idt(1, NOP)
    assert bench.run() == EXITS.MONITOR_TRAP_FLAG
    assert bench.vmread("GUEST_RIP") == GUEST_CODE + 1
    assert bench.vmread("GUEST_PENDING_DBG_EXCEPTIONS") == BS
    assert bench.run(0) == EXITS.MONITOR_TRAP_FLAG, "behind the delivery of the single step"
    assert bench.vmread("GUEST_RIP") == GUEST_HANDLER
    assert bench.vmread("GUEST_PENDING_DBG_EXCEPTIONS") == 0


@EVERY_ENGINE
def test_an_injected_trap_needs_no_control_and_runs_nothing(engine: str) -> None:
    injected = {"VMENTRY_INTERRUPTION_INFO": VALID | OTHER_EVENT}
    bench = Bench(engine, guest=NOP, fields=injected)
    assert bench.run() == EXITS.MONITOR_TRAP_FLAG
    assert bench.vmread("GUEST_RIP") == GUEST_CODE
