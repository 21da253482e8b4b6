"""`vtx spec conformance --mutate`: every row's predicate, control or exit turned around in turn.

The mutants themselves are the tests' business (tests/mutants.py, in the checkout); this chooses
rows, shows progress and prints what came of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from vtx.cli.conformance import checkout, collect
from vtx.cli.errors import InputError, one_line

KILLED, NO_MUTANT = "killed", "no mutant"


def mutate(only: Sequence[str], jobs: int, *, as_json: bool) -> int:
    """Run the mutants of the rows `only` (empty: of all); 1 where one survives."""
    root = checkout()
    chosen = _chosen(collect(root), only)
    with _progress(len(chosen)) as step:
        found = _run(root, chosen, jobs, step)
    if as_json:
        from vtx.view.text import json_line

        click.echo(json_line(found))
    else:
        _show(found)
    return 0 if all(result in (KILLED, NO_MUTANT) for result in found.values()) else 1


def _chosen(covers: Mapping[str, list[str]], only: Sequence[str]) -> dict[str, list[str]]:
    """The rows asked for with their tests; by default every row that software can meet."""
    from vtx.spec.tables import no_such
    from vtx.vmx.conformance import rows

    known = {row.id: covers.get(row.id, []) for row in rows() if row.advertised}
    for name in only:
        if name not in known:
            raise InputError(no_such("row that can have a mutant", name, known))
    return {row: tests for row, tests in known.items() if not only or row in only}


def _run(
    root: Path, rows: Mapping[str, list[str]], jobs: int, step: Callable[[str], None]
) -> dict[str, str]:
    """Row -> what came of its mutant. A process of its own: nothing may be built in it before."""
    command = [sys.executable, str(root / "tests" / "mutants.py")]
    path = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    found: dict[str, str] = {}
    with subprocess.Popen(
        command, cwd=root, env={**os.environ, "PYTHONPATH": path}, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdin and process.stdout and process.stderr
        json.dump({"jobs": jobs, "rows": rows}, process.stdin)
        process.stdin.close()
        for line in process.stdout:
            told = json.loads(line)
            found[told["row"]] = told["result"]
            step(told["row"])
        said = process.stderr.read().strip().splitlines()
    if process.returncode:
        raise InputError(f"the mutants' process failed: {one_line(said[-1] if said else '')}")
    return {row: found[row] for row in rows}


def _show(found: Mapping[str, str]) -> None:
    from vtx.view.text import Table, print_table

    print_table(Table(("ROW", "MUTANT"), tuple(found.items())), sys.stdout)
    results = list(found.values())
    without = results.count(NO_MUTANT)
    survivors = [row for row, result in found.items() if result not in (KILLED, NO_MUTANT)]
    click.echo(
        f"\n{len(results) - without} mutants: {results.count(KILLED)} killed, "
        f"{len(survivors)} not; {without} rows have none"
    )
    for row in survivors:
        click.echo(f"not killed: {row} ({found[row]})")


@contextmanager
def _progress(total: int) -> Iterator[Callable[[str], None]]:
    """Call with each row as it is done; a bar on stderr where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda row: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("mutants", total=total)
        yield lambda row: bar.update(task, advance=1, description=row)
