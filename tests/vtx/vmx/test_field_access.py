"""Fields read and written from Python are those that VMREAD and VMWRITE read and write."""

import pytest

from tests.vtx.engines import EVERY_ENGINE
from tests.vtx.vmx.bench import VMCS, Bench
from vtx.isa.layout import SLOTS
from vtx.spec import fields
from vtx.vmx.field_access import REFUSED, FieldAccess
from vtx.vmx.vmcs import NO_VMCS, OFFSETS

PATTERN = 0xFEDC_BA98_7654_3210
NAMES = tuple(row.name for row in fields())


def access(bench: Bench) -> FieldAccess:
    return FieldAccess(bench.cpu)


def read(bench: Bench, encoding: int) -> int:
    """What VMREAD says."""
    result = bench.call("vmx_vmread", encoding)
    assert result is not None
    return REFUSED if result[1] else result[0]


@EVERY_ENGINE
def test_every_field_reads_as_by_vmread(engine: str) -> None:
    bench = Bench(engine)
    for n, name in enumerate(NAMES):  # wider than the field, as only a plain store can be
        bench.cpu.store_physical(VMCS + OFFSETS[name], PATTERN + n, 64)
    found = access(bench)
    for row in fields():
        assert found.read(row.name) == read(bench, row.encoding), row.name


@EVERY_ENGINE
def test_every_field_is_written_as_by_vmwrite(engine: str) -> None:
    ours, theirs = Bench(engine), Bench(engine)
    found = access(ours)
    for n, row in enumerate(fields()):
        status = theirs.call("vmx_vmwrite", row.encoding, PATTERN + n)
        if row.read_only:  # left to VMWRITE, which a capability lets write them
            assert not found.write(row.name, PATTERN + n), row.name
            ours.call("vmx_vmwrite", row.encoding, PATTERN + n)
        else:
            assert found.write(row.name, PATTERN + n) == (status == (0,)), row.name
    error = OFFSETS["VM_INSTRUCTION_ERROR"]  # theirs says why the last of them was refused
    for offset in OFFSETS.values():
        if offset != error:
            values = {b.cpu.load_physical(VMCS + offset, 64) for b in (ours, theirs)}
            assert len(values) == 1


def test_several_fields_are_the_fields_one_by_one() -> None:
    bench = Bench("reference")
    found = access(bench)
    names = tuple(name for name in reversed(NAMES) if found.read(name) != REFUSED)
    assert found.read_all(names) == tuple(found.read(name) for name in names)
    assert found.read_all(names[:1]) in (None, (found.read(names[0]),))


def test_a_field_that_the_cpu_does_not_have_refuses_all_of_them() -> None:
    bench = Bench("reference")
    found = access(bench)
    absent = next(name for name in NAMES if found.read(name) == REFUSED)
    assert found.read_all(("GUEST_RIP", absent)) is None


@pytest.mark.parametrize("pointer", (NO_VMCS, 0x7010, 1 << 40))
def test_nothing_is_read_or_written_without_a_vmcs_in_memory(pointer: int) -> None:
    bench = Bench("reference")
    found = access(bench)
    assert found.read("GUEST_RIP") != REFUSED
    bench.cpu.words[SLOTS["vmcs_pointer"]] = pointer
    assert found.read("GUEST_RIP") == REFUSED
    assert not found.write("GUEST_RIP", 1)
    assert found.read_all(("GUEST_RIP", "GUEST_RSP")) is None


def test_another_current_vmcs_has_its_own_values() -> None:
    bench = Bench("reference")
    found = access(bench)
    found.write("GUEST_RIP", 0x1234)
    bench.cpu.words[SLOTS["vmcs_pointer"]] = VMCS + 0x1000
    found.write("GUEST_RIP", 0x5678)
    bench.cpu.words[SLOTS["vmcs_pointer"]] = VMCS
    assert found.read("GUEST_RIP") == 0x1234


def test_code_in_a_region_is_told_of_writes() -> None:
    bench = Bench("reference")
    told: list[int] = []
    bench.cpu.code.watch(VMCS, told.append, 0, 0xFFF)
    access(bench).write("GUEST_RIP", 1)
    assert told == [VMCS]
