"""Rows in words and as JSON."""

import json

import pytest

from vtx import spec


def test_a_field_in_words():
    said = spec.describe_field("GUEST_RIP")
    assert said[0] == "GUEST_RIP (0x681e): guest-state field, natural width (64 bits), index 15."
    assert "Source: SDM 3C, Guest Register State." in said
    assert spec.describe_field(0x681E) == said


def test_a_64_bit_field_names_its_high_encoding_and_its_control():
    said = "\n".join(spec.describe_field("EPT_POINTER"))
    assert "0x201b accesses bits 63:32" in said
    assert "allows sec.ENABLE_EPT." in said


def test_an_exit_in_words_lists_its_qualification():
    said = "\n".join(spec.describe_exit(48))
    assert said.startswith("EPT_VIOLATION (exit reason 48).")
    assert "gva_valid" in said
    assert spec.describe_exit("EPT_VIOLATION") == spec.describe_exit("48")


def test_a_control_in_words_names_word_msr_and_fields():
    said = "\n".join(spec.describe_control("ENABLE_EPT"))
    assert "bit 1 (mask 0x2) of SECONDARY_PROCBASED_CONTROLS" in said
    assert "IA32_VMX_PROCBASED_CTLS2" in said
    assert "EPT_POINTER" in said
    assert "IA32_VMX_TRUE_PROCBASED_CTLS can allow the setting 0" in "\n".join(
        spec.describe_control("CR3_LOAD_EXITING")
    )


def test_a_check_in_words_says_what_breaking_it_gives():
    said = "\n".join(spec.describe_check("host.cr3-width"))
    assert "VMfailValid 8" in said and "host-state" in said


@pytest.mark.parametrize(
    "describe,names",
    [
        (spec.describe_field, [row.name for row in spec.fields()]),
        (spec.describe_exit, [row.name for row in spec.exit_reasons()]),
        (spec.describe_control, [row.id for row in spec.controls()]),
        (spec.describe_msr, [row.name for row in spec.msrs()]),
        (spec.describe_check, [row.id for row in spec.entry_checks()]),
        (spec.describe_feature, [row.name for row in spec.features()]),
        (spec.describe_error, [row.number for row in spec.instruction_errors()]),
    ],
)
def test_every_row_has_lines_that_begin_well_and_end_in_a_stop(describe, names):
    for name in names:
        lines = describe(name)
        assert len(lines) >= 2 and str(name) in lines[0]
        for text in lines:
            assert text and "\n" not in text
            assert text.startswith("  ") or text[-1] in ".:"
            assert not text.endswith("..")


def test_rows_become_json_with_derived_columns():
    row = json.loads(json.dumps(spec.to_dict(spec.field("EPT_POINTER"))))
    assert (row["encoding"], row["high_encoding"]) == (0x201A, 0x201B)
    assert json.loads(json.dumps(spec.to_dict(spec.control("ENABLE_EPT"))))["mask"] == 2
    for several in (spec.msrs(), spec.profiles(), spec.qualifications(), spec.entry_checks()):
        assert all(json.dumps(spec.to_dict(one)) for one in several)


def test_what_is_no_row_has_no_json():
    with pytest.raises(spec.SpecError):
        spec.to_dict("GUEST_RIP")
