"""Raw CPUID leaves follow from a profile and the implemented features, and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtx import spec

HASWELL = spec.profile("haswell")
REGISTERS = ("eax", "ebx", "ecx", "edx")


def bit(words, row):
    return words.get((row.leaf, row.subleaf), (0, 0, 0, 0))[REGISTERS.index(row.register)] & (
        row.mask
    )


@given(st.frozensets(st.sampled_from([row.name for row in spec.features()])))
def test_exactly_the_features_both_built_and_in_the_silicon_are_shown(built):
    words = spec.cpuid_words(built, "haswell")
    shown = {row.name for row in spec.features() if bit(words, row)}
    assert shown == spec.advertised(built, "haswell") == (built & HASWELL.features) - {"HTT"}


def test_identification_leaves():
    words = spec.cpuid_words(HASWELL.features, HASWELL)
    leaf0 = words[0, 0]
    vendor = b"".join(leaf0[i].to_bytes(4, "little") for i in (1, 3, 2))
    assert (leaf0[0], vendor) == (0xD, b"GenuineIntel")
    brand = b"".join(
        word.to_bytes(4, "little") for leaf in (2, 3, 4) for word in words[0x80000000 + leaf, 0]
    )
    assert brand.rstrip(b"\0").decode() == HASWELL.brand
    assert words[1, 0][0] == 0x306C3
    assert words[0x80000008, 0][0] == 48 << 8 | 39


def test_every_leaf_up_to_the_last_answers_and_fits_32_bits():
    for cpu in spec.profiles():
        words = spec.cpuid_words(cpu.features, cpu)
        for leaf in range(cpu.max_basic_leaf + 1):
            assert (leaf, 0) in words
        assert all(0 <= word < 1 << 32 for value in words.values() for word in value)
        assert max(leaf for leaf, _ in words if leaf < 0x80000000) == cpu.max_basic_leaf


@pytest.mark.parametrize("cpus", [1, 2, 6])
def test_cache_and_topology_leaves_agree(cpus):
    words = spec.cpuid_words(HASWELL.features, HASWELL, cpus=cpus, apic_id=cpus - 1)
    sizes = []
    for subleaf in range(4):
        eax, ebx, ecx, _ = words[4, subleaf]
        ways, line = (ebx >> 22) + 1, (ebx & 0xFFF) + 1
        sizes.append(ways * line * (ecx + 1) // 1024)
        assert (eax >> 26) + 1 >= cpus
    assert sizes == [32, 32, 256, 8192]
    assert words[4, 4][0] & 31 == 0
    assert words[0x80000006, 0][2] >> 16 == 256
    assert words[1, 0][1] >> 16 & 0xFF == words[0xB, 1][1] == cpus
    assert words[1, 0][1] >> 24 == words[0xB, 0][3] == words[0xB, 1][3] == cpus - 1
    assert cpus <= 1 << words[0xB, 1][0]
    assert bool(words[1, 0][3] >> 28 & 1) == (cpus > 1)


def test_extended_state_is_there_only_with_xsave():
    with_it = spec.cpuid_words({"XSAVE", "SSE", "AVX"}, HASWELL)
    assert with_it[0xD, 0] == (7, 576, 832, 0)
    assert with_it[0xD, 2] == (256, 576, 0, 0)
    without = spec.cpuid_words({"SSE", "AVX"}, HASWELL)
    assert without[0xD, 0] == (0, 0, 0, 0)
    assert (0xD, 2) not in without


def test_monitor_leaf_is_there_only_with_monitor():
    assert spec.cpuid_words({"MONITOR"}, HASWELL)[5, 0][:2] == (64, 64)
    assert spec.cpuid_words(set(), HASWELL)[5, 0] == (0, 0, 0, 0)


def test_leaf_15h_gives_the_tsc_frequency_of_the_clock_table():
    denominator, numerator, crystal, _ = spec.cpuid_words(set(), "max")[0x15, 0]
    assert crystal * numerator == spec.clock("tsc").hz * denominator


def test_a_leaf_past_the_last_answers_as_the_last_basic_one():
    words = spec.cpuid_words(HASWELL.features, HASWELL)
    for leaf in (0xE, 0x40000000, 0x80000009, 0xFFFFFFFF):
        assert spec.read_cpuid(words, leaf, 0) == words[0xD, 0]
    assert spec.read_cpuid(words, 1, 77) == words[1, 0]
    assert spec.read_cpuid(words, 4, 77) == (0, 0, 0, 0)
    assert spec.read_cpuid(words, 0xB, 5) == (0, 0, 5, 0)


def test_an_unknown_feature_is_refused():
    with pytest.raises(spec.SpecError, match="did you mean SMEP"):
        spec.cpuid_words({"SMEPP"}, "haswell")


def test_every_word_fits_a_register_however_many_cpus_there_are():
    for cpus in (1, 2, 64, 65, 255):
        words = spec.cpuid_words(HASWELL.features, "haswell", cpus=cpus, apic_id=cpus - 1)
        assert all(0 <= word < 1 << 32 for leaf in words.values() for word in leaf)
        assert words[4, 0][0] >> 26 == min(63, (1 << (cpus - 1).bit_length()) - 1)
        assert words[0xB, 1][1] == cpus
