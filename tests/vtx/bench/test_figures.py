"""What rows come to: ratios to peers and prices of events, beside their targets."""

from __future__ import annotations

import pytest

from vtx.bench.figures import Target, figures
from vtx.bench.kernels import BASELINE, PLAIN, kernels_named
from vtx.bench.report import as_dict
from vtx.bench.suite import Row, Suite


def row(name: str, contestant: str, seconds: float, variant: str = PLAIN) -> Row:
    (kernel,) = kernels_named((name,))
    return Row(kernel, contestant, variant, 10, 1000.0, [seconds, seconds, 9.0 * seconds])


HOT = [
    row("sieve", "bare", 1.0), row("sieve", "qemu", 8.0), row("sieve", "host", 0.5),
    row("calls", "bare", 1.0), row("calls", "qemu", 2.0), row("calls", "ept", 1.05),
]  # fmt: skip


def value(rows: list[Row], name: str) -> tuple[float | None, bool | None]:
    (figure,) = (figure for figure in figures(rows, "bare") if figure.name == name)
    return figure.value, figure.met


def test_speed_against_a_peer_is_the_geometric_mean_over_the_hot_kernels() -> None:
    assert value(HOT, "faster than qemu") == (pytest.approx(4.0), True)
    assert value(HOT, "the least of these") == (pytest.approx(2.0), True)
    assert value(HOT, "time of host") == (pytest.approx(2.0), True)
    assert value(HOT, "ept, time of bare") == (pytest.approx(1.05), True)


def test_kernels_that_are_not_hot_have_no_part_in_it() -> None:
    more = [*HOT, row("strings", "bare", 1.0), row("strings", "qemu", 1000.0)]

    assert value(more, "faster than qemu") == value(HOT, "faster than qemu")


def test_a_figure_without_its_rows_has_no_value() -> None:
    assert value(HOT, "faster than bochs") == (None, None)
    assert value(HOT, "CPUID exit to root-mode code") == (None, None)


def test_a_row_with_a_problem_has_no_part_in_any_figure() -> None:
    wrong = row("sieve", "qemu", 1e9)
    wrong.problem = "checksum"

    assert value([HOT[0], wrong], "faster than qemu") == (None, None)


def test_events_are_priced_in_nanoseconds() -> None:
    rows = [row("tlb-miss", "ept", 203e-6), row("tlb-miss", "ept", 100.6e-6, BASELINE)]

    assert value(rows, "TLB miss, two-dimensional") == (pytest.approx(100.0), True)


def test_the_cold_runs_are_set_against_qemu() -> None:
    rows = [row("cold", "bare", 3.0), row("cold", "qemu", 2.0), row("cold", "bare-second", 2.0)]

    assert value(rows, "cold run, time of qemu") == (pytest.approx(1.5), True)
    assert value(rows, "second run, time of qemu") == (pytest.approx(1.0), False)


def test_targets_are_met_up_to_their_bound() -> None:
    assert Target(">=", 2.0).met_by(2.0) and not Target(">=", 2.0).met_by(1.99)
    assert Target("<=", 2.0).met_by(2.0) and not Target("<=", 2.0).met_by(2.01)
    assert Target("<", 2.0).met_by(1.99) and not Target("<", 2.0).met_by(2.0)


def test_a_report_has_ratios_to_the_base_and_none_for_baselines() -> None:
    rows = [*HOT[:2], row("tlb-miss", "bare", 1.0), row("tlb-miss", "bare", 0.5, BASELINE)]

    told = as_dict(Suite(rows, [("calls", "host", "why")]), "bare")

    assert [r["time_ratio"] for r in told["rows"]] == [1.0, 8.0, 1.0, None]
    assert told["rows"][0]["instructions_per_second"] == 1000.0
    assert told["rows"][0]["spread"] == 8.0
    assert told["skipped"] == [{"kernel": "calls", "contestant": "host", "reason": "why"}]
