"""What the rows come to: a few figures, each beside the target it has to meet."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import geometric_mean
from typing import Literal

from vtx.bench.kernels import KERNELS, Kernel
from vtx.bench.suite import Row, event_seconds, instructions_of

NANOSECONDS = 1e9


@dataclass(frozen=True)
class Target:
    """The bound a figure has to keep."""

    relation: Literal[">=", "<=", "<"]
    bound: float

    def met_by(self, value: float) -> bool:
        if self.relation == ">=":
            return value >= self.bound
        return value < self.bound if self.relation == "<" else value <= self.bound


@dataclass(frozen=True)
class Figure:
    """`value` in `unit` ("x" for a ratio); None where the rows it needs are missing."""

    name: str
    value: float | None
    unit: Literal["x", "ns"]
    target: Target | None = None

    @property
    def met(self) -> bool | None:
        if self.value is None or self.target is None:
            return None
        return self.target.met_by(self.value)


Costs = dict[tuple[str, str], float]
"""Seconds of one instruction by kernel and contestant."""


def costs_of(rows: Sequence[Row]) -> Costs:
    """Seconds of one guest instruction; rows without samples or a count are left out."""
    counts = instructions_of(rows)
    return {
        (row.kernel.name, row.contestant): row.seconds / count
        for row in rows
        if row.seconds and (count := counts.get((row.kernel.name, row.variant)))
        and row.variant != "baseline"
    }  # fmt: skip


def figures(rows: Sequence[Row], base: str) -> list[Figure]:
    """All figures, of vtx in the style `base` where no other is named."""
    costs = costs_of(rows)
    return [*_hot_figures(costs, base), *_cold_figures(costs, base), *_event_figures(rows)]


def _hot_figures(costs: Costs, base: str) -> list[Figure]:
    def times(slower: str, faster: str, reduce: Callable[[list[float]], float]) -> float | None:
        ratios = [
            costs[kernel.name, slower] / costs[kernel.name, faster]
            for kernel in KERNELS
            if kernel.kind == "hot"
            and {(kernel.name, slower), (kernel.name, faster)} <= costs.keys()
        ]
        return reduce(ratios) if ratios else None

    found = [
        Figure("faster than qemu", times("qemu", base, geometric_mean), "x", Target(">=", 2.0)),
        Figure("the least of these", times("qemu", base, min), "x", Target(">=", 1.0)),
        Figure("faster than bochs", times("bochs", base, geometric_mean), "x", Target(">=", 30.0)),
        Figure("faster than unicorn", times("unicorn", base, geometric_mean), "x"),
        Figure("time of host", times(base, "host", geometric_mean), "x", Target("<=", 2.5)),
    ]
    if base == "bare":
        bound = Target("<=", 1.1)
        found.append(Figure("ept, time of bare", times("ept", base, geometric_mean), "x", bound))
        found.append(Figure("shadow, time of bare", times("shadow", base, geometric_mean), "x"))
    return found


def _cold_figures(costs: Costs, base: str) -> list[Figure]:
    qemu = costs.get(("cold", "qemu"))

    def against_qemu(contestant: str) -> float | None:
        ours = costs.get(("cold", contestant))
        return None if ours is None or qemu is None else ours / qemu

    return [
        Figure("cold run, time of qemu", against_qemu(base), "x", Target("<=", 1.5)),
        Figure("second run, time of qemu", against_qemu(f"{base}-second"), "x", Target("<", 1.0)),
    ]


_EVENTS: tuple[tuple[str, str, str, float | None], ...] = (
    ("CPUID exit to the VMM", "cpuid-exit", "ept", 1500),
    ("CPUID exit to Python, least", "cpuid-exit", "ept-port", 1500),
    ("CPUID exit to root-mode code", "cpuid-root", "bare", 150),
    ("CPUID on the host", "cpuid-exit", "host", None),
    ("TLB miss, bare", "tlb-miss", "bare", None),
    ("TLB miss, two-dimensional", "tlb-miss", "ept", 100),
    ("TLB miss, shadow", "tlb-miss", "shadow", None),
    ("TLB miss, qemu", "tlb-miss", "qemu", None),
)
"""Name, kernel, contestant, and how many nanoseconds it may take."""


def _event_figures(rows: Sequence[Row]) -> list[Figure]:
    by_name: dict[str, Kernel] = {kernel.name: kernel for kernel in KERNELS}
    found = []
    for name, kernel, contestant, most in _EVENTS:
        seconds = event_seconds(rows, by_name[kernel], contestant)
        target = None if most is None else Target("<=", most)
        found.append(Figure(name, None if seconds is None else seconds * NANOSECONDS, "ns", target))
    return found
