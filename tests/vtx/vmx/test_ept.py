"""EPT: references of a cold walk, violations, misconfigurations, accessed and dirty flags."""

import pytest

from tests.vtx.engines import EVERY_ENGINE
from tests.vtx.vmx.bench import EPT_TABLES, GUEST_CODE, GUEST_TABLES, NOP, Bench
from vtx.spec import EXITS

LOAD_EAX, STORE_EAX, VMCALL = b"\x8b\x06", b"\x89\x06", b"\x0f\x01\xc1"
DATA = 0x5_0000
WRITE_BACK, LARGE, ACCESSED, DIRTY = 6 << 3, 1 << 7, 1 << 8, 1 << 9
READ, WRITE, EXECUTE = 1, 2, 4
GVA_VALID, FINAL = 1 << 7, 1 << 8
ENABLE_AD = 1 << 6


def leaf(gpa: int) -> int:
    """Where the EPT entry of a page is."""
    return EPT_TABLES + 0x3000 + 8 * (gpa >> 12)


def make(engine: str, guest: bytes, eptp_flags: int = 0) -> Bench:
    bench = Bench(engine, guest=guest)
    bench.use_ept(eptp_flags=eptp_flags)
    bench.state.write("rsi", DATA + 0x123)
    return bench


def references(bench: Bench) -> list[str]:
    """Levels of the paging-structure references of one cold translation in the guest."""
    assert bench.enter() == 0
    seen: list[str] = []
    bench.cpu.on_walk_load = lambda level, hpa: seen.append(level)
    assert bench.call("translate", DATA, 0) is not None
    return seen


@EVERY_ENGINE
def test_a_cold_walk_takes_24_references_with_4_kib_pages(engine: str) -> None:
    seen = references(make(engine, NOP))
    assert len(seen) == 24
    assert [level for level in seen if not level.startswith("ept")] == [
        "pml4e", "pdpte", "pde", "pte",
    ]  # fmt: skip
    assert seen[:5] == ["ept_pml4e", "ept_pdpte", "ept_pde", "ept_pte", "pml4e"]


@EVERY_ENGINE
def test_a_cold_walk_takes_4_references_without_ept(engine: str) -> None:
    assert len(references(Bench(engine))) == 4


@EVERY_ENGINE
@pytest.mark.parametrize(
    ("guest_large", "ept_large", "count"),
    [(True, False, 19), (False, True, 19), (True, True, 15)],
)
def test_large_pages_shorten_the_cold_walk(
    engine: str, guest_large: bool, ept_large: bool, count: int
) -> None:
    bench = make(engine, NOP)
    if guest_large:
        bench.cpu.bus.store(GUEST_TABLES + 0x2000, 64, LARGE | 3)
    if ept_large:
        bench.cpu.bus.store(EPT_TABLES + 0x2000, 64, LARGE | WRITE_BACK | 7)
    assert len(references(bench)) == count


# --- violations ------------------------------------------------------------------------------


@EVERY_ENGINE
@pytest.mark.parametrize(
    ("code", "rights", "qualification"),
    [
        (LOAD_EAX, 0, READ | GVA_VALID | FINAL),
        (LOAD_EAX, EXECUTE, READ | EXECUTE << 3 | GVA_VALID | FINAL),
        (STORE_EAX, 0, WRITE | GVA_VALID | FINAL),
        (STORE_EAX, READ, WRITE | READ << 3 | GVA_VALID | FINAL),
        (STORE_EAX, READ | EXECUTE, WRITE | (READ | EXECUTE) << 3 | GVA_VALID | FINAL),
    ],
)
def test_an_access_beyond_the_rights_is_a_violation(
    engine: str, code: bytes, rights: int, qualification: int
) -> None:
    bench = make(engine, NOP + code)
    entry = DATA | WRITE_BACK | rights if rights else 0
    bench.cpu.bus.store(leaf(DATA), 64, entry)
    assert bench.run() == EXITS.EPT_VIOLATION
    assert bench.vmread("EXIT_QUALIFICATION") == qualification
    assert bench.vmread("GUEST_PHYSICAL_ADDRESS") == DATA + 0x123
    assert bench.vmread("GUEST_LINEAR_ADDRESS") == DATA + 0x123
    assert bench.vmread("GUEST_RIP") == GUEST_CODE + 1


@EVERY_ENGINE
def test_a_fetch_without_execute_right_is_a_violation(engine: str) -> None:
    bench = make(engine, NOP)
    bench.cpu.bus.store(leaf(GUEST_CODE), 64, GUEST_CODE | WRITE_BACK | READ | WRITE)
    assert bench.run() == EXITS.EPT_VIOLATION
    wanted = EXECUTE | (READ | WRITE) << 3 | GVA_VALID | FINAL
    assert bench.vmread("EXIT_QUALIFICATION") == wanted
    assert bench.vmread("GUEST_PHYSICAL_ADDRESS") == GUEST_CODE


@EVERY_ENGINE
@pytest.mark.parametrize(("flags", "access"), [(0, READ), (ENABLE_AD, READ | WRITE)])
def test_a_page_table_access_is_told_from_the_final_one(
    engine: str, flags: int, access: int
) -> None:
    bench = make(engine, NOP, flags)
    table = GUEST_TABLES + 0x3000
    bench.cpu.bus.store(leaf(table), 64, 0)
    assert bench.run() == EXITS.EPT_VIOLATION
    assert bench.vmread("EXIT_QUALIFICATION") == access | GVA_VALID
    assert bench.vmread("GUEST_PHYSICAL_ADDRESS") == table + 8 * (GUEST_CODE >> 12)
    assert bench.vmread("GUEST_LINEAR_ADDRESS") == GUEST_CODE


@EVERY_ENGINE
@pytest.mark.parametrize(
    "entry",
    [
        DATA | WRITE_BACK | WRITE,
        DATA | 2 << 3 | 7,
        DATA | 7 << 3 | 7,
        DATA | WRITE_BACK | 1 << 45 | 7,
    ],
    ids=["write-only", "type-2", "type-7", "beyond-width"],
)
def test_an_illegal_entry_is_a_misconfiguration(engine: str, entry: int) -> None:
    bench = make(engine, LOAD_EAX)
    bench.cpu.bus.store(leaf(DATA), 64, entry)
    assert bench.run() == EXITS.EPT_MISCONFIGURATION
    assert bench.vmread("GUEST_PHYSICAL_ADDRESS") == DATA + 0x123


# --- accessed and dirty flags ----------------------------------------------------------------


@EVERY_ENGINE
@pytest.mark.parametrize(("code", "flags"), [(LOAD_EAX, ACCESSED), (STORE_EAX, ACCESSED | DIRTY)])
def test_accessed_and_dirty_flags_follow_the_access(engine: str, code: bytes, flags: int) -> None:
    bench = make(engine, code + VMCALL, ENABLE_AD)
    assert bench.run() == EXITS.VMCALL
    assert bench.cpu.bus.load(leaf(DATA), 64) & (ACCESSED | DIRTY) == flags
    assert bench.cpu.bus.load(leaf(GUEST_CODE), 64) & (ACCESSED | DIRTY) == ACCESSED
    table = bench.cpu.bus.load(leaf(GUEST_TABLES), 64)
    assert table & (ACCESSED | DIRTY) == ACCESSED | DIRTY, "walks count as writes"


@EVERY_ENGINE
def test_flags_stay_clear_unless_enabled(engine: str) -> None:
    bench = make(engine, STORE_EAX + VMCALL)
    assert bench.run() == EXITS.VMCALL
    assert bench.cpu.bus.load(leaf(DATA), 64) & (ACCESSED | DIRTY) == 0


# --- invalidation ----------------------------------------------------------------------------


@EVERY_ENGINE
def test_invept_makes_a_changed_translation_seen(engine: str) -> None:
    bench = make(engine, LOAD_EAX + VMCALL)
    bench.vmwrite("VPID", 1)
    bench.vmwrite("SECONDARY_PROCBASED_CONTROLS", 1 << 1 | 1 << 5)
    bench.cpu.bus.store(DATA + 0x123, 32, 0x1111)
    bench.cpu.bus.store(DATA + 0x1123, 32, 0x2222)
    assert bench.run() == EXITS.VMCALL
    assert bench.word("rax") == 0x1111
    bench.cpu.bus.store(leaf(DATA), 64, (DATA + 0x1000) | WRITE_BACK | 7)
    assert bench.call("vmx_invept", 1, EPT_TABLES | 0x1E, 0) == (0,)
    bench.vmwrite("GUEST_RIP", GUEST_CODE)
    assert bench.run(0) == EXITS.VMCALL
    assert bench.word("rax") == 0x2222


@EVERY_ENGINE
def test_a_guest_accessed_flag_needs_a_writable_table(engine: str) -> None:
    bench = make(engine, NOP)
    table = GUEST_TABLES + 0x3000
    bench.cpu.bus.store(leaf(table), 64, table | WRITE_BACK | READ | EXECUTE)
    assert bench.run() == EXITS.EPT_VIOLATION
    wanted = READ | WRITE | (READ | EXECUTE) << 3 | GVA_VALID
    assert bench.vmread("EXIT_QUALIFICATION") == wanted
    assert bench.vmread("GUEST_PHYSICAL_ADDRESS") == table + 8 * (GUEST_CODE >> 12)
