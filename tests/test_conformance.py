"""Promises name tests that exist; each row that software can meet has a test; nothing is stale."""

import re
from pathlib import Path

import pytest

from vtx.cli.conformance import collect
from vtx.spec import exit_reasons
from vtx.spec.tables import read_table
from vtx.view.conformance import BEGIN, markdown, toml
from vtx.vmx.conformance import UNBUILT_EXITS, counts, row_ids, rows

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "spec/CONFORMANCE.md").read_text()
PROMISES = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE.split(BEGIN)[0])


def test_there_are_promises() -> None:
    assert len(PROMISES) > 20


@pytest.mark.parametrize(("file", "name"), PROMISES)
def test_a_promise_names_a_test_that_exists(file: str, name: str) -> None:
    source = (ROOT / file).read_text()
    assert not name or re.search(rf"^def {name}\(", source, re.MULTILINE), f"{file} has no {name}"


def test_every_row_that_is_advertised_has_a_test() -> None:
    assert [row.id for row in rows() if row.missing] == []


def test_every_test_of_a_row_exists_and_every_row_is_in_a_table() -> None:
    covers = read_table("conformance")["covers"]

    assert set(covers) <= row_ids()
    for file, name in {tuple(test.split("::")) for tests in covers.values() for test in tests}:
        assert f"def {name}(" in (ROOT / file).read_text(), f"{file} has no {name}"


def test_the_list_of_tests_is_what_their_marks_say() -> None:
    """If not: vtx spec conformance --update."""
    assert (ROOT / "spec/conformance.toml").read_text() == toml(collect(ROOT))


def test_the_generated_part_of_the_page_is_not_stale() -> None:
    """If it is: vtx spec conformance --update."""
    assert markdown() in PAGE


def test_an_exit_reason_is_built_exactly_if_some_code_takes_it() -> None:
    rooms = ("isa", "vmx", "engine")
    sources = [path.read_text() for room in rooms for path in (ROOT / "vtx" / room).glob("*.py")]
    taken = {name for source in sources for name in re.findall(r"\bEXITS\.([A-Z_0-9]+)", source)}
    built = {row.id.split(".")[1] for row in rows() if row.kind == "exit" and row.built}

    assert built == taken
    assert set(UNBUILT_EXITS) <= {row.name for row in exit_reasons()}


def test_the_counts_are_those_of_the_rows() -> None:
    for kind, found in counts().items():
        of_kind = [row for row in rows() if row.kind == kind]
        assert found["rows"] == len(of_kind) > found["advertised"] > 30
        assert found["rows"] >= found["built"] >= found["advertised"]
        assert found["advertised_without_test"] == 0
