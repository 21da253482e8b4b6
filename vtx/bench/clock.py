"""The clocks that a run can be timed by.

Wall time is what users wait. On a host that others use too, the CPU time of who did the work is
the steadier of the two; it counts every thread.
"""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter, process_time


@dataclass(frozen=True)
class Clock:
    """`own` is for work in this process, `children` for processes that were waited for."""

    name: str
    own: Callable[[], float]
    children: Callable[[], float]


def _children_time() -> float:
    import resource  # not on every system

    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


WALL = Clock("wall", perf_counter, perf_counter)
CPU = Clock("cpu", process_time, _children_time)
CLOCKS = {clock.name: clock for clock in (WALL, CPU)}
