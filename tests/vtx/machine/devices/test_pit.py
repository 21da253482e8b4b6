"""The PIT on its ports: IRQ 0 at exact times, counter 2 behind port 0x61."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vtx.machine.devices import timebase
from vtx.machine.devices.lines import Wire
from vtx.machine.devices.pit import Pit8254
from vtx.machine.devices.timebase import ManualClock


class Board:
    def __init__(self):
        self.clock = ManualClock()
        self.rises = []
        self.line = Wire(lambda level: self.rises.append(self.clock.time) if level else None)
        self.pit = Pit8254(self.clock, self.line)

    def out(self, *writes):
        for port, value in writes:
            self.pit.port_out(port, 8, value)

    def read(self, port):
        return self.pit.port_in(port, 8)

    def run_to(self, time):
        """As a machine does: stop at every event on the way."""
        while (due := self.pit.next_event()) is not None and due <= time:
            self.clock.time = due
            self.pit.advance(due)
        self.clock.time = time
        self.pit.advance(time)


@pytest.fixture
def board():
    return Board()


@pytest.mark.parametrize("mode", [2, 3])
def test_periodic_interrupts_come_at_exact_times(board, mode):
    board.out((0x43, 0x30 | mode << 1), (0x40, 0xA9), (0x40, 0x04))  # 1193: about 1 kHz
    board.rises.clear()
    board.run_to(10_000_000)

    assert board.rises == [timebase.PIT.time_of(1 + 1193 * i) for i in range(1, 101)]


def test_a_one_shot_count_interrupts_once_one_pulse_after_it_ran_out(board):
    board.out((0x43, 0x30), (0x40, 0x00), (0x40, 0x10))
    assert not board.line.level
    board.run_to(10**9)

    assert board.rises == [timebase.PIT.time_of(1 + 0x1000)]
    assert board.pit.next_event() is None


def test_a_line_that_nobody_followed_has_its_level_and_at_least_one_edge(board):
    board.out((0x43, 0x34), (0x40, 10), (0x40, 0))
    board.rises.clear()
    board.clock.time = 10**12
    board.pit.advance(10**12)

    assert board.rises
    assert board.line.level == board.pit.channels[0].out(timebase.PIT.count_at(10**12))
    assert board.pit.next_event() > 10**12


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    mode=st.integers(0, 5),
    count=st.integers(2, 40),
    looks=st.lists(st.integers(1, 3000), max_size=20),
)
def test_what_is_read_does_not_depend_on_how_often_time_was_advanced(mode, count, looks):
    often, seldom = Board(), Board()
    for board in (often, seldom):
        board.out((0x43, 0x30 | mode << 1), (0x40, count), (0x40, 0))
    now = 0
    for step in looks:
        now += step
        often.run_to(now)
    seldom.clock.time = now

    for board in (often, seldom):
        board.out((0x43, 0xC2))
    assert [often.read(0x40) for _ in range(3)] == [seldom.read(0x40) for _ in range(3)]
    assert often.line.level == seldom.line.level


def test_read_back_latches_the_selected_counters(board):
    board.out((0x43, 0x34), (0x40, 0xE8), (0x40, 0x03))
    board.clock.time = timebase.PIT.time_of(101)
    board.out((0x43, 0xC2))
    board.clock.time += 10**6

    assert [board.read(0x40) for _ in range(3)] == [0x80 | 0x34, 900 & 0xFF, 900 >> 8]


def test_counter_2_counts_behind_the_gate_of_port_0x61(board):
    """The usual way to calibrate a TSC: mode 0, gate on, poll OUT2."""
    board.out((0x61, 0x00), (0x43, 0xB0), (0x42, 0x9C), (0x42, 0x2E))
    board.clock.time = 10**8
    assert board.read(0x61) & 0x23 == 0x00
    board.out((0x61, 0x01))
    start = timebase.PIT.count_at(10**8)
    board.clock.time = timebase.PIT.time_of(start + 11932) - 1
    assert board.read(0x61) & 0x23 == 0x01
    board.clock.time += 1
    assert board.read(0x61) & 0x23 == 0x21


def test_the_refresh_bit_toggles_with_time(board):
    seen = set()
    for _ in range(4):
        seen.add(board.read(0x61) & 0x10)
        board.clock.time += 1509
    assert seen == {0, 0x10}


def test_the_control_port_cannot_be_read(board):
    assert board.read(0x43) == 0xFF
