"""How a test says which rows of the tables it tests, and who collects that.

    @pytest.mark.covers("exit.CPUID")                   on a test, a class, or a pytest.param
    @pytest.mark.covers("control.proc.HLT_EXITING", "exit.HLT")
    pytestmark = pytest.mark.covers("check.msr-load.wrmsr")

A row is `check.` with the id of a VM-entry check, `control.` with word.NAME, or `exit.` with the
name of an exit reason, as `vtx spec conformance` lists them; a row that no table has is an error
of collection. Whoever adds a mark, or builds something that has a row, runs
`vtx spec conformance --update`: it collects the marks (nothing is run) and writes
spec/conformance.toml and the generated part of spec/CONFORMANCE.md. A row that is advertised
and has no test fails tests/test_conformance.py; so do files that are out of date.

A test that may kill a mutant (`vtx spec conformance --mutate`) must fail when its row's predicate,
control or exit is turned around. Mutants run with the reference engine.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

OPTION = "--covers-to"


def rows_of(item: pytest.Item) -> set[str]:
    """The rows that an item's marks name."""
    return {row for mark in item.iter_markers("covers") for row in mark.args}


def check_marks(items: Sequence[pytest.Item]) -> None:
    """Raise UsageError for a mark that names no row."""
    from vtx.vmx.conformance import row_ids

    for item in items:
        unknown = rows_of(item) - row_ids()
        if unknown:
            raise pytest.UsageError(f"{item.nodeid} covers {sorted(unknown)}, which no table has")


def write_marks(items: Sequence[pytest.Item], path: Path) -> None:
    """Row -> the ids of the tests that name it, as JSON."""
    found: dict[str, list[str]] = {}
    for item in items:
        for row in sorted(rows_of(item)):
            found.setdefault(row, []).append(item.nodeid)
    path.write_text(json.dumps(found))
