"""VM-entry checks: stable ids, order, and results that other tables know."""

import re

import pytest

from vtx import spec


def test_ids_and_orders_are_unique_and_rising():
    rows = spec.entry_checks()
    assert len(rows) >= 62
    assert len({row.id for row in rows}) == len(rows)
    assert [row.order for row in rows] == list(range(1, len(rows) + 1))


@pytest.mark.parametrize("row", spec.entry_checks(), ids=lambda row: row.id)
def test_an_id_is_its_stage_and_a_kebab_name(row):
    assert re.fullmatch(rf"{row.stage}\.[a-z0-9]+(-[a-z0-9]+)*", row.id)
    assert row.see.startswith("SDM 3C, ")


def test_the_stage_decides_what_failure_gives():
    for row in spec.entry_checks():
        if row.stage in ("control", "exit-control", "entry-control"):
            assert row.error_number == 7
        elif row.stage == "host":
            assert row.error_number == 8
        elif row.stage == "guest":
            assert row.exit_number == 33 and row.qualification in (0, 2, 3, 4)
        elif row.stage == "msr-load":
            assert row.exit_number == 34 and row.qualification is None
        if row.error_number is not None:
            assert spec.instruction_error(row.error_number)
        if row.exit_number is not None:
            assert spec.exit_reason(row.exit_number).entry_failure


def test_every_field_or_msr_a_check_names_exists():
    groups = r"GUEST|HOST|VMENTRY|VMEXIT|CR3_TARGET|EPT_P|IA32_VMX"
    for row in spec.entry_checks():
        for name in re.findall(rf"\b(?:{groups})[A-Z0-9_]+\b", row.text):
            assert spec.msr(name) if name.startswith("IA32") else spec.field(name)


def test_a_check_is_found_by_id_and_a_misspelt_id_gets_suggestions():
    assert spec.entry_check("control.cr3-target-count").error_number == 7
    with pytest.raises(spec.SpecError, match=r"did you mean control\.cr3-target-count"):
        spec.entry_check("control.cr3-target")
