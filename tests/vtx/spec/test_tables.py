"""Reading tables: typed rows or one clear line."""

import dataclasses

import pytest

from vtx import spec
from vtx.spec import tables


@dataclasses.dataclass(frozen=True)
class Row:
    name: str
    number: int


def test_a_row_of_the_wrong_shape_is_refused_with_its_place():
    with pytest.raises(tables.SpecError, match=r"x\.toml, rows\[3\].*number"):
        tables.typed({"name": "a"}, Row, "x.toml, rows[3]")
    with pytest.raises(tables.SpecError, match="Expected `int`"):
        tables.typed({"name": "a", "number": "1"}, Row, "x.toml")


def test_a_missing_table_is_refused():
    with pytest.raises(tables.SpecError, match=r"no_such_table\.toml is missing"):
        tables.read_table("no_such_table")


@pytest.mark.parametrize("text", [b"rows = [", b"\xff\xfe"])
def test_a_broken_table_is_refused_in_one_line(tmp_path, monkeypatch, text):
    (tmp_path / "broken_one.toml").write_bytes(text)
    monkeypatch.setattr(tables, "tables_directory", lambda: tmp_path)
    tables.read_table.cache_clear()
    with pytest.raises(tables.SpecError, match=r"broken_one\.toml") as caught:
        tables.read_table("broken_one")
    assert "\n" not in str(caught.value)
    tables.read_table.cache_clear()


def test_every_key_of_every_row_is_a_column():
    for table, key, row_type in [
        ("vmcs_fields", "fields", spec.VmcsField),
        ("exit_reasons", "exits", spec.ExitReason),
        ("instruction_errors", "errors", spec.InstructionError),
        ("vmx_controls", "controls", spec.Control),
        ("vmx_controls", "words", spec.ControlWord),
        ("entry_checks", "checks", spec.EntryCheck),
        ("ept_bits", "bits", spec.EptBits),
        ("vmx_formats", "layouts", spec.Layout),
        ("vmx_formats", "areas", spec.AreaPart),
        ("exit_qualifications", "qualifications", spec.Layout),
        ("cpuid", "features", spec.Feature),
        ("memory_map", "regions", spec.Region),
        ("memory_map", "ports", spec.PortRange),
    ]:
        columns = {column.name for column in dataclasses.fields(row_type)}
        for row in tables.read_table(table)[key]:
            assert set(row) <= columns, (table, row)
    columns = {column.name for column in dataclasses.fields(spec.ExceptionVector)}
    for row in tables.read_table("exceptions")["exceptions"]:
        assert set(row) - {"class"} <= columns


def test_names_are_looked_up_once_and_a_wrong_one_is_refused():
    reads = []
    names = tables.Names("thing", lambda: reads.append(1) or {"ONE": 1, "TWO": 2})
    assert names.ONE == names.ONE == 1
    assert len(reads) == 1
    with pytest.raises(tables.SpecError, match="no thing is called 'ONEE'; did you mean ONE"):
        _ = names.ONEE
    assert dir(names) == ["ONE", "TWO"]
