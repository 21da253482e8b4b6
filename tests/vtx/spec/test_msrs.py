"""MSRs: unique, and reset values that their own masks allow."""

import pytest

from vtx import spec

MAXPHYADDR = spec.profile("haswell").maxphyaddr


def test_names_and_indexes_are_unique():
    assert len({row.name for row in spec.msrs()}) == len(spec.msrs())
    assert len({row.index for row in spec.msrs()}) == len(spec.msrs())


@pytest.mark.parametrize("row", spec.msrs(), ids=lambda row: row.name)
def test_masks_and_reset_value_are_consistent(row):
    assert row.writable & row.ignored == 0
    assert row.access != "ro" or not (row.writable or row.ignored)
    assert not row.computed or row.reset == 0
    if row.access == "rw":
        assert row.reset & row.reserved(MAXPHYADDR) == 0
    ranges = [bits.mask for bits in row.bits]
    assert sum(ranges) == sum(set(ranges)) < 1 << 64


@pytest.mark.parametrize("row", spec.msrs(), ids=lambda row: row.name)
def test_bit_ranges_do_not_overlap_and_cover_what_is_writable_where_given(row):
    seen = 0
    for bits in row.bits:
        assert seen & bits.mask == 0
        seen |= bits.mask
    if row.bits and row.access == "rw":
        assert row.writable & ~seen == 0


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("IA32_APIC_BASE", 0x1B),
        ("IA32_FEATURE_CONTROL", 0x3A),
        ("IA32_PAT", 0x277),
        ("IA32_VMX_BASIC", 0x480),
        ("IA32_X2APIC_ICR", 0x830),
        ("IA32_EFER", 0xC0000080),
        ("IA32_TSC_AUX", 0xC0000103),
    ],
)
def test_well_known_msrs(name, index):
    assert spec.msr(name).index == index
    assert spec.msr(index) is spec.msr(hex(index)) is spec.msr(name)
    assert getattr(spec.MSRS, name) == index


def test_address_bits_past_maxphyaddr_are_reserved_in_the_apic_base():
    assert spec.msr("IA32_APIC_BASE").reserved(39) >> 39 == (1 << 25) - 1
    assert spec.msr("IA32_APIC_BASE").reserved(52) >> 52 == (1 << 12) - 1


def test_unknown_msrs_are_refused():
    with pytest.raises(spec.SpecError, match="no MSR has index 0x12345"):
        spec.msr(0x12345)
    with pytest.raises(spec.SpecError, match="did you mean IA32_EFER"):
        spec.msr("IA32_EFFER")
