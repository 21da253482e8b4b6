"""Clocks are exact ratios of the TSC."""

import datetime

from hypothesis import given
from hypothesis import strategies as st

from vtx import spec


def test_frequencies_are_those_of_a_pc():
    assert spec.clock("tsc").hz == 100_000_000
    assert round(spec.clock("pit").hz) == 1193182
    assert round(spec.clock("acpi_pm").hz) == 3579545
    assert spec.clock("acpi_pm").hz == 3 * spec.clock("pit").hz
    assert spec.clock("rtc").hz == 32768
    assert spec.clock("lapic").per_tsc_tick == 1


@given(st.sampled_from(spec.clocks()), st.integers(0, 1 << 64))
def test_a_tick_has_happened_at_its_time_and_not_one_tsc_tick_before(clock, ticks):
    now = clock.time_of(ticks)
    assert clock.ticks_at(now) == ticks or clock.hz > spec.clock("tsc").hz
    assert now == 0 or clock.ticks_at(now - 1) < ticks


def test_the_world_outside_is_fixed():
    assert spec.rtc_epoch() == datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
    assert 0 < spec.rdrand_seed() < 1 << 64
