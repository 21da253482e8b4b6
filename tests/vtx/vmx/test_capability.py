"""Capability MSRs follow from what is built, and agree with each other."""

import pytest

from vtx.isa.tables import table
from vtx.spec import MSRS, Profile, control, control_word, field, profiles
from vtx.vmx.capability import (
    IMPLEMENTED_CONTROLS,
    REGION_SIZE,
    REVISION,
    allowed_controls,
    capability_msrs,
    profile_number,
)
from vtx.vmx.vmcs import OFFSETS

PROFILES = pytest.mark.parametrize("profile", profiles(), ids=lambda p: p.name)
PAIRS = (
    (MSRS.IA32_VMX_PINBASED_CTLS, MSRS.IA32_VMX_TRUE_PINBASED_CTLS),
    (MSRS.IA32_VMX_PROCBASED_CTLS, MSRS.IA32_VMX_TRUE_PROCBASED_CTLS),
    (MSRS.IA32_VMX_EXIT_CTLS, MSRS.IA32_VMX_TRUE_EXIT_CTLS),
    (MSRS.IA32_VMX_ENTRY_CTLS, MSRS.IA32_VMX_TRUE_ENTRY_CTLS),
)


def test_every_built_control_is_in_the_tables() -> None:
    assert {control(name).id for name in IMPLEMENTED_CONTROLS} == IMPLEMENTED_CONTROLS


@PROFILES
def test_the_true_msrs_allow_more_zeros_and_the_same_ones(profile: Profile) -> None:
    msrs = capability_msrs(profile)
    for plain, true in PAIRS:
        assert msrs[plain] >> 32 == msrs[true] >> 32
        assert msrs[true] & ~msrs[plain] & 0xFFFF_FFFF == 0
        assert msrs[plain] & ~(msrs[plain] >> 32) & 0xFFFF_FFFF == 0


@PROFILES
def test_a_control_may_be_1_exactly_if_it_is_built_and_in_the_silicon(profile: Profile) -> None:
    msrs = capability_msrs(profile)
    for word, index in (("pin", 0x48D), ("proc", 0x48E), ("sec", 0x48B), ("exit", 0x48F),
                        ("entry", 0x490)):  # fmt: skip
        may = msrs[index] >> 32
        fixed = control_word(word).true_default1
        named = {c for c in allowed_controls(profile) if c.startswith(f"{word}.")}
        assert may == fixed | sum(
            control(name).mask for name in named if not fixed & control(name).mask
        )


@PROFILES
def test_basic_reports_the_revision_and_a_region_that_holds_every_field(profile: Profile) -> None:
    basic = capability_msrs(profile)[MSRS.IA32_VMX_BASIC]
    assert basic & 0xFFFF_FFFF == REVISION
    assert basic >> 32 & 0x1FFF == REGION_SIZE
    assert max(OFFSETS.values()) + 8 <= REGION_SIZE


def test_without_ept_no_trace_of_it_is_left() -> None:
    number = profile_number("haswell-noept")
    msrs = capability_msrs(profiles()[number])
    assert MSRS.IA32_VMX_EPT_VPID_CAP not in msrs
    secondary = msrs[MSRS.IA32_VMX_PROCBASED_CTLS2] >> 32
    for name in ("ENABLE_EPT", "ENABLE_VPID", "UNRESTRICTED_GUEST"):
        assert secondary & control(name).mask == 0
    assert msrs[MSRS.IA32_VMX_MISC] & 1 << 5 == 0
    fields = table("vmcs_fields")
    for name in ("EPT_POINTER", "VPID", "GUEST_PHYSICAL_ADDRESS"):
        assert number << 16 | field(name).encoding not in fields
        assert field(name).encoding in fields


def test_haswell_has_the_ept_of_its_silicon() -> None:
    silicon = profiles()[profile_number("haswell")]
    assert capability_msrs(silicon)[MSRS.IA32_VMX_EPT_VPID_CAP] == silicon.ept_vpid_cap


@PROFILES
def test_vmcs_enum_is_the_highest_index_that_vmread_knows(profile: Profile) -> None:
    number = profile_number(profile.name)
    known = [key & 0xFFFF for key in table("vmcs_fields") if key >> 16 == number]
    highest = max(encoding >> 1 & 0x1FF for encoding in known)
    assert capability_msrs(profile)[MSRS.IA32_VMX_VMCS_ENUM] == highest << 1
