"""`vtx trace`: read traces. Must not know what a view computes, only which one is asked for."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from vtx.cli.errors import as_input_errors, remark


@click.group(no_args_is_help=True)
def trace() -> None:
    """Read traces that `vtx run --trace FILE` wrote, JSON Lines or binary."""


_FILE = click.argument("file", type=click.Path(path_type=Path))
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@trace.command()
@_FILE
@click.option(
    "--by",
    type=click.Choice(["reason", "rip", "symbol"]),
    default="reason",
    show_default=True,
    help="What makes one row.",
)
@click.option(
    "--sort",
    type=click.Choice(["samples", "retired", "min", "max", "avg", "name"]),
    default="samples",
    show_default=True,
)
@_JSON
def stat(file: Path, by: str, sort: str, as_json: bool) -> None:
    """Count exits, with the guest instructions retired since the exit before, and probe hits."""
    from vtx.trace import TraceError, open_trace
    from vtx.view.stat import exit_statistics, show_statistics
    from vtx.view.text import json_line

    with as_input_errors(TraceError), open_trace(file) as reader:
        found = exit_statistics(reader, by=by, sort=sort)
        if as_json:
            click.echo(json_line(found.as_dict()))
        else:
            show_statistics(found, sys.stdout)
    _warn(reader.incomplete)


@trace.command()
@_FILE
@click.option("--exit", "seq", type=click.IntRange(min=0), help="One exit in full.", metavar="N")
@click.option("--reason", metavar="NAME", help="Only exits of this reason (name or number).")
@click.option("--all", "all_events", is_flag=True, help="Show every other event too.")
@_JSON
def show(file: Path, seq: int | None, reason: str | None, all_events: bool, as_json: bool) -> None:
    """Show exits and probe hits, one a line, or one exit in full (--exit N)."""
    from vtx.spec import SpecError
    from vtx.trace import TraceError, open_trace
    from vtx.view.show import show_events, show_one

    with as_input_errors(TraceError, SpecError), open_trace(file) as reader:
        if seq is not None:
            show_one(reader, seq, sys.stdout, as_json=as_json)
        else:
            show_events(reader, sys.stdout, reason=reason, all_events=all_events, as_json=as_json)
    _warn(reader.incomplete)


@trace.command()
@click.argument("left", type=click.Path(path_type=Path))
@click.argument("right", type=click.Path(path_type=Path))
@click.option(
    "--ignore", multiple=True, metavar="FIELD", help="Leave a field out of the comparison."
)
@click.option("--limit", type=click.IntRange(min=0), default=10, show_default=True, metavar="N")
@_JSON
def diff(left: Path, right: Path, ignore: tuple[str, ...], limit: int, as_json: bool) -> int:
    """Align two traces by retired instructions; ends with 1 when they differ."""
    from vtx.trace import TraceError, open_trace
    from vtx.view.diff import diff_traces, show_diff
    from vtx.view.text import json_line

    with as_input_errors(TraceError), open_trace(left) as one, open_trace(right) as other:
        found = diff_traces(one, other, ignore=frozenset(ignore), limit=limit)
        if as_json:
            click.echo(json_line(found.as_dict()))
        else:
            show_diff(found, sys.stdout)
    _warn(one.incomplete)
    _warn(other.incomplete)
    return 0 if found.same else 1


def _warn(incomplete: str) -> None:
    if incomplete:
        remark(f"warning: {incomplete}")
