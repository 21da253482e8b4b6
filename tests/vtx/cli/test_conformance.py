"""`vtx spec conformance`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from click.testing import Result

from vtx.vmx import conformance

Cli = Callable[..., Result]


def test_json_counts_and_lists_every_row(cli: Cli) -> None:
    result = cli("spec", "conformance", "--json")

    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert set(found["counts"]) == {"check", "control", "exit"}
    for kind, count in found["counts"].items():
        assert count["rows"] == sum(row["kind"] == kind for row in found["rows"])
    cpuid = next(row for row in found["rows"] if row["id"] == "exit.CPUID")
    assert cpuid["built"] and cpuid["advertised"] and cpuid["tested"]
    assert cpuid["tests"]


def test_the_text_has_a_line_a_row_and_the_counts(cli: Cli) -> None:
    lines = cli("spec", "conformance").stdout.splitlines()

    assert any(line.startswith("check.guest.rflags-reserved ") for line in lines)
    assert any(line.startswith("exit.ENCLS ") and "not built" in line for line in lines)
    assert lines[-1].startswith("Exit reasons ")


def test_an_advertised_row_without_a_test_ends_with_1(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = tuple(
        replace(row, tests=()) if row.id == "exit.CPUID" else row for row in conformance.rows()
    )
    monkeypatch.setattr(conformance, "rows", lambda: found)
    monkeypatch.setattr("vtx.view.conformance.rows", lambda: found)

    result = cli("spec", "conformance")

    assert result.exit_code == 1
    (line,) = (line for line in result.stdout.splitlines() if line.startswith("exit.CPUID "))
    assert "advertised, NO TEST" in line
