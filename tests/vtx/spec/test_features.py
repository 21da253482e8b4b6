"""CPUID feature bits and profiles."""

import pytest

from vtx import spec


def test_feature_names_and_places_are_unique():
    rows = spec.features()
    assert len({row.name for row in rows}) == len(rows)
    assert len({(row.leaf, row.subleaf, row.register, row.bit) for row in rows}) == len(rows)
    assert all(0 <= row.bit < 32 for row in rows)


@pytest.mark.parametrize("cpu", spec.profiles(), ids=lambda cpu: cpu.name)
def test_a_profile_names_known_features_and_controls(cpu):
    assert cpu.features == {spec.feature(name).name for name in cpu.features}
    assert cpu.controls == {spec.control(name).id for name in cpu.controls}
    assert len(cpu.brand) < 48 and len(cpu.vendor) == 12


def test_haswell_is_what_the_silicon_is():
    cpu = spec.profile("haswell")
    assert (cpu.maxphyaddr, cpu.signature) == (39, 0x306C3)
    assert {"SMEP", "INVPCID", "PCID", "RDRAND", "AVX2", "TSC_DEADLINE", "VMX"} <= cpu.features
    assert not {"SMAP", "RDSEED", "ADX", "UMIP", "XSAVES", "HYPERVISOR"} & cpu.features


def test_haswell_without_ept_differs_in_nothing_else():
    full, less = spec.profile("haswell"), spec.profile("haswell-noept")
    assert full.has_ept and not less.has_ept
    assert less.features == full.features
    assert full.controls - less.controls == {
        "sec.ENABLE_EPT",
        "sec.ENABLE_VPID",
        "sec.UNRESTRICTED_GUEST",
        "sec.ENABLE_VM_FUNCTIONS",
        "vmfunc.EPTP_SWITCHING",
    }
    assert less.ept_vpid_cap == 0


def test_the_profile_max_has_smap():
    assert "SMAP" in spec.profile("max").features > spec.profile("haswell").features


def test_unknown_names_are_refused_with_suggestions():
    with pytest.raises(spec.SpecError, match="no CPU profile is called 'hasswell'; did you mean"):
        spec.profile("hasswell")
    with pytest.raises(spec.SpecError, match="did you mean SMEP"):
        spec.feature("SMEPP")
