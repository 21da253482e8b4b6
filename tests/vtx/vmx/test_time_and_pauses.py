"""TSC scaling and PAUSE-loop exiting."""

import pytest

from tests.vtx.engines import EVERY_ENGINE
from tests.vtx.vmx.bench import SECONDARY, Bench, controls
from vtx.spec import EXITS

RDTSC, PAUSE, NOP, VMCALL = b"\x0f\x31", b"\xf3\x90", b"\x90", b"\x0f\x01\xc1"
ONE = 1 << 48


def scaled(engine: str, multiplier: int, offset: int, *proc: str) -> Bench:
    fields = {
        "PROCBASED_CONTROLS": controls("proc", SECONDARY, *proc),
        "SECONDARY_PROCBASED_CONTROLS": controls("sec", "USE_TSC_SCALING"),
        "TSC_MULTIPLIER": multiplier, "TSC_OFFSET": offset,
    }  # fmt: skip
    return Bench(engine, profile="max", guest=RDTSC + VMCALL, fields=fields)


def seen_tsc(bench: Bench) -> int:
    assert bench.run() == EXITS.VMCALL
    return bench.word("rdx") << 32 | bench.word("rax")


@EVERY_ENGINE
@pytest.mark.parametrize(
    ("multiplier", "tsc", "offset"),
    [(ONE, 1000, 5), (3 * ONE // 2, 1001, 7), (ONE // 3, 1 << 62, 0), (1, ONE + 5, 9),
     ((1 << 64) - 1, (1 << 64) - 4, (1 << 64) - 1)],
)  # fmt: skip
@pytest.mark.covers("control.sec.USE_TSC_SCALING")
def test_the_guest_reads_the_tsc_times_the_multiplier_plus_the_offset(
    engine: str, multiplier: int, tsc: int, offset: int
) -> None:
    bench = scaled(engine, multiplier, offset, "USE_TSC_OFFSETTING")
    bench.state.write("tsc_adjust", tsc - bench.cpu.now())
    expected = (tsc * multiplier >> 48) + offset & (1 << 64) - 1
    assert seen_tsc(bench) == expected


@EVERY_ENGINE
def test_without_tsc_offsetting_the_multiplier_does_nothing(engine: str) -> None:
    bench = scaled(engine, 5 * ONE, 77)
    bench.state.write("tsc_adjust", 12345)
    now = bench.cpu.now()
    assert seen_tsc(bench) == 12345 + now


@EVERY_ENGINE
def test_a_multiplier_of_0_fails_the_entry(engine: str) -> None:
    bench = scaled(engine, 0, 0, "USE_TSC_OFFSETTING")
    assert bench.enter() == 2
    assert bench.error == 7


# --- PAUSE loops -----------------------------------------------------------------------------


def pausing(engine: str, guest: bytes, gap: int, window: int, *proc: str) -> Bench:
    fields = {
        "PROCBASED_CONTROLS": controls("proc", SECONDARY, *proc),
        "SECONDARY_PROCBASED_CONTROLS": controls("sec", "PAUSE_LOOP_EXITING"),
        "PLE_GAP": gap, "PLE_WINDOW": window,
    }  # fmt: skip
    return Bench(engine, guest=guest, fields=fields)


@EVERY_ENGINE
@pytest.mark.covers("control.sec.PAUSE_LOOP_EXITING", "exit.PAUSE")
def test_a_loop_that_lasts_longer_than_the_window_exits(engine: str) -> None:
    """PAUSEs at 0, 2, 4, ...: the first that is more than 6 ticks behind the first exits."""
    bench = pausing(engine, (PAUSE + NOP) * 20 + VMCALL, 2, 6)
    assert bench.run() == EXITS.PAUSE
    assert bench.vmread("GUEST_RIP") == 0x10000 + 4 * 3
    assert bench.vmread("EXIT_INSTRUCTION_LENGTH") == 2
    assert bench.vmread("EXIT_QUALIFICATION") == 0


@EVERY_ENGINE
def test_a_pause_behind_a_longer_gap_begins_a_new_loop(engine: str) -> None:
    bench = pausing(engine, (PAUSE + NOP * 2) * 20 + VMCALL, 2, 6)
    assert bench.run() == EXITS.VMCALL


@EVERY_ENGINE
def test_vm_entry_begins_a_new_loop(engine: str) -> None:
    bench = pausing(engine, (PAUSE + NOP) * 20 + VMCALL, 2, 6)
    assert bench.run() == EXITS.PAUSE
    assert bench.run(0) == EXITS.PAUSE
    assert bench.vmread("GUEST_RIP") == 0x10000 + 8 * 3


@EVERY_ENGINE
def test_pause_exiting_goes_before_pause_loop_exiting(engine: str) -> None:
    bench = pausing(engine, PAUSE + VMCALL, 100, 100, "PAUSE_EXITING")
    assert bench.run() == EXITS.PAUSE


@EVERY_ENGINE
def test_loops_of_user_code_do_not_exit(engine: str) -> None:
    bench = pausing(engine, (PAUSE + NOP) * 20 + b"\x0f\xa2", 2, 6)
    for name in ("CS", "SS"):
        bench.vmwrite(f"GUEST_{name}_SELECTOR", 0x1B if name == "CS" else 0x23)
        rights = bench.vmread(f"GUEST_{name}_ACCESS_RIGHTS")
        bench.vmwrite(f"GUEST_{name}_ACCESS_RIGHTS", rights | 0x60)
    for level in range(3):
        place = 0x20000 + 0x1000 * level
        bench.cpu.bus.store(place, 64, place + 0x1007)
    bench.cpu.bus.store(0x23000 + 8 * 0x10, 64, 0x10007)
    assert bench.run() == EXITS.CPUID
