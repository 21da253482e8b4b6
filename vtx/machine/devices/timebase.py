"""Virtual time and the exact ratios of the PC's clocks to it.

Time is an integer count of TSC ticks; nothing here reads a wall clock. The frequencies come
from `spec/clocks.toml`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from vtx.spec.clocks import clock, rtc_epoch


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


@dataclass(frozen=True, slots=True)
class Frequency:
    """A clock that ticks `numerator` times in `denominator` TSC ticks, first at time 0."""

    numerator: int
    denominator: int

    def count_at(self, time: int) -> int:
        """How many whole periods have passed at `time` (TSC ticks)."""
        return time * self.numerator // self.denominator

    def time_of(self, count: int) -> int:
        """The first time (TSC ticks) at which `count` periods have passed."""
        return -(-count * self.denominator // self.numerator)


def _frequency(name: str) -> Frequency:
    ratio = clock(name).per_tsc_tick
    return Frequency(ratio.numerator, ratio.denominator)


TSC_HZ: Final = clock("tsc").hz_numerator
LAPIC_TIMER: Final = _frequency("lapic")
PIT: Final = _frequency("pit")
ACPI_PM: Final = _frequency("acpi_pm")
RTC: Final = _frequency("rtc")
RTC_EPOCH: Final = rtc_epoch().replace(tzinfo=None)
