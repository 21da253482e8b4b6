"""Mode-based execute control, and advanced information of EPT violations."""

import pytest

from tests.vtx.engines import EVERY_ENGINE
from tests.vtx.vmx.bench import EPT_TABLES, GUEST_TABLES, Bench
from vtx.spec import EXITS, MSRS, profile
from vtx.vmx.capability import capability_msrs

VMCALL, CALL_RAX, LOAD_EAX, STORE_EAX = b"\x0f\x01\xc1", b"\xff\xd0", b"\x8b\x06", b"\x89\x06"
CODE = 0x5_0000
WRITE_BACK = 6 << 3
R, W, X, XU = 1, 2, 4, 1 << 10
FETCH, GVA_VALID, FINAL = 4, 1 << 7, 1 << 8
USER, WRITABLE, NO_EXECUTE = 1 << 9, 1 << 10, 1 << 11
PRESENT, RW, US, XD = 1, 2, 4, 1 << 63


def make(engine: str, guest: bytes, user: bool, rights: int, *more: str, profile: str = "max"):
    """A guest at CPL 0 that has the page CODE, for users or not, with EPT rights of its own."""
    bench = Bench(engine, profile=profile, guest=guest)
    bench.use_ept(*more)
    for level in range(3):  # all of memory may be executed by user-mode and supervisor-mode
        place = EPT_TABLES + 0x1000 * level
        bench.cpu.bus.store(place, 64, (place + 0x1000) | R | W | X | XU)
    for page in range(512):
        bench.cpu.bus.store(EPT_TABLES + 0x3000 + 8 * page, 64, page << 12 | WRITE_BACK | 0x407)
    if user:
        for level in range(3):
            place = GUEST_TABLES + 0x1000 * level
            bench.cpu.bus.store(place, 64, (place + 0x1000) | PRESENT | RW | US)
        bench.cpu.bus.store(GUEST_TABLES + 0x3000 + 8 * (CODE >> 12), 64, CODE | 7)
    bench.cpu.bus.store(EPT_TABLES + 0x3000 + 8 * (CODE >> 12), 64, CODE | WRITE_BACK | rights)
    bench.cpu.bus.write_bytes(CODE, VMCALL)
    bench.state.write("rax", CODE)
    bench.state.write("rsi", CODE)
    return bench


@EVERY_ENGINE
@pytest.mark.parametrize(
    ("user", "rights", "allowed"),
    [(False, R | X, True), (False, R | XU, False), (True, R | X, False), (True, R | XU, True),
     (True, XU, True), (False, X, True)],
)  # fmt: skip
@pytest.mark.covers("control.sec.MODE_BASED_EPT_EXECUTE")
def test_with_mode_based_control_each_mode_has_its_own_execute_bit(
    engine: str, user: bool, rights: int, allowed: bool
) -> None:
    bench = make(engine, CALL_RAX, user, rights, "MODE_BASED_EPT_EXECUTE")
    if allowed:
        assert bench.run() == EXITS.VMCALL
        return
    assert bench.run() == EXITS.EPT_VIOLATION
    granted = (rights & 7) << 3 | (rights & XU) >> 4
    advanced = (USER if user else 0) | WRITABLE
    qualification = FETCH | granted | GVA_VALID | FINAL | advanced
    assert bench.vmread("EXIT_QUALIFICATION") == qualification


@EVERY_ENGINE
@pytest.mark.covers("control.sec.MODE_BASED_EPT_EXECUTE")
def test_without_it_bit_10_means_nothing(engine: str) -> None:
    bench = make(engine, CALL_RAX, True, R | XU)
    assert bench.run() == EXITS.EPT_VIOLATION
    assert bench.vmread("EXIT_QUALIFICATION") & (7 << 3 | 1 << 6) == R << 3
    bench = make(engine, CALL_RAX, True, XU)
    assert bench.run() == EXITS.EPT_VIOLATION, "nor does it make the entry present"
    assert bench.vmread("EXIT_QUALIFICATION") & (7 << 3 | 1 << 6) == 0


@EVERY_ENGINE
def test_without_paging_every_address_is_a_user_mode_one(engine: str) -> None:
    bench = make(engine, VMCALL, False, R | X, "MODE_BASED_EPT_EXECUTE", "UNRESTRICTED_GUEST")
    bench.vmwrite("GUEST_CR0", 0x31)
    bench.vmwrite("VMENTRY_CONTROLS", bench.vmread("VMENTRY_CONTROLS") & ~(1 << 9))
    bench.vmwrite("GUEST_CS_ACCESS_RIGHTS", 0xC09B)
    bench.vmwrite("GUEST_RIP", CODE)
    assert bench.run() == EXITS.EPT_VIOLATION
    assert bench.vmread("EXIT_QUALIFICATION") == FETCH | 5 << 3 | 3 << 7 | USER | WRITABLE


@EVERY_ENGINE
@pytest.mark.parametrize(
    ("entry", "bits"), [(7, USER | WRITABLE), (5, USER), (3, WRITABLE), (XD | 1, NO_EXECUTE)]
)
def test_advanced_information_tells_what_the_guests_tables_allow(
    engine: str, entry: int, bits: int
) -> None:
    for name, shown in (("max", bits), ("haswell", 0)):
        bench = make(engine, LOAD_EAX, True, 0, profile=name)
        bench.cpu.bus.store(GUEST_TABLES + 0x3000 + 8 * (CODE >> 12), 64, CODE | entry)
        if entry & XD:
            bench.vmwrite("GUEST_IA32_EFER", 0xD00)
            bench.vmwrite("VMENTRY_CONTROLS", bench.vmread("VMENTRY_CONTROLS") | 1 << 15)
        assert bench.run() == EXITS.EPT_VIOLATION
        assert bench.vmread("EXIT_QUALIFICATION") == 1 | GVA_VALID | FINAL | shown


@EVERY_ENGINE
def test_a_page_table_access_has_no_advanced_information(engine: str) -> None:
    bench = make(engine, LOAD_EAX, True, 7)
    bench.cpu.bus.store(EPT_TABLES + 0x3000 + 8 * (GUEST_TABLES >> 12), 64, 0)
    assert bench.run() == EXITS.EPT_VIOLATION
    assert bench.vmread("EXIT_QUALIFICATION") == 1 | GVA_VALID


def test_the_capability_msr_tells_advanced_information() -> None:
    for name, has in (("max", 1), ("haswell", 0)):
        capability = capability_msrs(profile(name))[MSRS.IA32_VMX_EPT_VPID_CAP]
        assert capability >> 22 & 1 == has
        assert capability & 1, "execute-only"
        assert capability >> 21 & 1, "accessed and dirty flags"
