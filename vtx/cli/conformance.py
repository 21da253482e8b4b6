"""`vtx spec conformance`: how far each check, control and exit reason is, and what tests it.

Collecting the tests' marks starts pytest in the checkout this vtx was imported from. Must not
know what a row means.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from vtx.cli.errors import InputError, one_line
from vtx.cli.files import write_file

MARK = "mark.covers("


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--update", is_flag=True, help="Collect the tests' marks and write spec/ anew.")
@click.option("--mutate", "mutants", is_flag=True, help="Turn each row around; do tests notice?")
@click.option("--only", multiple=True, metavar="ROW", help="With --mutate: this row (repeatable).")
@click.option(
    "--jobs", type=click.IntRange(1, 64), default=2, show_default=True, help="Mutants at a time."
)
def conformance(
    as_json: bool, update: bool, mutants: bool, only: tuple[str, ...], jobs: int
) -> int:
    """List the VM-entry checks, controls and exit reasons: built, advertised, tested.

    Ends with 1 when a row is advertised and has no test; with --mutate, when a mutant survives
    the tests of its own row.
    """
    if only and not mutants:
        raise click.UsageError("--only chooses mutants; give --mutate")
    if mutants:
        from vtx.cli.mutate import mutate

        return mutate(only, jobs, as_json=as_json)
    if update:
        _update()
    from vtx.view import conformance as view
    from vtx.view.text import json_line
    from vtx.vmx.conformance import rows

    if as_json:
        click.echo(json_line(view.as_dict()))
    elif not update:
        view.show(sys.stdout)
    return 1 if any(row.missing for row in rows()) else 0


def checkout() -> Path:
    """The checkout with the tests. Raises InputError."""
    root = Path(__file__).resolve().parents[2]
    if not (root / "tests" / "covering.py").is_file():
        raise InputError(f"there are no tests beside the package at {root}: this needs a checkout")
    return root


def collect(root: Path) -> dict[str, list[str]]:
    """Row -> ids of the tests that cover it, without running any. Raises InputError."""
    files = [
        str(path.relative_to(root))
        for path in sorted((root / "tests").rglob("test_*.py"))
        if MARK in path.read_text(encoding="utf-8")
    ]
    with tempfile.TemporaryDirectory(prefix="vtx-covers-") as directory:
        found = Path(directory) / "covers.json"
        command = [sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider",
                   f"--covers-to={found}", *files]  # fmt: skip
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        if done.returncode or not found.is_file():
            said = (done.stderr.strip() or done.stdout.strip()).splitlines()
            raise InputError(f"pytest could not collect: {one_line(said[-1] if said else '')}")
        covers: dict[str, list[str]] = json.loads(found.read_text())
    return covers


def _update() -> None:
    from vtx.spec.tables import read_table
    from vtx.view.conformance import toml, with_generated_part
    from vtx.vmx.conformance import rows

    root = checkout()
    write_file(root / "spec" / "conformance.toml", toml(collect(root)).encode())
    read_table.cache_clear()
    rows.cache_clear()
    page = root / "spec" / "CONFORMANCE.md"
    write_file(page, with_generated_part(page.read_text(encoding="utf-8")).encode())
