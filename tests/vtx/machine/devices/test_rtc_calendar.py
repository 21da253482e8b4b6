"""Calendar registers and moments correspond in every format."""

from datetime import datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from vtx.machine.devices.rtc_calendar import next_alarm, registers_at, second_of

EPOCH = datetime(2000, 1, 1)


@given(
    st.integers(0, 7999 * 365 * 86400),
    st.sampled_from((0, 2, 4, 6)),
    st.integers(0, 6),
)
def test_registers_and_moments_correspond(second, mode, shift):
    assert second_of(registers_at(second, shift, mode), mode) == (second, shift)


@given(st.dictionaries(st.sampled_from((0, 2, 4, 6, 7, 8, 9, 0x32)), st.integers(0, 255)))
def test_nonsense_in_the_calendar_still_means_some_moment(values):
    registers = registers_at(0, 0, 2) | values
    second, shift = second_of(registers, 2)
    assert second_of(registers_at(second, shift, 6), 6) == (second, shift)


FIELD = st.one_of(st.none(), st.integers(0, 59))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 200000), st.one_of(st.none(), st.integers(0, 23)), FIELD, FIELD)
def test_the_next_alarm_is_the_first_matching_second(second, hours, minutes, seconds):
    def matches(moment):
        pairs = ((moment.hour, hours), (moment.minute, minutes), (moment.second, seconds))
        return all(wanted in (None, have) for have, wanted in pairs)

    found = next_alarm(second, (hours, minutes, seconds))

    assert found > second
    assert matches(EPOCH + timedelta(seconds=found))
    step = max((found - second) // 500, 1)
    for earlier in {*range(second + 1, found, step), *range(max(second + 1, found - 90), found)}:
        assert not matches(EPOCH + timedelta(seconds=earlier))
