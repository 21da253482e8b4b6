"""Control words and bits agree with each other, with the MSRs and with the fields."""

import pytest

from vtx import spec

WORDS = [row.word for row in spec.control_words()]


def test_there_are_105_controls_with_unique_places_and_ids():
    assert len(spec.controls()) == 105
    assert len({row.id for row in spec.controls()}) == 105
    assert len({(row.word, row.bit) for row in spec.controls()}) == 105
    assert WORDS == ["pin", "proc", "sec", "ter", "exit", "exit2", "entry", "vmfunc"]


@pytest.mark.parametrize("name", WORDS)
def test_named_controls_are_what_lies_between_the_two_default1_masks(name):
    word = spec.control_word(name)
    named = sum(row.mask for row in spec.controls(name) if row.default1)
    assert word.true_default1 | named == word.default1
    assert word.true_default1 & named == 0
    others = sum(row.mask for row in spec.controls(name) if not row.default1)
    assert others & word.default1 == 0
    assert others < 1 << word.width


@pytest.mark.parametrize("name", WORDS)
def test_a_word_names_a_field_of_its_width_and_capability_msrs(name):
    word = spec.control_word(name)
    assert spec.field(word.field).bits == word.width
    assert spec.msr(word.capability_msr).access == "ro"
    if word.true_capability_msr:
        plain, true = spec.msr(word.capability_msr), spec.msr(word.true_capability_msr)
        assert true.name == plain.name.replace("IA32_VMX_", "IA32_VMX_TRUE_")
    assert bool(word.true_capability_msr) == bool(word.default1)


def test_a_control_is_found_by_name_and_by_word_and_name():
    assert spec.control("ENABLE_EPT").mask == 2
    assert spec.control("sec.ENABLE_EPT") is spec.control("enable_ept")
    assert spec.control("exit.LOAD_PAT").mask == 1 << 19
    assert spec.control("entry.LOAD_PAT").mask == 1 << 14
    assert spec.CONTROLS.HLT_EXITING.mask == 0x80


def test_a_name_that_two_words_share_needs_its_word():
    with pytest.raises(spec.SpecError, match=r"say which: exit\.LOAD_PAT, entry\.LOAD_PAT"):
        spec.control("LOAD_PAT")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [("HLT_EXITTING", "HLT_EXITING"), ("sec.ENABLE_ETP", r"sec\.ENABLE_EPT"), ("", "called ''")],
)
def test_a_misspelt_control_is_refused_with_suggestions(wrong, said):
    with pytest.raises(spec.SpecError, match=said):
        spec.control(wrong)


def test_an_unknown_word_is_refused():
    with pytest.raises(spec.SpecError, match="no control word is called 'pim'; did you mean pin"):
        spec.controls("pim")
