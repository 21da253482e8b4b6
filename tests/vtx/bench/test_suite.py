"""How the suite measures: played contestants whose seconds are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from vtx.bench.contestant import AnyVariant, Run, RunError
from vtx.bench.image import KernelImage
from vtx.bench.kernels import BASELINE, PLAIN, Kernel, kernels_named
from vtx.bench.suite import Effort, Suite, event_seconds, instructions_of, run_suite

KERNELS = kernels_named(("sieve", "calls"))
(CPUID,) = kernels_named(("cpuid-exit",))


@dataclass
class Played(AnyVariant):
    """Takes `start` seconds, and `cost` for each iteration; `wrong` changes its checksums."""

    name: str
    cost: float = 1e-3
    start: float = 5.0
    wrong: int = 0
    refused: str | None = None
    runs: list[tuple[str, str, int]] = field(default_factory=list)

    def refusal(self, kernel: Kernel) -> str | None:
        return self.refused

    def run(self, image: KernelImage, iterations: int) -> Run:
        self.runs.append((image.kernel.name, image.variant, iterations))
        cost = self.cost * (1 if image.variant == BASELINE else 3)
        return Run(self.start + cost * iterations, iterations + self.wrong, 100 + 7 * iterations)


class Failing(Played):
    def run(self, image: KernelImage, iterations: int) -> Run:
        raise RunError("it broke")


def run(*contestants: Played, kernels: tuple[Kernel, ...] = KERNELS, **more: int) -> Suite:
    images = {(k.name, v): KernelImage(k, b"", v) for k in kernels for v in k.variants}
    return run_suite(kernels, contestants, images, Effort(0.3, more.get("rounds", 3)))


def test_start_up_is_not_in_the_seconds_of_an_iteration() -> None:
    (row, _) = run(Played("slow to start", start=100.0)).rows

    assert row.seconds == pytest.approx(3e-3)
    assert len(row.samples) == 3


def test_iterations_are_chosen_so_that_a_run_takes_the_wished_time() -> None:
    (quick,) = run(Played("quick", cost=1e-7, start=0.0), kernels=KERNELS[:1]).rows
    (slow,) = run(Played("slow", cost=9.0), kernels=KERNELS[:1]).rows

    assert quick.iterations * 3e-7 == pytest.approx(0.3, rel=0.1)
    assert slow.iterations == 1


def test_who_takes_long_to_start_runs_longer_within_reason() -> None:
    (slow, slower) = run(Played("a", start=1.0), Played("b", start=60.0), kernels=KERNELS[:1]).rows

    assert slow.iterations * 3e-3 == pytest.approx(1.0, rel=0.1)
    assert slower.iterations * 3e-3 == pytest.approx(1.5, rel=0.1)


def test_every_round_has_a_run_of_everyone() -> None:
    seen: list[str] = []
    images = {(k.name, PLAIN): KernelImage(k, b"", PLAIN) for k in KERNELS}
    contestants = [Played("a"), Played("b")]

    run_suite(
        KERNELS, contestants, images, Effort(0.3, 2), lambda done, total, what: seen.append(what)
    )

    order = ["sieve a", "sieve b", "calls a", "calls b"]
    assert seen == [f"calibrating {what}" for what in order] + 2 * order


def test_progress_counts_up_to_its_total() -> None:
    seen: list[tuple[int, int]] = []
    images = {(k.name, PLAIN): KernelImage(k, b"", PLAIN) for k in KERNELS}

    run_suite(
        KERNELS, [Played("a")], images, Effort(0.3, 2),
        lambda done, total, what: seen.append((done, total)),
    )  # fmt: skip

    assert seen == [(done, 6) for done in range(6)]


def test_who_computes_otherwise_than_the_first_is_out() -> None:
    right, wrong = run(Played("a"), Played("b", wrong=1), kernels=KERNELS[:1]).rows

    assert (right.problem, wrong.seconds) == (None, None)
    assert wrong.problem == "sieve b: checksum 0x2, but a has 0x1"


def test_a_run_that_fails_is_a_problem_of_its_row_only() -> None:
    good, bad = run(Played("a"), Failing("b"), kernels=KERNELS[:1]).rows

    assert good.seconds is not None
    assert (bad.problem, bad.seconds) == ("it broke", None)


def test_what_is_refused_is_told_with_its_reason() -> None:
    found = run(Played("a"), Played("b", refused="cannot"), kernels=KERNELS[:1])

    assert [row.contestant for row in found.rows] == ["a"]
    assert found.skipped == [("sieve", "b", "cannot")]


def test_instructions_are_counted_from_the_difference() -> None:
    found = run(Played("a"))

    assert instructions_of(found.rows) == {("sieve", ""): 7.0, ("calls", ""): 7.0}


def test_an_event_costs_what_the_kernel_costs_more_than_its_baseline() -> None:
    found = run(Played("a", cost=8e-6), kernels=(CPUID,))

    assert [row.variant for row in found.rows] == [PLAIN, BASELINE]
    assert event_seconds(found.rows, CPUID, "a") == pytest.approx(2e-6)
    assert event_seconds(found.rows, CPUID, "b") is None


def test_a_cold_kernel_is_run_not_at_all_and_once(
    kernel_image: Callable[..., KernelImage],
) -> None:
    (cold,) = kernels_named(("cold",))
    contestant = Played("a")

    (row,) = run(contestant, kernels=(cold,), rounds=2).rows

    assert contestant.runs == 2 * [("cold", PLAIN, 0), ("cold", PLAIN, 1)]
    assert row.iterations == 1
