"""Page-modification logging: what is logged, and what a full log does."""

import pytest

from tests.vtx.engines import EVERY_ENGINE
from tests.vtx.vmx.bench import EPT_TABLES, GUEST_CODE, GUEST_STACK, GUEST_TABLES, Bench
from vtx.spec import EXITS

LOAD_EAX, STORE_EAX, VMCALL, INT_20 = b"\x8b\x06", b"\x89\x06", b"\x0f\x01\xc1", b"\xcd\x20"
LOG, DATA = 0x9000, 0x5_0000
ENABLE_AD, DIRTY = 1 << 6, 1 << 9
LEVELS = [GUEST_TABLES + 0x1000 * n for n in range(4)]


def leaf(gpa: int) -> int:
    return EPT_TABLES + 0x3000 + 8 * (gpa >> 12)


def make(engine: str, guest: bytes, index: int = 511, flags: int = ENABLE_AD) -> Bench:
    bench = Bench(engine, profile="max", guest=guest)
    bench.use_ept("ENABLE_PML", eptp_flags=flags)
    bench.vmwrite("PML_ADDRESS", LOG)
    bench.vmwrite("GUEST_PML_INDEX", index)
    bench.state.write("rsi", DATA + 0x123)
    for table in LEVELS:  # walks of the guest's tables dirty them: not today
        bench.cpu.bus.store(leaf(table), 64, table | 6 << 3 | 7 | 3 << 8)
    return bench


def log(bench: Bench, index: int) -> int:
    return bench.cpu.bus.load(LOG + 8 * index, 64)


@EVERY_ENGINE
@pytest.mark.covers("control.sec.ENABLE_PML")
def test_a_write_that_sets_a_dirty_flag_is_logged_once(engine: str) -> None:
    bench = make(engine, LOAD_EAX + STORE_EAX + STORE_EAX + VMCALL)
    assert bench.run() == EXITS.VMCALL
    assert log(bench, 511) == DATA
    assert bench.vmread("GUEST_PML_INDEX") == 510
    assert bench.cpu.bus.load(leaf(DATA), 64) & DIRTY


@EVERY_ENGINE
def test_reads_and_dirty_pages_are_not_logged(engine: str) -> None:
    bench = make(engine, LOAD_EAX + VMCALL)
    assert bench.run() == EXITS.VMCALL
    assert bench.vmread("GUEST_PML_INDEX") == 511
    bench = make(engine, STORE_EAX + VMCALL)
    bench.cpu.bus.store(leaf(DATA), 64, DATA | 6 << 3 | 7 | DIRTY)
    assert bench.run() == EXITS.VMCALL
    assert bench.vmread("GUEST_PML_INDEX") == 511


@EVERY_ENGINE
def test_without_dirty_flags_nothing_is_logged(engine: str) -> None:
    bench = make(engine, STORE_EAX + VMCALL, flags=0)
    assert bench.run() == EXITS.VMCALL
    assert bench.vmread("GUEST_PML_INDEX") == 511


@EVERY_ENGINE
def test_pages_of_the_guests_tables_are_logged_by_the_walk(engine: str) -> None:
    bench = make(engine, VMCALL)
    for table in LEVELS:
        bench.cpu.bus.store(leaf(table), 64, table | 6 << 3 | 7)
    assert bench.run() == EXITS.VMCALL
    assert [log(bench, 511 - n) for n in range(4)] == LEVELS


@EVERY_ENGINE
@pytest.mark.covers("exit.PML_FULL")
def test_the_index_wraps_and_then_the_log_is_full(engine: str) -> None:
    guest = STORE_EAX + b"\x81\xc6\x00\x10\x00\x00" + STORE_EAX + VMCALL  # add esi, 1000h
    bench = make(engine, guest, index=0)
    assert bench.run() == EXITS.PML_FULL
    assert bench.vmread("GUEST_PML_INDEX") == 0xFFFF
    assert log(bench, 0) == DATA
    assert bench.vmread("GUEST_RIP") == GUEST_CODE + 8
    assert bench.vmread("EXIT_QUALIFICATION") == 0
    assert bench.cpu.bus.load(leaf(DATA + 0x1000), 64) & DIRTY == 0
    bench.vmwrite("GUEST_PML_INDEX", 511)
    assert bench.run(0) == EXITS.VMCALL
    assert log(bench, 511) == DATA + 0x1000


@EVERY_ENGINE
@pytest.mark.parametrize("index", [512, 0x8000, 0xFFFF])
@pytest.mark.covers("exit.PML_FULL")
def test_an_index_beyond_the_log_exits_before_the_access(engine: str, index: int) -> None:
    bench = make(engine, STORE_EAX + VMCALL, index=index)
    bench.state.write("rax", 0x1234)
    assert bench.run() == EXITS.PML_FULL
    assert bench.cpu.bus.load(DATA + 0x123, 32) == 0
    assert bench.vmread("GUEST_PML_INDEX") == index


@EVERY_ENGINE
def test_a_full_log_on_the_way_to_a_handler_tells_the_event(engine: str) -> None:
    bench = make(engine, INT_20, index=0xFFFF)
    bench.use_idt(0x20, VMCALL)
    bench.cpu.bus.store(leaf(0x12000), 64, 0x12000 | 6 << 3 | 7 | 3 << 8)
    assert bench.run() == EXITS.PML_FULL
    assert bench.vmread("IDT_VECTORING_INFO") == 1 << 31 | 4 << 8 | 0x20
    assert bench.vmread("EXIT_INSTRUCTION_LENGTH") == 2
    assert bench.vmread("GUEST_RSP") == GUEST_STACK
