"""RDMSR, WRMSR and the time-stamp counter."""

import pytest

from vtx.isa.msrs import slot_of
from vtx.isa.program import routine
from vtx.spec import msrs

GP = 13
CODE = 0x10000


def write_msr(index: int, value: int) -> str:
    low, high = value & 0xFFFFFFFF, value >> 32
    return f"mov ecx, {index}\nmov eax, {low}\nmov edx, {high}\nwrmsr"


def test_written_values_read_back_in_two_halves(long):
    value = 0xFFFF8000_12345678
    long.run(write_msr(0xC0000082, value) + "\nmov rax, -1\nmov rdx, -1\nrdmsr", most=7)
    assert (long["rax"], long["rdx"], long["lstar"]) == (0x12345678, 0xFFFF8000, value)


@pytest.mark.parametrize(
    ("index", "value"),
    [
        (0x12345, 0),  # no such MSR
        (0xC0000080, 0xD01 | 1 << 12),  # a reserved bit
        (0xC0000080, 0xC01),  # LME while paging is on
        (0xC0000102, 1 << 47),  # not canonical
        (0xCE, 0),  # read-only
        (0x277, 2),  # a reserved memory type
        (0x277, 0x0300_0000_0000_0000),
        (0x3A, 5),  # locked
        (0xC0000103, 1 << 32),
        (0x200, 1 << 39),  # beyond the physical address width
    ],
)
def test_illegal_writes_fault_and_change_nothing(long, index, value):
    long["feature_control"] = 5
    before = long["efer"], long["pat"]
    assert long.fault(write_msr(index, value)) == (GP, 0)
    assert (long["efer"], long["pat"]) == before


@pytest.mark.parametrize("index", [0x12345, 0x79, 0x480])
def test_illegal_reads_fault(long, index):
    assert long.fault(f"mov ecx, {index}\nrdmsr") == (GP, 0)


def test_capability_msrs_exist_where_vmx_is_advertised(long):
    long["cr4_allowed"] |= 1 << 13
    long.run("mov ecx, 0x486\nrdmsr", most=2)
    assert long["rax"] == 0x80000021


def test_efer_keeps_lma_whatever_is_written(long):
    long.run(write_msr(0xC0000080, 0x901), most=4)
    assert long["efer"] == 0xD01


def test_every_msr_of_the_table_can_be_read_or_is_write_only(long):
    for row in msrs():
        if row.index < 0x480 or 0x500 <= row.index < 0x800 or row.index > 0x8FF:
            if row.name == "IA32_TSC_DEADLINE":
                continue
            result = long.engine.call("read_msr", row.index)
            assert result is not None and result[0] == (row.access != "wo"), row.name


def test_every_writable_msr_has_a_place():
    special = {"IA32_TIME_STAMP_COUNTER", "IA32_TSC_DEADLINE"}
    for row in msrs():
        x2apic, vmx = 0x800 <= row.index <= 0x8FF, 0x480 <= row.index < 0x500
        if row.writable and not x2apic and not vmx:
            assert slot_of(row) or row.name in special, row.name
    assert routine("write_msr").results == (1,)


def test_only_ring_0_reads_and_writes(long):
    long.user()
    assert long.fault("rdmsr") == (GP, 0)


def test_rdtsc_counts_instructions_and_wrmsr_sets_it(long):
    long.run("rdtsc\nmov ebx, eax\nnop\nnop\nrdtsc\nsub eax, ebx", most=6)
    assert long["rax"] == 4
    long["rip"] = CODE
    long.run(write_msr(0x10, 1000) + "\nrdtsc", most=5)
    assert long["rax"] == 1001
    adjust = long["tsc_adjust"]
    long["rip"] = CODE
    long.run("mov ecx, 0x3b\nrdmsr", most=2)
    assert long["rax"] == adjust & 0xFFFFFFFF


def test_tsd_keeps_rdtsc_to_ring_0(long):
    long["cr4"] = 0x24
    long.run("rdtsc", most=1)
    assert long["rip"] == CODE + 2
    long.user()
    long["rip"] = CODE
    assert long.fault("rdtsc") == (GP, 0)


def test_rdtscp_also_reads_tsc_aux(long):
    long["tsc_aux"], long["rcx"] = 0x77, (1 << 64) - 1
    long.run("rdtscp", most=1)
    assert long["rcx"] == 0x77


def test_there_are_no_performance_counters(long):
    assert long.fault("rdpmc") == (GP, 0)


# --- in VMX non-root operation ---------------------------------------------------------------


def test_the_offset_is_added_in_a_guest(long):
    long["vmx"], long["proc_controls"], long["tsc_offset"] = 2, 1 << 3, 5000
    now = long.cpu.now()
    long.run("rdtsc\nmov ebx, eax\nmov ecx, 0x10\nrdmsr", most=1)
    assert long["rax"] == now + 5000


@pytest.mark.parametrize(
    ("index", "writes", "bit", "expected"),
    [
        (0x10, 0, 0x10, 1),
        (0x11, 0, 0x10, 0),
        (0xC0000080, 0, 0x400 * 8 + 0x80, 1),
        (0x10, 1, 0x800 * 8 + 0x10, 1),
        (0x10, 1, 0x10, 0),
        (0xC0000082, 1, 0xC00 * 8 + 0x82, 1),
        (0x2000, 0, 0, 1),
        (0xC0002000, 1, 0, 1),
    ],
)
def test_msr_bitmaps(long, index, writes, bit, expected):
    long["msr_bitmap"] = 0x6000
    long.write(0x6000 + bit // 8, 1 << bit % 8, 1)
    assert long.engine.call("msr_bitmap_hit", index, writes) == (expected,)
