"""The machine's clocks as exact ratios, and the fixed inputs that take the host's place.

Must not know who counts: devices turn these ratios into deadlines.
"""

import datetime
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

from vtx.spec.tables import lookup, read_table, rows


@dataclass(frozen=True, slots=True)
class Clock:
    """One clock; its frequency is exactly hz_numerator / hz_denominator Hz."""

    name: str
    hz_numerator: int
    meaning: str
    see: str
    hz_denominator: int = 1

    @property
    def hz(self) -> Fraction:
        """Frequency in Hz, exact."""
        return Fraction(self.hz_numerator, self.hz_denominator)

    @property
    def per_tsc_tick(self) -> Fraction:
        """Ticks of this clock in one tick of the TSC, exact."""
        return self.hz / clock("tsc").hz

    def ticks_at(self, now: int) -> int:
        """Whole ticks of this clock since time 0 when the TSC has made `now` ticks."""
        ratio = self.per_tsc_tick
        return now * ratio.numerator // ratio.denominator

    def time_of(self, ticks: int) -> int:
        """The first `now` (in TSC ticks) at which this clock has made `ticks` ticks."""
        ratio = self.per_tsc_tick
        return -(-ticks * ratio.denominator // ratio.numerator)


@cache
def clocks() -> tuple[Clock, ...]:
    """All clocks."""
    return rows("clocks", "clocks", Clock)


@cache
def _by_name() -> dict[str, Clock]:
    return {row.name: row for row in clocks()}


def clock(name: str) -> Clock:
    """The clock called `name`: tsc, lapic, preemption_timer, pit, acpi_pm, rtc; else SpecError."""
    return _by_name()[name] if name in _by_name() else lookup("clock", _by_name(), name)


def rtc_epoch() -> datetime.datetime:
    """The date and time (UTC) that the real-time clock shows at time 0."""
    epoch: datetime.datetime = read_table("clocks")["rtc_epoch"]
    return epoch


def rdrand_seed() -> int:
    """The 64-bit seed of RDRAND and RDSEED."""
    seed: int = read_table("clocks")["rdrand_seed"]
    return seed


def turn_instructions() -> int:
    """Instructions that one of several CPUs retires before the next one has its turn."""
    turn: int = read_table("clocks")["turn_instructions"]
    return turn
