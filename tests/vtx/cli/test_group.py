"""How the command line is found, helps and fails."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import click
import pytest
from click.testing import CliRunner, Result

from vtx.cli.errors import InputError
from vtx.cli.group import COMMANDS, LazyGroup


def vtx(*arguments: str, **more: object) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "vtx", *arguments]
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        command, capture_output=True, timeout=60, stdin=subprocess.DEVNULL, check=False, **more
    )


def failing(error: BaseException) -> Result:
    """The result of a command that raises `error`."""

    @click.command()
    def broken() -> None:
        raise error

    group = LazyGroup("vtx", commands={"broken": (__name__, "It raises.")})
    globals()["broken"] = broken
    return CliRunner().invoke(group, ["broken"])


def test_every_command_of_the_table_exists_and_helps() -> None:
    for name, (module, said) in COMMANDS.items():
        command = getattr(import_module(module), name)

        assert isinstance(command, click.Command)
        assert command.help
        assert said.endswith((".", "?"))


def test_help_lists_every_command_and_imports_no_machine() -> None:
    code = (
        "import sys; from vtx.cli import vtx\n"
        "try: vtx.main(['--help'])\n"
        "finally: print(sorted(n for n in sys.modules if n.startswith(('vtx.', 'asm', 'rich'))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    *_, modules = done.stdout.splitlines()

    for name in COMMANDS:
        assert f"  {name} " in done.stdout
    assert eval(modules) == ["vtx.cli", "vtx.cli.errors", "vtx.cli.group"]


def test_no_command_is_help_and_a_usage_error() -> None:
    done = vtx()

    assert (done.returncode, done.stdout) == (2, b"")
    assert b"Commands:" in done.stderr


def test_the_version_is_printed() -> None:
    done = vtx("--version")

    assert done.returncode == 0
    assert done.stdout.startswith(b"vtx 0.")


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("run",),
        ("run", "--no-such-option", "x"),
        ("run", "x", "-m", "lots"),
        ("run", "x", "--engine", "steam"),
        ("run", "no-such-file"),
        ("compare", "no-such-file"),
        ("asm", "no-such-file.s", "-o", "out"),
        ("trace", "stat", "no-such-file"),
        ("spec", "field", "NO_SUCH_FIELD"),
    ],
)
def test_bad_usage_is_one_line_and_exit_status_2(arguments: tuple[str, ...]) -> None:
    done = vtx(*arguments)
    lines = done.stderr.decode().splitlines()

    assert (done.returncode, done.stdout) == (2, b"")
    if arguments != ("run",):
        assert len(lines) == 1
        assert lines[0].startswith("vtx: error: ")


def test_an_error_of_many_lines_becomes_one() -> None:
    result = failing(InputError("one\n  two\n"))

    assert (result.exit_code, result.stderr) == (2, "vtx: error: one two\n")


def test_ctrl_c_is_130() -> None:
    result = failing(KeyboardInterrupt())

    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1] == "vtx: error: interrupted"


def test_a_reader_that_went_away_ends_quietly() -> None:
    result = failing(BrokenPipeError())

    assert (result.exit_code, result.stderr) == (141, "")


def test_a_bug_is_one_line_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VTX_TRACEBACK", raising=False)
    result = failing(ZeroDivisionError("division\nby zero"))

    assert result.exit_code == 70
    assert result.stderr == (
        "vtx: error: internal error, ZeroDivisionError: division by zero "
        "(a bug in vtx; VTX_TRACEBACK=1 shows where)\n"
    )


def test_a_bug_shows_its_traceback_when_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VTX_TRACEBACK", "1")

    assert isinstance(failing(ZeroDivisionError()).exception, ZeroDivisionError)


def test_output_into_a_closed_pipe_ends_quietly() -> None:
    script = '"$0" -m vtx spec field | true; "$0" -m vtx spec field | head -n 1'
    done = subprocess.run(
        ["sh", "-c", script, sys.executable], capture_output=True, timeout=60, check=False
    )

    assert done.stderr == b""
    assert done.stdout.count(b"\n") == 1
