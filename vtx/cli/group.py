"""Which commands there are, loaded on first use, and how every one of them fails.

`vtx --help` must not import the machine, so names and one-line helps stand here in a table.
Must not know what any command does.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, NoReturn

import click

from vtx.cli.errors import (
    BROKEN_PIPE,
    INTERNAL_ERROR,
    INTERRUPTED,
    USAGE,
    DiagnosedError,
    complain,
    one_line,
)

COMMANDS: Mapping[str, tuple[str, str]] = {
    "run": ("vtx.cli.run", "Boot a guest image or assembly source."),
    "compare": ("vtx.cli.compare", "Run a guest in several styles; do they end in the same state?"),
    "asm": ("vtx.cli.asm", "Assemble Intel-syntax source to ELF."),
    "trace": ("vtx.cli.trace", "Read traces: stat, show, diff."),
    "explain": ("vtx.cli.explain", "Say which VM-entry rules a VMCS breaks, and what would pass."),
    "spec": ("vtx.cli.spec", "Say what a field, exit, control, MSR or check is."),
    "bench": ("vtx.cli.bench", "Measure how fast guests run on this host."),
    "doctor": ("vtx.cli.doctor", "Show what vtx finds on this machine."),
}
"""Name -> (module that has a click command of the same name, one-line help)."""

TRACEBACK = "VTX_TRACEBACK"
"""Environment variable: when set, an internal error shows Python's traceback."""


class LazyGroup(click.Group):
    """A click group whose commands are imported when they are called."""

    def __init__(
        self, name: str, *, commands: Mapping[str, tuple[str, str]], **attributes: Any
    ) -> None:
        super().__init__(name, **attributes)
        self._modules = dict(commands)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the table, which is the order of use."""
        return list(self._modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, its module imported now; None where there is none."""
        if cmd_name not in self._modules:
            return None
        command = getattr(import_module(self._modules[cmd_name][0]), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands for --help, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, said) for name, (_, said) in self._modules.items()])

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> NoReturn:
        """Run, and leave with an exit status; every failure is one line on stderr."""
        sys.exit(self._status(args))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except BrokenPipeError:
            # Here, because click would turn it into exit status 1 one level further out.
            silence_stdout()
            raise click.exceptions.Exit(BROKEN_PIPE) from None
        except KeyboardInterrupt:
            # Here, because click would begin a line of its own for it.
            complain("interrupted")
            raise click.exceptions.Exit(INTERRUPTED) from None

    def _status(self, args: Sequence[str] | None) -> int:
        try:
            result = super().main(args, "vtx", standalone_mode=False)
            return result if isinstance(result, int) else 0
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.ctx.get_help() if error.ctx else "", err=True)
            return USAGE
        except click.UsageError as error:
            where = f" (see '{error.ctx.command_path} --help')" if error.ctx else ""
            complain(one_line(error.format_message()) + where)
            return error.exit_code
        except DiagnosedError as error:
            click.echo(error.format_message(), err=True)
            return error.exit_code
        except click.ClickException as error:
            complain(one_line(error.format_message()))
            return error.exit_code
        except (click.Abort, KeyboardInterrupt):
            complain("interrupted")
            return INTERRUPTED
        except Exception as error:
            if os.environ.get(TRACEBACK):
                raise
            said = one_line(f"{type(error).__name__}: {error}")
            complain(f"internal error, {said} (a bug in vtx; {TRACEBACK}=1 shows where)")
            return INTERNAL_ERROR


def silence_stdout() -> None:
    """Let what is still buffered for a reader that has gone away vanish without a word."""
    with suppress(OSError, ValueError):  # stdout may be closed, or no file at all
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
