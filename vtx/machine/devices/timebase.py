"""Virtual time and the exact ratios of the PC's clocks to it.

Time is an integer count of TSC ticks; nothing here reads a wall clock.
"""

from __future__ import annotations

from typing import Final, Protocol

TSC_HZ: Final = 100_000_000
PIT_HZ: Final = 1_193_182
PM_TIMER_HZ: Final = 3_579_545
RTC_HZ: Final = 32_768
LAPIC_TIMER_HZ: Final = TSC_HZ


class Clock(Protocol):
    """Where a device gets the time from."""

    def now(self) -> int:
        """Virtual time in TSC ticks since the machine was switched on; never decreases."""


class Timed(Protocol):
    """A device whose state changes by itself as time passes."""

    def next_event(self) -> int | None:
        """Absolute time of the next change that may move an interrupt line; None if none is due."""

    def advance(self, now: int) -> None:
        """Do everything due at or before `now`; calling it more often changes nothing."""


class ManualClock:
    """A clock that is set by hand: for tests and for whoever counts retired instructions."""

    def __init__(self, time: int = 0) -> None:
        self.time = time

    def now(self) -> int:
        return self.time


def count_at(time: int, hz: int) -> int:
    """How many whole periods of a clock of `hz` have passed at `time` (TSC ticks)."""
    return time * hz // TSC_HZ


def time_of(count: int, hz: int) -> int:
    """The first time (TSC ticks) at which a clock of `hz` has counted `count` periods."""
    return -(-count * TSC_HZ // hz)
