"""VM entry, run and VM exit in one call end where they do step by step, state and all."""

import pytest

from tests.vtx.engines import EVERY_ENGINE
from tests.vtx.vmx.bench import CPUID, GUEST_CODE, NOP, UD2, VMCS, Bench, controls
from vtx.engine.run import Ended
from vtx.isa.key import current_key
from vtx.isa.layout import SLOT_NAMES

BACK = b"\xeb\xf9"
"""A jump to the start, behind CPUID and three NOPs."""
LOOP = CPUID + NOP * 3 + BACK
TIMER = {"PINBASED_CONTROLS": controls("pin", "PREEMPTION_TIMER")}


def seen(bench: Bench) -> tuple[dict[str, int], bytes]:
    """State and VMCS."""
    state = dict(zip(SLOT_NAMES, bench.cpu.words, strict=True))
    return state, bench.cpu.bus.read_bytes(VMCS, 4096)


def leave(bench: Bench, launch: bool) -> int:
    """Enter by the one call, and go on as a VMM does: the status of VM entry."""
    status = bench.engine.enter_guest(launch=launch)
    while bench.word("vmx") == 2:
        assert bench.runner.run(1 << 62) is Ended.VM_EXIT
    return status


@EVERY_ENGINE
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"GUEST_RFLAGS": 0x102},  # TF: a trap behind the first instruction
        {"GUEST_RFLAGS": 0x1_0002},  # RF: the first instruction is run alone
        {"GUEST_INTERRUPTIBILITY_STATE": 1, "GUEST_RFLAGS": 0x202},
        {"EXCEPTION_BITMAP": 1 << 6, "VMENTRY_INTERRUPTION_INFO": 0x8000_0306},  # injected
        {"GUEST_RIP": 1 << 47},  # guest state is refused
        {"HOST_CR3": 1 << 60},  # host state is refused
        TIMER | {"PREEMPTION_TIMER_VALUE": 0},
        TIMER | {"PREEMPTION_TIMER_VALUE": 1},
        TIMER | {"PREEMPTION_TIMER_VALUE": 3},
    ],
)
def test_every_exit_finds_the_same_state(engine: str, fields: dict[str, int]) -> None:
    expected, found = (Bench(name, guest=LOOP, fields=fields) for name in ("evaluate", engine))
    launch = True
    for _ in range(6):
        statuses = (leave(expected, launch), leave(found, launch))
        assert statuses[0] == statuses[1]
        assert seen(found) == seen(expected)
        assert found.engine.key == current_key(found.cpu.words)
        if statuses[0]:
            break
        for bench in (expected, found):  # over the CPUID, wherever it left
            bench.vmwrite("GUEST_RIP", GUEST_CODE + 2)
        launch = False


@EVERY_ENGINE
def test_a_fault_of_the_guest_that_exits_is_told(engine: str) -> None:
    bench = Bench(engine, guest=NOP + UD2, fields={"EXCEPTION_BITMAP": 1 << 6})
    assert leave(bench, True) == 0
    assert bench.vmread("EXIT_REASON") == 0
    assert bench.vmread("GUEST_RIP") == GUEST_CODE + 1
    assert bench.word("retired") == 1
