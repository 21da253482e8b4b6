"""Clocks are exact ratios of the TSC."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtx.machine.devices import timebase

HZ = {
    timebase.PIT: Fraction(14_318_180, 12),
    timebase.ACPI_PM: Fraction(14_318_180, 4),
    timebase.RTC: Fraction(32768),
    timebase.LAPIC_TIMER: Fraction(100_000_000),
}


@pytest.mark.parametrize("clock", HZ)
def test_a_second_has_as_many_periods_as_the_frequency_says(clock):
    per_second = Fraction(clock.numerator, clock.denominator) * timebase.TSC_HZ

    assert abs(per_second - HZ[clock]) < 1


@given(st.sampled_from(list(HZ)), st.integers(0, 10**15))
def test_a_count_is_reached_at_its_time_and_not_a_tick_earlier(clock, count):
    time = clock.time_of(count)

    assert clock.count_at(time) >= count
    assert time == 0 or clock.count_at(time - 1) < count
