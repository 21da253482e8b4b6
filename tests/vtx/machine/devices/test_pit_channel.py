"""A counter's closed form agrees with a counter that is clocked pulse by pulse."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vtx.machine.devices.pit_channel import PitChannel


class SteppedCounter:
    """The 8254 data sheet's mode definitions, one clock pulse at a time (binary or BCD)."""

    def __init__(self, mode, bcd, gate, element):
        self.mode, self.gate = mode, gate
        self.modulus = 10000 if bcd else 65536
        self.reload = None
        self.element = element
        self.out = mode != 0
        self.loading = self.counting = self.strobed = False

    def write(self, count):
        first = self.reload is None
        self.reload = count or self.modulus
        if self.mode == 0:
            self.out = False
        if self.mode in (0, 4) or (self.mode in (2, 3) and first):
            self.loading = True

    def set_gate(self, level):
        rose, self.gate = level and not self.gate, level
        if self.mode in (2, 3) and not level:
            self.out = True
        if rose and self.reload is not None and self.mode in (1, 2, 3, 5):
            self.loading = True

    def pulse(self):
        if self.mode >= 4 and not self.out:
            self.out = True
        if self.loading:
            self.loading, self.counting, self.strobed = False, True, False
            self.element = self.reload & ~1 if self.mode == 3 else self.reload
            self.half = 0
            self.period = self.reload
            self.out = self.mode not in (0, 1)
        elif self.counting and (self.gate or self.mode in (1, 5)):
            self._count()

    def _count(self):
        if self.mode == 3:
            self.half += 1
            self.element -= 2
            if self.half == (self.period + (1 if self.out else 0)) // 2:
                self.out, self.half, self.period = not self.out, 0, self.reload
                self.element = self.reload & ~1
            return
        self.element -= 1
        if self.mode == 2:
            if self.element == 0:
                self.element, self.out = self.reload, True
            if self.element == 1:
                self.out = False
            return
        if self.element == 0 and not self.strobed:
            self.strobed = True
            self.out = self.mode < 4

    def value(self):
        value = self.element % self.modulus
        return int(f"{value:04d}", 16) if self.modulus == 10000 else value


def read_value(channel, clk):
    channel.latch_count(clk)
    low = channel.read(clk)
    return low | channel.read(clk) << 8


def write_value(channel, clk, count, bcd):
    raw = int(f"{count:04d}", 16) if bcd else count
    channel.write_count(clk, raw & 0xFF)
    channel.write_count(clk, raw >> 8)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.integers(1, 30)),
        st.tuples(st.just("write"), st.integers(2, 12)),
        st.tuples(st.just("gate"), st.booleans()),
    ),
    max_size=14,
)


@settings(max_examples=600, deadline=None, derandomize=True)
@given(mode=st.integers(0, 5), bcd=st.booleans(), gate=st.booleans(), steps=STEPS)
def test_output_and_count_agree_with_a_clocked_counter(mode, bcd, gate, steps):
    channel, looked_at = PitChannel(gate=gate), PitChannel(gate=gate)
    for each in (channel, looked_at):
        each.write_control(0, 0x30 | mode << 1 | bcd)
    model = SteppedCounter(mode, bcd, gate, 0)
    clk = 0
    for kind, amount in [("write", 7), *steps, ("wait", 30)]:
        if kind == "write":
            model.write(amount)
            for each in (channel, looked_at):
                write_value(each, clk, amount, bcd)
        elif kind == "gate":
            model.set_gate(amount)
            for each in (channel, looked_at):
                each.set_gate(clk, amount)
        else:
            for _ in range(amount):
                clk += 1
                model.pulse()
                looked_at.settle(clk)
                assert looked_at.out(clk) == model.out
                assert read_value(looked_at, clk) == model.value()
        channel.settle(clk)
        assert channel.out(clk) == model.out
        assert read_value(channel, clk) == model.value()


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    mode=st.integers(0, 5), count=st.integers(2, 9), again=st.integers(2, 9), at=st.integers(0, 20)
)
def test_the_next_change_is_where_the_output_first_differs(mode, count, again, at):
    channel = PitChannel(gate=mode not in (1, 5))
    channel.write_control(0, 0x10 | mode << 1)
    channel.write_count(0, count)
    channel.set_gate(1, True)
    channel.settle(at)
    channel.write_count(at + 1, again)
    for clk in range(at + 1, at + 40):
        channel.settle(clk)
        change = channel.next_change(clk)
        level = channel.out(clk)
        limit = change if change is not None else clk + 1
        for later in range(clk + 1, limit):
            assert channel.out(later) == level
        if change is not None:
            channel.settle(change)
            assert channel.out(change) != level
            return


def test_a_count_of_zero_is_the_largest_one():
    for control, largest in ((0x30, 65536), (0x31, 10000)):
        channel = PitChannel()
        channel.write_control(0, control)
        write_value(channel, 0, 0, bcd=False)
        assert not channel.out(largest)
        assert channel.out(largest + 1)


@pytest.mark.parametrize(("access", "expected"), [(1, [0x34, 0x34]), (2, [0x12, 0x12])])
def test_single_byte_access_reads_the_same_byte_again(access, expected):
    channel = PitChannel(gate=False)
    channel.write_control(0, 0x30)
    write_value(channel, 0, 0x1234, bcd=False)
    channel.access = access

    assert [channel.read(5), channel.read(5)] == expected


def test_a_latched_count_stays_until_it_is_read_whole():
    channel = PitChannel()
    channel.write_control(0, 0x34)
    write_value(channel, 0, 1000, bcd=False)
    channel.latch_count(101)
    channel.latch_count(201)

    assert [channel.read(300), channel.read(300)] == [(1000 - 100) & 0xFF, (1000 - 100) >> 8]
    assert [channel.read(301), channel.read(301)] == [(1000 - 300) & 0xFF, (1000 - 300) >> 8]


def test_status_tells_output_null_count_access_mode_and_bcd():
    channel = PitChannel()

    def status(clk):
        channel.latch_status(clk)
        return channel.read(clk)

    channel.write_control(0, 0x34)
    assert status(0) == 0x80 | 0x40 | 0x34
    write_value(channel, 5, 100, bcd=False)
    assert status(5) == 0x80 | 0x40 | 0x34
    assert status(6) == 0x80 | 0x34
    assert status(105) == 0x34
    write_value(channel, 110, 50, bcd=False)
    assert status(110) & 0x40
    assert not status(206) & 0x40


def test_latched_status_is_read_before_the_latched_count():
    channel = PitChannel()
    channel.write_control(0, 0x10)
    channel.write_count(0, 9)
    channel.latch_count(4)
    channel.latch_status(4)

    assert [channel.read(4), channel.read(4)] == [0x10, 6]


def test_mode_numbers_6_and_7_mean_2_and_3():
    channel = PitChannel()
    channel.write_control(0, 0x3C)
    assert channel.mode == 2
    channel.write_control(0, 0x3E)
    assert channel.mode == 3
