"""Exit reasons and VM-instruction errors."""

import pytest

from vtx import spec


def test_there_are_80_exit_reasons_with_unique_names_and_numbers():
    rows = spec.exit_reasons()
    assert len(rows) == len({row.name for row in rows}) == len({row.number for row in rows}) == 80


def test_an_exit_reason_is_found_by_name_number_and_text():
    assert spec.exit_reason("EPT_VIOLATION").number == spec.EXITS.EPT_VIOLATION == 48
    assert spec.exit_reason(48) is spec.exit_reason("48") is spec.exit_reason("ept_violation")


def test_the_entry_failures_are_33_34_and_41():
    assert [row.number for row in spec.exit_reasons() if row.entry_failure] == [33, 34, 41]


def test_every_instruction_information_layout_exists():
    names = {row.info_layout for row in spec.exit_reasons()} - {""}
    assert names == {spec.layout(name).name for name in names}


def test_memory_operand_layouts_go_with_a_displacement_qualification():
    for row in spec.exit_reasons():
        if row.info_layout in ("invept", "gdtr-idtr", "ldtr-tr", "vmclear", "vmread"):
            assert spec.qualification(row.number).name == "displacement", row.name


def test_unknown_reasons_are_refused():
    with pytest.raises(spec.SpecError, match="no exit reason has number 35"):
        spec.exit_reason(35)
    with pytest.raises(spec.SpecError, match="did you mean EPT_VIOLATION"):
        spec.exit_reason("EPT_VIOLATE")


def test_there_are_25_instruction_errors_and_14_21_27_are_none():
    assert len(spec.instruction_errors()) == 25
    for number in (0, 14, 21, 27, 29):
        with pytest.raises(spec.SpecError, match=f"number {number}"):
            spec.instruction_error(number)
    assert "control field" in spec.instruction_error(7).meaning
