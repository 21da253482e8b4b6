"""#VE: which EPT violations the guest handles itself, and what it is told."""

import pytest

from tests.vtx.engines import EVERY_ENGINE
from tests.vtx.vmx.bench import EPT_TABLES, GUEST_CODE, GUEST_STACK, Bench
from vtx.spec import EXITS

LOAD_EAX, STORE_EAX, VMCALL, INT_20 = b"\x8b\x06", b"\x89\x06", b"\x0f\x01\xc1", b"\xcd\x20"
AREA, DATA = 0x9000, 0x5_0000
SUPPRESS = 1 << 63
VE = 20
VALID, HARDWARE = 1 << 31, 3 << 8


def leaf(gpa: int) -> int:
    return EPT_TABLES + 0x3000 + 8 * (gpa >> 12)


def make(engine: str, guest: bytes, entry: int, **fields: int) -> Bench:
    bench = Bench(engine, profile="max", guest=guest)
    bench.use_ept("EPT_VIOLATION_VE")
    for name, value in {"VE_INFO_ADDR": AREA, "EPTP_INDEX": 0x123, **fields}.items():
        bench.vmwrite(name, value)
    bench.state.write("rsi", DATA + 0x123)
    bench.cpu.bus.store(leaf(DATA), 64, entry)
    bench.use_idt(VE, VMCALL)
    return bench


def area(bench: Bench) -> list[int]:
    load = bench.cpu.bus.load
    return [load(AREA, 32), load(AREA + 4, 32), *(load(AREA + n, 64) for n in (8, 16, 24)),
            load(AREA + 32, 16)]  # fmt: skip


ADVANCED = 1 << 10  # a supervisor-mode address that may be written


@EVERY_ENGINE
@pytest.mark.parametrize(
    ("code", "entry", "qualification"),
    [(LOAD_EAX, 0, 1 | 0x180), (STORE_EAX, DATA | 6 << 3 | 1, 2 | 1 << 3 | 0x180)],
)
@pytest.mark.covers("control.sec.EPT_VIOLATION_VE")
def test_a_convertible_violation_is_vector_20_with_the_information_written(
    engine: str, code: bytes, entry: int, qualification: int
) -> None:
    bench = make(engine, code, entry)
    assert bench.run() == EXITS.VMCALL
    assert bench.vmread("GUEST_RIP") == 0x13000
    assert bench.vmread("GUEST_RSP") == GUEST_STACK - 40, "no error code"
    assert bench.cpu.bus.load(GUEST_STACK - 40, 64) == GUEST_CODE
    assert area(bench) == [48, 0xFFFF_FFFF, qualification | ADVANCED, DATA + 0x123, DATA + 0x123,
                           0x123]  # fmt: skip


@EVERY_ENGINE
@pytest.mark.parametrize("entry", [SUPPRESS, SUPPRESS | DATA | 6 << 3 | 4])
def test_suppressed_violations_exit(engine: str, entry: int) -> None:
    bench = make(engine, LOAD_EAX, entry)
    assert bench.run() == EXITS.EPT_VIOLATION
    assert area(bench) == [0] * 6


@EVERY_ENGINE
def test_bit_63_of_an_entry_that_names_a_table_means_nothing(engine: str) -> None:
    bench = make(engine, LOAD_EAX, 0)
    for level in range(3):
        place = EPT_TABLES + 0x1000 * level
        bench.cpu.bus.store(place, 64, bench.cpu.bus.load(place, 64) | SUPPRESS)
    assert bench.run() == EXITS.VMCALL


@EVERY_ENGINE
def test_a_busy_area_makes_it_an_exit(engine: str) -> None:
    bench = make(engine, LOAD_EAX, 0)
    bench.cpu.bus.store(AREA + 4, 32, 1)
    assert bench.run() == EXITS.EPT_VIOLATION
    assert bench.vmread("EXIT_QUALIFICATION") == 1 | 0x180 | ADVANCED


@EVERY_ENGINE
def test_a_violation_while_an_event_is_delivered_exits(engine: str) -> None:
    bench = make(engine, INT_20, 0, GUEST_RSP=DATA + 0x800)
    bench.use_idt(0x20, VMCALL)
    assert bench.run() == EXITS.EPT_VIOLATION
    assert bench.vmread("IDT_VECTORING_INFO") == VALID | 4 << 8 | 0x20


@EVERY_ENGINE
def test_misconfigurations_are_no_virtualization_exceptions(engine: str) -> None:
    bench = make(engine, LOAD_EAX, DATA | 2)
    assert bench.run() == EXITS.EPT_MISCONFIGURATION


@EVERY_ENGINE
def test_the_exception_bitmap_sees_vector_20(engine: str) -> None:
    bench = make(engine, LOAD_EAX, 0, EXCEPTION_BITMAP=1 << VE)
    assert bench.run() == EXITS.EXCEPTION_OR_NMI
    assert bench.vmread("EXIT_INTERRUPTION_INFO") == VALID | HARDWARE | VE
    assert bench.vmread("EXIT_QUALIFICATION") == 0
    assert area(bench)[1] == 0xFFFF_FFFF


@EVERY_ENGINE
def test_a_contributory_fault_on_the_way_to_the_handler_is_a_double_fault(engine: str) -> None:
    bench = make(engine, LOAD_EAX, 0, EXCEPTION_BITMAP=1 << 8)
    bench.cpu.bus.store(0x11000 + 16 * VE + 5, 8, 0x0E)  # the gate is not present
    assert bench.run() == EXITS.EXCEPTION_OR_NMI
    assert bench.vmread("EXIT_INTERRUPTION_INFO") & 0xFF == 8


@EVERY_ENGINE
@pytest.mark.covers("control.sec.EPT_VIOLATION_VE")
def test_without_the_control_violations_exit(engine: str) -> None:
    bench = make(engine, LOAD_EAX, 0)
    bench.use_ept()
    bench.cpu.bus.store(leaf(DATA), 64, 0)
    assert bench.run() == EXITS.EPT_VIOLATION
