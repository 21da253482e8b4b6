"""The 8254 interval timer and system control port B as a PC wires them.

Counter 0 drives IRQ 0, counter 1 once refreshed memory, counter 2 has its gate and output at
port 0x61. Source: 8254 data sheet, Programming; IBM PC Technical Reference for port 0x61.
"""

from __future__ import annotations

from typing import Final

from vtx.machine.devices import timebase
from vtx.machine.devices.lines import InterruptLine
from vtx.machine.devices.pit_channel import PERIODIC_MODES, PitChannel
from vtx.machine.devices.timebase import Clock
from vtx.spec.places import port_range

FIRST_PORT: Final = port_range("pit").first
CONTROL_PORT: Final = FIRST_PORT + 3
SYSTEM_CONTROL_PORT: Final = port_range("port61").first

READ_BACK: Final = 3  # in the counter-select bits of a control word
SYSTEM_GATE2, SYSTEM_SPEAKER, SYSTEM_REFRESH, SYSTEM_OUT2 = 0x01, 0x02, 0x10, 0x20
SYSTEM_WRITABLE: Final = 0x0F
REFRESH_CLOCKS: Final = 18  # counter 1's period, 15 microseconds


class Pit8254:
    """The three counters; `irq0` follows OUT of counter 0."""

    def __init__(self, clock: Clock, irq0: InterruptLine) -> None:
        self.clock = clock
        self.irq0 = irq0
        self.channels = (PitChannel(), PitChannel(), PitChannel(gate=False))
        self.system_control = 0
        self.seen_clk = 0  # up to where OUT of counter 0 has been shown on the line

    def next_event(self) -> int | None:
        """When OUT of counter 0 changes next."""
        change = self.channels[0].next_change(self.seen_clk)
        return None if change is None else timebase.PIT.time_of(change)

    def advance(self, now: int) -> None:
        """Show on IRQ 0 what OUT of counter 0 did up to `now`."""
        self._show_output(timebase.PIT.count_at(now))

    def _show_output(self, clk: int) -> None:
        channel = self.channels[0]
        periodic = channel.mode in PERIODIC_MODES and channel.reload_at is None
        if periodic and clk - self.seen_clk > 4 * channel.count:
            # Whole periods that nobody looked at: the last two leave the same traces.
            channel.settle(self.seen_clk)
            self.seen_clk = clk - 2 * channel.count
            self.irq0.set(channel.out(self.seen_clk))
        while (change := channel.next_change(self.seen_clk)) is not None and change <= clk:
            channel.settle(change)
            self.seen_clk = change
            self.irq0.set(channel.out(change))
        channel.settle(clk)
        self.seen_clk = clk
        self.irq0.set(channel.out(clk))

    def port_in(self, port: int, width_bits: int) -> int:
        clk = self._now()
        if port == SYSTEM_CONTROL_PORT:
            return self._read_system_control(clk)
        if port == CONTROL_PORT:
            return 0xFF  # the control word register cannot be read
        return self.channels[port - FIRST_PORT].read(clk)

    def port_out(self, port: int, width_bits: int, value: int) -> None:
        clk = self._now()
        if port == SYSTEM_CONTROL_PORT:
            self.system_control = value & SYSTEM_WRITABLE
            self.channels[2].set_gate(clk, bool(value & SYSTEM_GATE2))
        elif port == CONTROL_PORT:
            self._write_control(clk, value)
        else:
            self.channels[port - FIRST_PORT].write_count(clk, value)
        self.irq0.set(self.channels[0].out(clk))

    def _now(self) -> int:
        clk = timebase.PIT.count_at(self.clock.now())
        self._show_output(clk)
        return clk

    def _write_control(self, clk: int, value: int) -> None:
        select = value >> 6
        if select == READ_BACK:
            for index, channel in enumerate(self.channels):
                if value >> (index + 1) & 1:
                    if not value & 0x20:
                        channel.latch_count(clk)
                    if not value & 0x10:
                        channel.latch_status(clk)
        elif value & 0x30:
            self.channels[select].write_control(clk, value)
        else:
            self.channels[select].latch_count(clk)

    def _read_system_control(self, clk: int) -> int:
        value = self.system_control
        if clk // REFRESH_CLOCKS & 1:
            value |= SYSTEM_REFRESH
        self.channels[2].settle(clk)
        return value | (SYSTEM_OUT2 if self.channels[2].out(clk) else 0)
