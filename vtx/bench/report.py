"""A suite's results as plain values: what `--json` prints and what the tables show."""

import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vtx.bench.figures import Costs, Figure, costs_of, figures
from vtx.bench.suite import Row, Suite, instructions_of


def host_description() -> dict[str, Any]:
    """The machine the seconds belong to."""
    return {
        "processor": _processor(), "cores": os.cpu_count(), "system": platform.system(),
        "machine": platform.machine(), "python": platform.python_version(),
    }  # fmt: skip


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def as_dict(suite: Suite, base: str) -> dict[str, Any]:
    """Rows, what was skipped and why, and the figures. Ratios are times to the style `base`."""
    counts, costs = instructions_of(suite.rows), costs_of(suite.rows)
    return {
        "rows": [
            _row_dict(row, counts.get((row.kernel.name, row.variant)), costs, base)
            for row in suite.rows
        ],
        "figures": [_figure_dict(figure) for figure in figures(suite.rows, base)],
        "skipped": [
            {"kernel": kernel, "contestant": contestant, "reason": why}
            for kernel, contestant, why in suite.skipped
        ],
    }


def _row_dict(row: Row, count: float | None, costs: Costs, base: str) -> dict[str, Any]:
    seconds = row.seconds
    speed = count / seconds if count and seconds else None
    return {
        "kernel": row.kernel.name, "kind": row.kernel.kind, "variant": row.variant,
        "contestant": row.contestant, "iterations": row.iterations,
        "instructions_per_iteration": count, "seconds_per_iteration": seconds,
        "instructions_per_second": speed, "spread": spread(row),
        "time_ratio": time_ratio(row, costs, base), "samples": row.samples,
        "problem": row.problem,
    }  # fmt: skip


def spread(row: Row) -> float | None:
    """Difference of the slowest and the quickest sample as a part of the median."""
    if not row.seconds:
        return None
    return (max(row.samples) - min(row.samples)) / row.seconds


def time_ratio(row: Row, costs: Costs, base: str) -> float | None:
    """How many times as long as `base` an instruction takes; None for baselines."""
    mine = costs.get((row.kernel.name, row.contestant))
    reference = costs.get((row.kernel.name, base))
    if row.variant == "baseline" or mine is None or reference is None:
        return None
    return mine / reference


def _figure_dict(figure: Figure) -> dict[str, Any]:
    target = figure.target
    return {
        "name": figure.name, "value": figure.value, "unit": figure.unit,
        "target": None if target is None else {"relation": target.relation, "bound": target.bound},
        "met": figure.met,
    }  # fmt: skip


def known_figures(rows: Sequence[Row], base: str) -> list[Figure]:
    """The figures whose rows are there."""
    return [figure for figure in figures(rows, base) if figure.value is not None]
