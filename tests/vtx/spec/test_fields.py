"""The VMCS field table agrees with the encodings' own bit fields."""

import pytest

from vtx import spec
from vtx.spec.fields import GROUP_CODE, WIDTH_CODE


def test_there_are_206_fields_with_unique_names_and_encodings():
    assert len(spec.fields()) == 206
    assert len({row.name for row in spec.fields()}) == 206
    assert len({row.encoding for row in spec.fields()}) == 206


@pytest.mark.parametrize("row", spec.fields(), ids=lambda row: row.name)
def test_columns_agree_with_the_encoding(row):
    assert row.encoding & 1 == 0
    assert row.encoding >> 1 & 0x1FF == row.index
    assert GROUP_CODE[row.encoding >> 10 & 3] == row.group
    assert WIDTH_CODE[row.encoding >> 13 & 3] == row.width
    assert row.encoding & ~0x6FFF == 0
    assert (row.access == "full+high") == (row.width == "64")


def test_fields_stand_in_order_of_encoding():
    encodings = [row.encoding for row in spec.fields()]
    assert encodings == sorted(encodings)


def test_a_field_is_found_by_name_encoding_high_encoding_and_text():
    row = spec.field("GUEST_RIP")
    assert row.encoding == 0x681E
    assert spec.field(0x681E) is spec.field("0x681e") is spec.field("guest_rip") is row
    assert spec.field(0x2001) is spec.field("IO_BITMAP_A")
    assert spec.FIELDS.GUEST_RIP == 0x681E


def test_every_condition_of_existence_is_a_control():
    conditions = {one for row in spec.fields() for one in row.exists_if} - {"seam"}
    assert conditions == {spec.control(one).id for one in conditions}


def test_a_field_exists_where_any_of_its_controls_is_allowed():
    assert spec.field("GUEST_RIP").exists(())
    assert spec.field("EPT_POINTER").exists({"sec.ENABLE_EPT"})
    assert not spec.field("EPT_POINTER").exists({"sec.ENABLE_VPID"})
    assert spec.field("GUEST_IA32_PAT").exists({"exit.SAVE_PAT"})


@pytest.mark.parametrize("name", ["GUEST_RIP", "VM_INSTRUCTION_ERROR", "EPT_POINTER", "VPID"])
def test_widths_and_masks(name):
    row = spec.field(name)
    assert row.mask.bit_length() == row.bits == {"natural": 64}.get(row.width) or int(row.width)


@pytest.mark.parametrize("row", spec.fields(), ids=lambda row: row.name)
def test_every_field_says_what_it_is_and_where_the_manual_says_so(row):
    assert row.meaning
    assert row.see.startswith("SDM 3") or row.exists_if == ("seam",)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("GUEST_RIPP", "no VMCS field is called 'GUEST_RIPP'; did you mean GUEST_RIP"),
        ("qqqqqqqqqqqq", "no VMCS field is called 'qqqqqqqqqqqq'"),
        (0x681F, "high access to a natural-bit field"),
        (0x8000, "reserved bits are set"),
        (-1, "reserved bits are set"),
        (0x6830, "(guest, width natural, index 24)"),
    ],
)
def test_a_wrong_name_or_encoding_is_refused_in_one_helpful_line(wrong, said):
    with pytest.raises(spec.SpecError) as caught:
        spec.field(wrong)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
