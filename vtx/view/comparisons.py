"""What a comparison of styles found, as values for JSON and as a table, one column a style.

Must not know how styles are compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TextIO

from vtx.view.runs import ordered, statistics
from vtx.view.text import Table, count, one_of_several, print_table, printable

if TYPE_CHECKING:
    from vtx.vmm.compare import Comparison, Difference
    from vtx.vmm.exit_sequences import ExitAlignment
    from vtx.vmm.launch import RunResult

HASH_DIGITS = 16
"""Digits of a hash that a table shows; JSON has all of them."""


def comparison_as_dict(found: Comparison) -> dict[str, Any]:
    """For JSON: `same`, `differences`, and under `styles` the statistics of every style."""
    return {
        "same": found.same,
        "differences": [
            {"where": item.where, "what": item.what, "first_retired": item.first_retired}
            for item in found.differences
        ],
        "styles": {
            name: statistics(run)
            for name, run in zip(style_names(found.runs), found.runs, strict=True)
        },
    } | _exits_as_dict(found)


def _exits_as_dict(found: Comparison) -> dict[str, Any]:
    """Under `exits`, how the VMMs' exits align, if that was looked at."""
    if not found.exits:
        return {}
    return {
        "exits": [
            {
                "where": item.where,
                "equal": item.equal,
                "only_left": item.only_left,
                "only_right": item.only_right,
            }
            for item in found.exits
        ]
    }


def style_names(runs: list[RunResult]) -> list[str]:
    """The styles' names; a style that ran more than once gets a number: "bare", "bare#2"."""
    names: list[str] = []
    for run in runs:
        seen = sum(1 for earlier in names if earlier.partition("#")[0] == run.style)
        names.append(f"{run.style}#{seen + 1}" if seen else run.style)
    return names


def show_comparison(found: Comparison, out: TextIO) -> None:
    """The table of all styles, then the verdict or every difference."""
    names = style_names(found.runs)
    rows = tuple(_rows(found.runs))
    print_table(Table(("", *names), rows, frozenset(range(1, len(names) + 1))), out)
    print(file=out)
    for run, name in zip(found.runs, names, strict=True):
        if run.message:
            print(f"{name}: {printable(run.message)}", file=out)
        for note in run.notes:
            print(f"{name}: note: {printable(note)}", file=out)
    for alignment in found.exits:
        print(f"exits: {alignment_in_words(alignment)}", file=out)
    if found.same:
        said = "end in the same state: console, memory, registers, retired, exit status"
        print(f"same: {one_of_several(names)} {said}", file=out)
        return
    for item in found.differences:
        print(f"differs: {difference_in_words(item)}", file=out)


def difference_in_words(item: Difference) -> str:
    """One difference in one line."""
    where = printable(f"{item.where}: {item.what}")
    if item.first_retired is None:
        return where
    return f"{where} (first after {count(item.first_retired)} retired instructions)"


def alignment_in_words(item: ExitAlignment) -> str:
    """How two VMMs' exits align, in one line."""
    left, _, right = item.where.rpartition("/")
    text = f"{item.where}: {count(item.equal)} equal in reason, qualification, RIP and clock"
    for name, only in ((left, item.only_left), (right, item.only_right)):
        counts = ", ".join(f"{reason} {count(number)}" for reason, number in ordered(only))
        text += f"; only {name}: {counts}" if counts else ""
    return printable(text)


def _rows(runs: list[RunResult]) -> list[tuple[str, ...]]:
    rows = [
        ("engine", *(run.engine for run in runs)),
        ("retired", *(count(run.retired) for run in runs)),
        ("ended", *(run.ended for run in runs)),
        ("exit status", *(str(run.exit_status) for run in runs)),
        ("console bytes", *(count(len(run.console)) for run in runs)),
        ("memory sha256", *(run.memory_sha256[:HASH_DIGITS] for run in runs)),
        ("VM exits", *(count(sum(run.exits.values())) for run in runs)),
    ]
    for name in _reasons(runs):
        rows.append((f"  {name}", *(count(run.exits.get(name, 0)) for run in runs)))
    rows.append(("TLB misses", *(count(int(run.walks.get("misses", 0))) for run in runs)))
    for which in ("min", "max", "mean"):
        rows.append((f"  references, {which}", *(_references(run, which) for run in runs)))
    for name in _shadow_counts(runs):
        title = f"shadow: {name.replace('_', ' ')}"
        rows.append((title, *(_shadow_count(run, name) for run in runs)))
    return rows


def _shadow_count(run: RunResult, name: str) -> str:
    return "-" if run.shadow is None else count(run.shadow.get(name, 0))


def _reasons(runs: list[RunResult]) -> list[str]:
    total: dict[str, int] = {}
    for run in runs:
        for name, number in run.exits.items():
            total[name] = total.get(name, 0) + number
    return [name for name, _ in ordered(total)]


def _shadow_counts(runs: list[RunResult]) -> list[str]:
    return list(dict.fromkeys(name for run in runs for name in run.shadow or ()))


def _references(run: RunResult, which: str) -> str:
    if not run.walks.get("misses"):
        return "-"
    value = run.walks[which]
    return f"{value:.2f}" if which == "mean" else f"{value:.0f}"
