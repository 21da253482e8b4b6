"""`vtx doctor`."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from importlib.metadata import version

import pytest
from click.testing import Result

from vtx.cli.doctor import PACKAGES, PROGRAMS

Cli = Callable[..., Result]


def test_everything_is_listed(cli: Cli) -> None:
    result = cli("doctor")

    assert result.exit_code == 0
    for name in (*PACKAGES, *PROGRAMS, "reference", platform.python_version()):
        assert name in result.stdout


def test_json_has_versions_engines_oracles_and_host(cli: Cli) -> None:
    found = json.loads(cli("doctor", "--json").stdout)

    assert found["python"]["version"] == platform.python_version()
    assert found["packages"]["click"] == version("click")
    assert found["engines"]["reference"] is True
    assert set(found["oracles"]) == {*PROGRAMS, "unicorn"}
    assert found["host"]["machine"] == platform.machine()


def test_what_is_missing_is_told_and_is_no_failure(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    result = cli("doctor")
    found = json.loads(cli("doctor", "--json").stdout)

    assert result.exit_code == 0
    assert "not found" in result.stdout
    assert found["oracles"]["gdb"] is None


def test_programs_are_found_where_the_path_says(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    program = tmp_path / "gdb"  # type: ignore[operator]
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert json.loads(cli("doctor", "--json").stdout)["oracles"]["gdb"] == str(program)
