"""ACPI power management: power-off, timer, event registers."""

import pytest

from vtx.machine.devices import timebase
from vtx.machine.devices.acpi_pm import AcpiPm
from vtx.machine.devices.lines import Wire
from vtx.machine.devices.timebase import ManualClock


class Board:
    def __init__(self):
        self.clock = ManualClock()
        self.sci = Wire()
        self.offs = 0
        self.pm = AcpiPm(self.clock, self.sci, self.power_off)

    def power_off(self):
        self.offs += 1


@pytest.fixture
def board():
    return Board()


@pytest.mark.parametrize(("value", "offs"), [(0x2000, 1), (0x2001, 1), (0x3400, 0), (0x0001, 0)])
def test_sleep_enable_with_type_0_powers_off(board, value, offs):
    board.pm.port_out(0x604, 16, value)
    assert board.offs == offs


def test_power_off_also_works_by_its_high_byte(board):
    board.pm.port_out(0x605, 8, 0x20)
    assert board.offs == 1


def test_control_shows_acpi_mode(board):
    assert board.pm.port_in(0x604, 16) & 0xFFFF == 1


def test_the_timer_counts_at_3_58_mhz(board):
    board.clock.time = timebase.TSC_HZ
    assert board.pm.port_in(0x608, 32) == 3579545
    assert board.pm.port_in(0x609, 8) & 0xFF == 3579545 >> 8 & 0xFF


def test_the_timers_top_bit_raises_sci_where_enabled_until_cleared(board):
    board.pm.port_out(0x602, 16, 1)
    due = board.pm.next_event()
    board.pm.advance(due - 1)
    assert not board.sci.level
    board.clock.time = due
    board.pm.advance(due)
    assert board.sci.level
    assert timebase.ACPI_PM.count_at(due) == 1 << 31
    assert board.pm.port_in(0x600, 16) & 0xFFFF == 1
    board.pm.port_out(0x600, 16, 1)
    assert not board.sci.level
    assert board.pm.next_event() > due
