"""`--engine`: the executors by name, and what is told where the native one cannot be had."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result

from tests.vtx.engines import NATIVE
from vtx.cli.guest import ENGINES
from vtx.engine.choice import NAMES, native_problem, resolve_engine
from vtx.engine.native import compiler, library

Cli = Callable[..., Result]
HELLO = Path(__file__).parents[3] / "guests" / "hello" / "hello.s"


@pytest.fixture
def without_llvm(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A host that has no llvmlite, and nothing compiled from before."""
    monkeypatch.setattr(library, "is_kept", lambda: False)
    monkeypatch.setattr(compiler, "find_spec", lambda name: None)
    compiler.host_compiler.cache_clear()
    yield
    compiler.host_compiler.cache_clear()


def test_the_names_are_those_that_the_engines_have() -> None:
    assert ENGINES == NAMES


@pytest.mark.parametrize("engine", ["auto", "reference", "evaluate", NATIVE])
def test_a_guest_runs_on_every_engine(cli: Cli, engine: str) -> None:
    result = cli("run", HELLO, "--engine", engine, "--vmm", "bare", "--stats", "json")

    assert result.exit_code == 0, result.stderr
    assert result.stdout == cli("run", HELLO, "--vmm", "bare").stdout != ""
    used = json.loads(result.stderr.splitlines()[-1])["engine"]
    assert used == (resolve_engine("auto")[0] if engine == "auto" else engine)


def test_an_unknown_engine_is_told_in_one_line(cli: Cli) -> None:
    result = cli("run", HELLO, "--engine", "turbo")

    assert result.exit_code == 2
    assert "turbo" in result.stderr.splitlines()[-1]
    assert all(name in result.stderr.splitlines()[-1] for name in NAMES)
    assert result.stdout == ""


@pytest.mark.usefixtures("without_llvm")
def test_a_native_engine_that_is_missing_is_told_in_one_line(cli: Cli) -> None:
    result = cli("run", HELLO, "--engine", "native")

    assert native_problem() is not None
    assert result.exit_code == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line == f"vtx: error: --engine native: {native_problem()}"


def test_auto_goes_on_with_the_reference_where_the_native_engine_is_missing(
    cli: Cli, request: pytest.FixtureRequest
) -> None:
    usual, _ = resolve_engine("auto")
    request.getfixturevalue("without_llvm")
    result = cli("run", HELLO, "--engine", "auto", "--vmm", "bare", "--stats", "json")

    assert result.exit_code == 0, result.stderr
    *notes, statistics = result.stderr.splitlines()
    assert json.loads(statistics)["engine"] == "reference"
    assert len(notes) == (1 if usual == "native" else 0)
    assert all(str(native_problem()) in note for note in notes)


def test_the_doctor_says_whether_the_native_engine_can_be_used(cli: Cli) -> None:
    found = json.loads(cli("doctor", "--json").stdout)

    assert found["engines"]["native"] is (native_problem() is None)
    assert found["native_problem"] == native_problem()


@pytest.mark.usefixtures("without_llvm")
def test_the_doctor_says_why_it_cannot(cli: Cli) -> None:
    lines = cli("doctor").stdout.splitlines()
    found = json.loads(cli("doctor", "--json").stdout)

    assert f"  native       not available: {native_problem()}" in lines
    assert found["engines"] == {"reference": True, "native": False}
