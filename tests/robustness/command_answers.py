"""Calling the command line in this process, and what every answer of it must look like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from click.testing import CliRunner

from vtx.cli import vtx

STATUSES = frozenset({0, 2, 4, 6, 8, 124, 130})
"""Exit statuses of the contract; debug-exit's are odd."""


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    status: int
    errors: tuple[str, ...]
    """Lines on standard error."""


def call(arguments: Sequence[object]) -> Answer:
    """Run `vtx` with `arguments`; fails on anything but a clean answer."""
    done = CliRunner().invoke(vtx, [str(argument) for argument in arguments])
    errors = tuple(done.stderr.splitlines())
    assert isinstance(done.exception, SystemExit | None), done.exception
    assert "Traceback" not in done.stderr, done.stderr
    assert "internal error" not in done.stderr, done.stderr
    return Answer(done.exit_code, errors)
