"""Where the guest's console goes: standard output, a file, nowhere; and the progress bar.

Must not know what the guest is.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from vtx.cli.errors import InputError
from vtx.cli.files import reason

Sink = Callable[[bytes], None]


@contextmanager
def serial(where: str) -> Iterator[Sink | None]:
    """The sink `--serial` names: stdio, none, file:PATH or PATH. Raises InputError."""
    if where == "stdio":
        yield write_through
    elif where in ("none", "null"):
        yield None
    else:
        path = where.removeprefix("file:")
        try:
            file = open(path, "wb", buffering=0)  # noqa: SIM115
        except (OSError, ValueError) as error:
            raise InputError(f"cannot write {path}: {reason(error)}") from None
        with file:
            yield lambda data: _write_all(file.fileno(), data)


def write_through(data: bytes) -> None:
    """Console bytes to standard output at once. Raises BrokenPipeError when nobody reads."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _write_all(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


@contextmanager
def progress(
    title: str, total: int | None = None, *, shown: bool = True
) -> Iterator[Callable[[int], None] | None]:
    """A callback that shows retired instructions on stderr, None where nobody would see it.

    total: the instructions after which the run gives up, where it does.
    """
    with progress_by_style(title, total, shown=shown) as report:
        yield None if report is None else partial(report, "")


@contextmanager
def progress_by_style(
    title: str, total: int | None = None, *, shown: bool = True
) -> Iterator[Callable[[str, int], None] | None]:
    """The same for runs of several styles, one after the other; the callback gets the style."""
    if not shown or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn())
    counted = TextColumn("{task.completed:,} instructions")
    with Progress(*columns, counted, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(escape(title), total=total)

        def report(style: str, retired: int) -> None:
            bar.update(task, completed=retired, description=escape(f"{title} {style}".rstrip()))

        yield report
