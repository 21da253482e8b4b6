"""Where the guest's console goes."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from vtx.cli.console import progress, progress_by_style, serial
from vtx.cli.errors import InputError


def test_stdio_writes_bytes_to_standard_output_at_once(capfdbinary: object) -> None:
    with serial("stdio") as console:
        assert console is not None
        console(b"\xff\x00hello")
        assert capfdbinary.readouterr().out == b"\xff\x00hello"  # type: ignore[attr-defined]


@pytest.mark.parametrize("where", ["none", "null"])
def test_none_has_no_sink(where: str) -> None:
    with serial(where) as console:
        assert console is None


@pytest.mark.parametrize("prefix", ["", "file:"])
def test_a_file_has_each_byte_as_it_came(tmp_path: Path, prefix: str) -> None:
    path = tmp_path / "console"
    with serial(f"{prefix}{path}") as console:
        assert console is not None
        console(b"one\n")
        assert path.read_bytes() == b"one\n"
        console(b"two")
    assert path.read_bytes() == b"one\ntwo"


def test_a_file_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match=r"cannot write .*: No such file"),
        serial(f"file:{tmp_path}/no/file"),
    ):
        pass


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_shown_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with progress("guest") as report:
        assert report is None


def test_progress_counts_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with progress("guest", 1000) as report:
        assert report is not None
        report(500)
    assert "guest" in terminal.getvalue()
    with progress("guest", shown=False) as report:
        assert report is None


def test_progress_of_a_comparison_names_the_style(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with progress_by_style("guest") as report:
        assert report is not None
        report("shadow", 500)

    assert "guest shadow" in terminal.getvalue()
