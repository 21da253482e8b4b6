"""`vtx bench`: speeds on this host, one subcommand per engine. Must not know how one measures."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from vtx.cli.assembled import assemble_source
from vtx.cli.errors import as_input_errors

if TYPE_CHECKING:
    from vtx.bench.reference import Row


@click.group()
def bench() -> None:
    """Measure how fast vtx runs guests on this host."""


@bench.command()
@click.option(
    "--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Runs of each row."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def reference(rounds: int, as_json: bool) -> None:
    """Instructions per second of the reference engine.

    Guests that compute, in every style, read by the quick path and by the plain evaluator. Rounds
    are interleaved; a speed is the median over the rounds, in retired guest instructions per
    second of CPU time on one core. Ratios are to the first row.
    """
    from vtx.bench.guests import MEASURED, NoGuestsError, guest_source, guests_directory
    from vtx.bench.reference import measure

    with as_input_errors(NoGuestsError):
        include = (guests_directory() / "include",)
        images = {name: assemble_source(guest_source(name), include, {}).elf() for name in MEASURED}
    with _progress() as on_progress:
        rows = measure(images, rounds=rounds, on_progress=on_progress)
    _print(rows, as_json=as_json)


def _print(rows: Sequence[Row], *, as_json: bool) -> None:
    from vtx.view.text import Table, json_line, print_table

    if as_json:
        click.echo(json_line({"rows": [_as_dict(row, rows[0]) for row in rows]}))
        return
    titles = ("guest", "style", "reader", "retired", "instr/s", "spread", "ratio")
    cells = tuple(
        (
            row.guest, row.style, row.reader, f"{row.retired:,}", f"{row.speed:,.0f}",
            f"{row.spread:.0%}", f"{row.speed / rows[0].speed:.2f}",
        )
        for row in rows
    )  # fmt: skip
    print_table(Table(titles, cells, frozenset({3, 4, 5, 6})), sys.stdout)


def _as_dict(row: Row, first: Row) -> dict[str, Any]:
    return {
        "guest": row.guest, "style": row.style, "reader": row.reader, "retired": row.retired,
        "instructions_per_second": round(row.speed), "spread": round(row.spread, 4),
        "ratio": round(row.speed / first.speed, 4), "rounds": [round(x) for x in row.speeds],
    }  # fmt: skip


@contextmanager
def _progress() -> Iterator[Callable[[int, int, str], None] | None]:
    """A bar of the runs done on stderr, None where that is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("")
        yield lambda done, total, what: bar.update(
            task, completed=done, total=total, description=what
        )
