"""Counting exits: the columns of `perf kvm stat`, with retired instructions in place of time.

A sample's cost is the guest instructions retired since the exit before it on the same vCPU.
Must not know how a trace is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import sqrt
from typing import Any, TextIO

from vtx.trace import Event, Exit, Probe
from vtx.view.probes import Hits, ProbeCounting, show_probes
from vtx.view.text import Table, count, percent, print_table, printable


@dataclass(slots=True)
class Samples:
    """The exits of one row, added up. Amounts are retired guest instructions."""

    name: str
    samples: int = 0
    retired: int = 0
    min: int = 0
    max: int = 0
    squares: int = 0

    def add(self, retired: int) -> None:
        """Count one exit that came `retired` instructions after the one before."""
        self.min = min(self.min, retired) if self.samples else retired
        self.max = max(self.max, retired)
        self.samples += 1
        self.retired += retired
        self.squares += retired * retired

    @property
    def avg(self) -> float:
        """Mean of retired instructions per exit."""
        return self.retired / self.samples if self.samples else 0.0

    @property
    def error(self) -> float:
        """Standard error of the mean in percent of it, what perf prints behind the average."""
        if self.samples < 2 or not self.retired:
            return 0.0
        # n * sum(x^2) - sum(x)^2 is exact in integers, where a running variance would drift.
        spread = self.samples * self.squares - self.retired * self.retired
        variance_of_mean = spread / (self.samples * self.samples * (self.samples - 1))
        return 100 * sqrt(variance_of_mean) / self.avg


@dataclass(frozen=True, slots=True)
class ExitStatistics:
    """Rows in the order asked for, the sum of all of them, and the hits of probes."""

    by: str
    rows: tuple[Samples, ...]
    total: Samples
    probes: tuple[Hits, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON: `rows` with the columns of the table, `total` with the sums, `probes`."""
        return {
            "by": self.by,
            "rows": [self._row(row) for row in self.rows],
            "total": {"samples": self.total.samples, "retired": self.total.retired},
            "probes": [row.as_dict() for row in self.probes],
        }

    def _row(self, row: Samples) -> dict[str, Any]:
        return {
            self.by: row.name,
            "samples": row.samples,
            "samples_percent": round(_share(row.samples, self.total.samples), 2),
            "retired": row.retired,
            "retired_percent": round(_share(row.retired, self.total.retired), 2),
            "min": row.min,
            "max": row.max,
            "avg": round(row.avg, 2),
            "error_percent": round(row.error, 2),
        }


@dataclass(slots=True)
class _Counting:
    name_of: Callable[[Exit], str]
    rows: dict[str, Samples] = field(default_factory=dict)
    total: Samples = field(default_factory=lambda: Samples("total"))
    before: dict[int, int] = field(default_factory=dict)

    def count(self, event: Exit) -> None:
        retired = max(event.retired - self.before.get(event.vcpu, 0), 0)
        self.before[event.vcpu] = event.retired
        name = self.name_of(event)
        if name not in self.rows:
            self.rows[name] = Samples(name)
        self.rows[name].add(retired)
        self.total.add(retired)


NAMES: dict[str, Callable[[Exit], str]] = {
    "reason": lambda event: event.reason,
    "rip": lambda event: f"{event.rip:#x}",
    "symbol": lambda event: event.symbol.partition("+")[0] or "(no symbol)",
}
"""What makes one row -> the row an exit belongs to."""

SORTS: dict[str, Callable[[Samples], Any]] = {
    "samples": lambda row: -row.samples,
    "retired": lambda row: -row.retired,
    "min": lambda row: row.min,
    "max": lambda row: -row.max,
    "avg": lambda row: -row.avg,
    "name": lambda row: row.name,
}
"""Sort flag -> key; names decide between equal rows."""


def exit_statistics(
    events: Iterable[Event], *, by: str = "reason", sort: str = "samples"
) -> ExitStatistics:
    """Count exits and probe hits among `events`; `by` is a key of NAMES, `sort` of SORTS."""
    counting, probes = _Counting(NAMES[by]), ProbeCounting()
    for event in events:
        if isinstance(event, Exit):
            counting.count(event)
        elif isinstance(event, Probe):
            probes.count(event)
    rows = sorted(counting.rows.values(), key=lambda row: (SORTS[sort](row), row.name))
    return ExitStatistics(by, tuple(rows), counting.total, tuple(probes.by_symbol.values()))


def show_statistics(found: ExitStatistics, out: TextIO) -> None:
    """The table, the totals below it, and the table of probes where there were any."""
    _show_exits(found, out)
    if found.probes:
        print(file=out)
        show_probes(found.probes, out)


def _show_exits(found: ExitStatistics, out: TextIO) -> None:
    total = found.total
    if not total.samples:
        print("No VM exits.", file=out)
        return
    titles = ("VM-EXIT", "Samples", "Samples%", "Retired%", "Min", "Max", "Avg", "+-")
    cells = tuple(_cells(row, total) for row in found.rows)
    print_table(Table(titles, cells, frozenset(range(1, len(titles)))), out)
    said = f"Total samples: {count(total.samples)}, total retired: {count(total.retired)}"
    print(f"\n{said} instructions", file=out)


def _cells(row: Samples, total: Samples) -> tuple[str, ...]:
    return (
        printable(row.name),
        count(row.samples),
        percent(row.samples, total.samples),
        percent(row.retired, total.retired),
        count(row.min),
        count(row.max),
        f"{row.avg:,.2f}",
        f"{row.error:.2f}%",
    )


def _share(part: int, whole: int) -> float:
    return 100 * part / whole if whole else 0.0
