"""How the command line complains, and the exit statuses of its own. Must not know any command."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import click

USAGE = 2
"""Usage, or input that cannot be read."""
INTERRUPTED = 130
BROKEN_PIPE = 141
"""What a shell reports for a program ended by SIGPIPE."""
INTERNAL_ERROR = 70


class InputError(click.ClickException):
    """Something the user gave cannot be used; the message is one line that says why."""

    exit_code = USAGE


class DiagnosedError(click.ClickException):
    """Mistakes in a source, already worded as `file:line:col: error: ...` and printed as such."""

    exit_code = USAGE


def one_line(text: str) -> str:
    """`text` with line breaks and runs of blanks folded into single blanks."""
    return " ".join(text.split())


def complain(message: str) -> None:
    """One `vtx: error:` line on stderr."""
    click.echo(f"vtx: error: {message}", err=True)


def remark(message: str) -> None:
    """One `vtx:` line on stderr that is no error."""
    click.echo(f"vtx: {message}", err=True)


@contextmanager
def as_input_errors(*kinds: type[Exception]) -> Iterator[None]:
    """Turn the typed errors `kinds` of other rooms into usage errors with their one line."""
    try:
        yield
    except kinds as error:
        raise InputError(str(error)) from None


@contextmanager
def enough_memory(size: str) -> Iterator[None]:
    """Turn the host's refusal to map `size` of guest memory into a usage error."""
    try:
        yield
    except MemoryError:
        refused = True
    except OSError as error:
        if error.errno != errno.ENOMEM:
            raise
        refused = True
    else:
        refused = False
    if refused:
        raise InputError(f"-m {size}: this host does not have that much memory to give")
