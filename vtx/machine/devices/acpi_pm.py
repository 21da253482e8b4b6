"""The ACPI fixed hardware: PM1a events and control, and the power-management timer.

It must not know the tables that announce it. Source: ACPI Specification, Fixed Hardware
Features (PM1 event and control registers, Power Management Timer).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from vtx.machine.devices import timebase
from vtx.machine.devices.lines import InterruptLine
from vtx.machine.devices.timebase import Clock
from vtx.spec.places import port_range

STATUS_PORT: Final = port_range("acpi_pm1a").first
ENABLE_PORT: Final = STATUS_PORT + 2
CONTROL_PORT: Final = STATUS_PORT + 4
TIMER_PORT: Final = port_range("acpi_pm_timer").first
TIMER_STATUS: Final = 0x0001  # bit 0 of both PM1 event registers
ENABLE_BITS: Final = 0x0721
CONTROL_SCI_ENABLE, CONTROL_SLEEP_TYPE, CONTROL_SLEEP_ENABLE = 0x0001, 0x1C00, 0x2000
SLEEP_TYPE_OFF: Final = 0
TIMER_BITS: Final = 32


class AcpiPm:
    """Register block 0x600-0x605 and the 32-bit timer at 0x608. Writing sleep type 0 with the
    sleep-enable bit (0x2000 to port 0x604) calls `power_off`; other sleep types do nothing."""

    def __init__(self, clock: Clock, sci: InterruptLine, power_off: Callable[[], None]) -> None:
        self.clock = clock
        self.sci = sci
        self.power_off = power_off
        self.enable = 0
        self.status = 0
        self.looked_at = 0

    def _half_turns(self, time: int) -> int:
        """How often the timer's top bit has changed."""
        return timebase.ACPI_PM.count_at(time) >> TIMER_BITS - 1

    def next_event(self) -> int | None:
        """When the timer's top bit changes next, if that interrupts."""
        if not self.enable & TIMER_STATUS or self.status & TIMER_STATUS:
            return None
        turns = self._half_turns(self.looked_at) + 1
        return timebase.ACPI_PM.time_of(turns << TIMER_BITS - 1)

    def advance(self, now: int) -> None:
        if self._half_turns(now) != self._half_turns(self.looked_at):
            self.status |= TIMER_STATUS
        self.looked_at = now
        self._update_line()

    def _update_line(self) -> None:
        self.sci.set(bool(self.status & self.enable))

    def port_in(self, port: int, width_bits: int) -> int:
        self.advance(self.clock.now())
        if port >= TIMER_PORT:
            count = timebase.ACPI_PM.count_at(self.clock.now()) & (1 << TIMER_BITS) - 1
            return count >> 8 * (port - TIMER_PORT)
        registers = self.status | self.enable << 16 | CONTROL_SCI_ENABLE << 32
        return registers >> 8 * (port - STATUS_PORT)

    def port_out(self, port: int, width_bits: int, value: int) -> None:
        self.advance(self.clock.now())
        for i in range(width_bits >> 3):
            self._write_byte(port + i, value >> 8 * i & 0xFF)
        self._update_line()

    def _write_byte(self, port: int, value: int) -> None:
        shift = 8 * (port & 1)
        register = port & ~1
        if register == STATUS_PORT:
            self.status &= ~(value << shift)  # a one clears
        elif register == ENABLE_PORT:
            kept = self.enable & ~(0xFF << shift)
            self.enable = (kept | value << shift) & ENABLE_BITS
        elif register == CONTROL_PORT:
            control = value << shift
            sleeps = control & CONTROL_SLEEP_ENABLE
            if sleeps and control & CONTROL_SLEEP_TYPE == SLEEP_TYPE_OFF:
                self.power_off()
