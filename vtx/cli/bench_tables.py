"""How `vtx bench` shows what the suite found. Must not know how it was found."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from vtx.bench.figures import Figure
    from vtx.bench.suite import Row, Suite


def print_json(
    suite: Suite, *, base: str, engine: str, clock: str, rounds: int, absent: Mapping[str, str]
) -> None:
    """One JSON object on stdout."""
    from vtx.bench.report import as_dict, host_description
    from vtx.view.text import json_line

    told = {
        "host": host_description(),
        "engine": engine,
        "base": base,
        "clock": clock,
        "rounds": rounds,
        "absent": dict(absent),
    }
    click.echo(json_line(told | as_dict(suite, base)))


def print_suite(
    suite: Suite, *, base: str, engine: str, clock: str, rounds: int, absent: Mapping[str, str]
) -> None:
    """Two tables: every row, then the figures that have a meaning of their own."""
    from vtx.bench.report import host_description, known_figures
    from vtx.view.text import Table, print_table

    host = host_description()
    often = f"{rounds} round{'s' if rounds > 1 else ''}, {clock} time"
    click.echo(f"{engine} engine, {often}, {host['processor']}, {host['cores']} cores")
    for name, reason in absent.items():
        click.echo(f"without {name}: {reason}")
    click.echo()
    titles = ("kernel", "on", "Minstr/s", f"time / {base}", "spread")
    print_table(Table(titles, _row_cells(suite, base), frozenset({2, 3, 4})), sys.stdout)
    for row in suite.rows:
        if row.problem is not None:
            click.echo(f"problem: {row.problem}")
    known = known_figures(suite.rows, base)
    if known:
        click.echo()
        cells = tuple(_figure_cells(figure) for figure in known)
        print_table(
            Table(("figure", "value", "target", "met"), cells, frozenset({1, 2})), sys.stdout
        )


def _row_cells(suite: Suite, base: str) -> tuple[tuple[str, ...], ...]:
    from vtx.bench.figures import costs_of
    from vtx.bench.report import spread, time_ratio

    costs = costs_of(suite.rows)

    def cells(row: Row) -> tuple[str, ...]:
        cost = costs.get((row.kernel.name, row.contestant))
        ratio, part = time_ratio(row, costs, base), spread(row)
        return (
            row.kernel.name,
            row.contestant,
            "-" if cost is None else f"{1e-6 / cost:,.2f}",
            "-" if ratio is None else f"{ratio:.2f}",
            "-" if part is None else f"{part:.0%}",
        )

    return tuple(cells(row) for row in suite.rows if row.variant != "baseline")


def _figure_cells(figure: Figure) -> tuple[str, ...]:
    unit = "" if figure.unit == "x" else f" {figure.unit}"
    value = "-" if figure.value is None else f"{figure.value:,.2f}{unit}"
    target = figure.target
    bound = "" if target is None else f"{target.relation} {target.bound:,g}{unit}"
    return (figure.name, value, bound, {True: "yes", False: "no", None: ""}[figure.met])
