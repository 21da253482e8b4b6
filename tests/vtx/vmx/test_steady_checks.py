"""VM entries one after another: whatever changed in between is checked, whoever changed it."""

from collections.abc import Callable

import pytest

from tests.vtx.engines import EVERY_ENGINE, QUICK_ENGINES
from tests.vtx.vmx.bench import VMCS, Bench, legal_fields
from tests.vtx.vmx.test_checks import BROKEN, GUEST_32
from vtx.spec import EXITS, entry_check, fields
from vtx.vmx.capability import REVISION
from vtx.vmx.checks import checks
from vtx.vmx.entry_checks import MOVING, is_steady
from vtx.vmx.vmcs import OFFSETS

OTHER = 0x8000
FAILED = 1 << 31


def _vmwrite(bench: Bench, name: str, value: int) -> None:
    bench.vmwrite(name, value)


def _store(bench: Bench, name: str, value: int) -> None:
    bench.cpu.bus.store(VMCS + OFFSETS[name], 64, value)


def _holds(bench: Bench) -> None:
    """An entry succeeds, and the guest exits again."""
    assert bench.run(launch=0) == EXITS.CPUID


def _is_refused(bench: Bench, rule: str) -> None:
    row = entry_check(rule)
    status = bench.enter(launch=0)
    if row.error_number is not None:
        assert (status, bench.error) == (2, row.error_number), rule
    else:
        assert (status, bench.vmread("EXIT_REASON")) == (0, FAILED | 33), rule
        assert bench.vmread("EXIT_QUALIFICATION") == row.qualification, rule


def _entered(engine: str, **changes: int) -> Bench:
    """A launched VMCS that the CPU has entered twice."""
    bench = Bench(engine, fields=changes)
    assert bench.run() == EXITS.CPUID
    _holds(bench)
    return bench


@QUICK_ENGINES
@pytest.mark.parametrize("change", [_vmwrite, _store], ids=["vmwrite", "store"])
def test_every_rule_is_checked_again(
    engine: str, change: Callable[[Bench, str, int], None]
) -> None:
    bench = _entered(engine)
    legal = legal_fields()
    for rule, broken in BROKEN:
        before = {name: bench.vmread(name) for name in broken}
        for name, value in broken.items():
            change(bench, name, value)
        _is_refused(bench, rule)
        _is_refused(bench, rule)
        for name in broken:
            change(bench, name, legal.get(name, before[name]))
        _holds(bench)


@EVERY_ENGINE
def test_a_store_of_the_host_into_the_region_is_noticed(engine: str) -> None:
    bench = _entered(engine)
    place = VMCS + OFFSETS["HOST_CS_SELECTOR"]
    bench.host(b"\x48\xc7\x04\x25" + place.to_bytes(4, "little") + bytes(4), 1)
    _is_refused(bench, "host.cs-nonzero")
    bench.host(b"\x48\xc7\x04\x25" + place.to_bytes(4, "little") + b"\x08\0\0\0", 1)
    _holds(bench)


@EVERY_ENGINE
def test_the_state_of_the_cpu_is_checked_again(engine: str) -> None:
    bench = _entered(engine)
    efer = bench.word("efer")
    bench.state.write("efer", 0)
    _is_refused(bench, "host.address-space-size-outside-ia32e")
    bench.state.write("efer", efer)
    _holds(bench)


def _second_vmcs(bench: Bench, **changes: int) -> None:
    """Make another VMCS current, equal to the first one but for `changes`."""
    values = {row.name: bench.vmread(row.name) for row in fields() if row.name in OFFSETS_KNOWN}
    bench.cpu.bus.store(OTHER, 32, REVISION)
    assert bench.call("vmx_vmclear", OTHER) == (0,)
    assert bench.call("vmx_vmptrld", OTHER) == (0,)
    for name, value in {**values, **changes}.items():
        bench.cpu.bus.store(OTHER + OFFSETS[name], 64, value)


OFFSETS_KNOWN = frozenset(legal_fields())


@EVERY_ENGINE
def test_another_vmcs_is_checked(engine: str) -> None:
    bench = _entered(engine)
    _second_vmcs(bench, GUEST_TR_ACCESS_RIGHTS=0x10000)
    assert bench.enter(launch=1) == 0
    assert bench.vmread("EXIT_REASON") == FAILED | 33
    bench.cpu.bus.store(OTHER + OFFSETS["GUEST_TR_ACCESS_RIGHTS"], 64, 0x8B)
    assert bench.run(launch=1) == EXITS.CPUID
    assert bench.call("vmx_vmptrld", VMCS) == (0,)
    _holds(bench)


@EVERY_ENGINE
def test_where_the_vmcs_lies_is_checked(engine: str) -> None:
    """Two regions hold the same, but one is linked with itself."""
    bench = _entered(engine)
    bench.cpu.bus.store(OTHER, 32, REVISION)
    bench.vmwrite("VMCS_LINK_POINTER", OTHER)
    _holds(bench)
    _second_vmcs(bench)
    assert bench.enter(launch=1) == 0
    assert bench.vmread("EXIT_REASON") == FAILED | 33
    assert (
        bench.vmread("EXIT_QUALIFICATION")
        == entry_check("guest.link-pointer-current").qualification
    )


@EVERY_ENGINE
def test_memory_outside_the_vmcs_is_checked_again(engine: str) -> None:
    bench = _entered(engine)
    bench.cpu.bus.store(OTHER, 32, REVISION)
    bench.vmwrite("VMCS_LINK_POINTER", OTHER)
    _holds(bench)
    bench.cpu.bus.store(OTHER, 32, REVISION + 1)
    _is_refused(bench, "guest.link-pointer-revision")


@EVERY_ENGINE
def test_pdptes_in_memory_are_checked_again(engine: str) -> None:
    bench = Bench(engine, fields={**GUEST_32, "GUEST_CR4": 0x2020, "GUEST_CR3": OTHER})
    bench.cpu.bus.store(OTHER, 64, 0x2_2001)
    assert bench.run() == EXITS.CPUID
    bench.cpu.bus.store(OTHER + 24, 64, 3)
    _is_refused(bench, "guest.pdpte-reserved")


@EVERY_ENGINE
def test_the_first_of_two_broken_rules_is_told(engine: str) -> None:
    """One of them is of a kind that may be remembered, the other is not."""
    bench = _entered(engine)
    steady, moving = "guest.cr3-width", "guest.rip-canonical"
    assert entry_check(steady).order < entry_check(moving).order
    bench.vmwrite("GUEST_RIP", 1 << 60)
    _is_refused(bench, moving)
    bench.vmwrite("GUEST_CR3", 1 << 60)
    _is_refused(bench, steady)
    bench.vmwrite("GUEST_CR3", legal_fields()["GUEST_CR3"])
    bench.vmwrite("VMCS_LINK_POINTER", 1 << 60)
    _is_refused(bench, moving)
    assert entry_check(moving).order < entry_check("guest.link-pointer-address").order


def test_most_rules_are_steady() -> None:
    reachable = [rule for rule in checks() if rule.reachable]
    moving = {rule.id for rule in reachable if not is_steady(rule)}
    assert {"guest.rip-canonical", "guest.pdpte-reserved", "control.tpr-threshold-vtpr"} <= moving
    assert len(moving) < len(reachable) / 10
    for rule in reachable:
        assert rule.id in moving or not MOVING & set(rule.fields)
