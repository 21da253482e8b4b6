"""The real-time clock: calendar, formats, SET, and the three interrupts."""

import pytest

from vtx.machine.devices.lines import Wire
from vtx.machine.devices.rtc import Rtc
from vtx.machine.devices.rtc_calendar import registers_at
from vtx.machine.devices.timebase import TSC_HZ, ManualClock

CALENDAR = (0x32, 9, 8, 7, 4, 2, 0)


class Cmos:
    def __init__(self, ram_size=64 << 20):
        self.clock = ManualClock()
        self.line = Wire()
        self.rtc = Rtc(self.clock, self.line, ram_size)

    def __getitem__(self, index):
        self.rtc.port_out(0x70, 8, index)
        return self.rtc.port_in(0x71, 8)

    def __setitem__(self, index, value):
        self.rtc.port_out(0x70, 8, index)
        self.rtc.port_out(0x71, 8, value)

    def calendar(self):
        return [self[index] for index in CALENDAR]

    def second(self, count):
        self.clock.time = count * TSC_HZ

    def next_rise(self):
        due = self.rtc.next_event()
        if due is not None:
            self.rtc.advance(due - 1)
            assert not self.line.level
            self.clock.time = due
            self.rtc.advance(due)
            assert self.line.level
        return due


@pytest.fixture
def cmos():
    return Cmos()


def test_the_machine_starts_at_the_start_of_2000_in_bcd_and_24_hours(cmos):
    assert cmos.calendar() == [0x20, 0x00, 0x01, 0x01, 0x00, 0x00, 0x00]
    assert cmos[6] == 7  # a Saturday
    assert cmos[0x0B] == 0x02
    assert cmos[0x0D] == 0x80


def test_seconds_carry_into_minutes_days_and_years(cmos):
    cmos.second(366 * 86400 + 58 * 86400 + 86399)
    assert cmos.calendar() == [0x20, 0x01, 0x02, 0x28, 0x23, 0x59, 0x59]
    cmos.second(366 * 86400 + 58 * 86400 + 86400)
    assert cmos.calendar() == [0x20, 0x01, 0x03, 0x01, 0x00, 0x00, 0x00]


def test_binary_and_12_hour_formats(cmos):
    cmos.second(12 * 3600 + 34 * 60 + 56)
    cmos[0x0B] = 0x06
    assert [cmos[4], cmos[2], cmos[0]] == [12, 34, 56]
    assert registers_at(0, 0, 0x04)[4] == 12
    assert registers_at(12 * 3600, 0, 0x00)[4] == 0x92
    assert registers_at(13 * 3600, 0, 0x04)[4] == 0x81


def test_setting_the_clock_under_set_takes_effect_when_set_is_cleared(cmos):
    cmos.second(5)
    cmos[0x0B] = 0x82
    for index, value in zip(CALENDAR, (0x20, 0x24, 0x02, 0x29, 0x23, 0x59, 0x58), strict=True):
        cmos[index] = value
    cmos.second(50)
    assert cmos[0] == 0x58
    cmos[0x0B] = 0x02
    cmos.second(52)
    assert cmos.calendar() == [0x20, 0x24, 0x03, 0x01, 0x00, 0x00, 0x00]


def test_update_in_progress_precedes_the_second_by_its_2228_microseconds(cmos):
    cmos.clock.time = TSC_HZ - 222_801
    assert cmos[0x0A] == 0x26
    cmos.clock.time += 1
    assert cmos[0x0A] == 0xA6
    cmos.clock.time = TSC_HZ
    assert cmos[0x0A] == 0x26


@pytest.mark.parametrize(
    ("rate", "hz"), [(1, 256), (2, 128), (3, 8192), (6, 1024), (13, 8), (15, 2)]
)
def test_periodic_interrupts_come_at_their_rate_once_c_is_read(cmos, rate, hz):
    cmos[0x0A] = 0x20 | rate
    cmos[0x0B] = 0x42
    times = []
    for _ in range(5):
        times.append(cmos.next_rise())
        assert cmos.rtc.next_event() is None
        assert cmos[0x0C] & 0xC0 == 0xC0
        assert not cmos.line.level
    assert times == [-(-i * TSC_HZ // hz) for i in range(1, 6)]


def test_flags_go_up_without_their_enable_but_ask_for_nothing(cmos):
    cmos.second(3)
    assert cmos[0x0C] == 0x50
    assert cmos[0x0C] == 0
    assert cmos.rtc.next_event() is None


def test_enabling_a_flag_that_is_already_up_interrupts(cmos):
    cmos.second(1)
    cmos[0x0B] = 0x12
    assert cmos.line.level


def test_update_ended_interrupts_every_second(cmos):
    cmos[0x0B] = 0x12
    assert cmos.next_rise() == TSC_HZ
    cmos[0x0C]
    assert cmos.next_rise() == 2 * TSC_HZ


@pytest.mark.parametrize(
    ("alarm", "due"),
    [
        ((0x01, 0x02, 0x03), 3723),
        ((0xFF, 0xC0, 0x05), 5),
        ((0xFF, 0x02, 0xFF), 120),
        ((0x00, 0x00, 0x00), 86400),
    ],
)
def test_the_alarm_matches_its_registers_or_anything(cmos, alarm, due):
    cmos[5], cmos[3], cmos[1] = alarm
    cmos[0x0B] = 0x22
    assert cmos.next_rise() == due * TSC_HZ
    assert cmos[0x0C] & 0xA0 == 0xA0


def test_an_impossible_alarm_never_comes(cmos):
    cmos[5], cmos[3], cmos[1] = 0x25, 0, 0
    cmos[0x0B] = 0x22
    assert cmos.rtc.next_event() is None


def test_flags_do_not_depend_on_how_often_time_was_advanced():
    often, seldom = Cmos(), Cmos()
    for now in range(0, 3 * TSC_HZ, 7_654_321):
        often.clock.time = now
        often.rtc.advance(now)
    seldom.clock.time = now
    assert often[0x0C] == seldom[0x0C]


def test_cmos_tells_the_size_of_ram():
    cmos = Cmos(ram_size=5 << 30)
    assert cmos[0x15] | cmos[0x16] << 8 == 640
    assert cmos[0x17] | cmos[0x18] << 8 == 0xFFFF
    assert cmos[0x34] | cmos[0x35] << 8 == (0xC0000000 - (16 << 20)) >> 16
    assert cmos[0x5B] | cmos[0x5C] << 8 | cmos[0x5D] << 16 == (2 << 30) >> 16
    small = Cmos(ram_size=2 << 20)
    assert (small[0x30] | small[0x31] << 8, small[0x34]) == (1024, 0)


def test_other_cmos_bytes_are_plain_memory_and_bit_7_of_the_index_is_no_address(cmos):
    cmos[0x50] = 0x5A
    assert cmos[0xD0] == 0x5A
