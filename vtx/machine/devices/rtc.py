"""CMOS memory and the MC146818 real-time clock at ports 0x70 and 0x71.

Nothing ticks: flags and calendar are computed from the clock when somebody looks. The RTC's
second begins with the machine's. It must not know the host's time.
Source: MC146818 data sheet, Registers A to D, Update Cycle; CMOS bytes as PC firmware sets them.
"""

from __future__ import annotations

from typing import Final

from vtx.machine.devices import timebase
from vtx.machine.devices.lines import InterruptLine
from vtx.machine.devices.rtc_calendar import (
    TIME_REGISTERS,
    decode,
    decode_hours,
    next_alarm,
    registers_at,
    second_of,
)
from vtx.machine.devices.timebase import TSC_HZ, Clock
from vtx.machine.memory_map import HIGH_RAM_BASE, MIB, ram_ranges
from vtx.spec.places import port_range

INDEX_PORT: Final = port_range("cmos").first
DATA_PORT: Final = INDEX_PORT + 1

SECONDS_ALARM, MINUTES_ALARM, HOURS_ALARM = 1, 3, 5
REGISTER_A, REGISTER_B, REGISTER_C, REGISTER_D = 0x0A, 0x0B, 0x0C, 0x0D
A_UPDATE_IN_PROGRESS, A_DIVIDER, A_DIVIDER_RUNS = 0x80, 0x70, 0x20
B_SET, B_PERIODIC, B_ALARM, B_UPDATE, B_24_HOURS = 0x80, 0x40, 0x20, 0x10, 0x02
C_INTERRUPT, C_PERIODIC, C_ALARM, C_UPDATE = 0x80, 0x40, 0x20, 0x10
D_VALID: Final = 0x80
ALARM_ANY: Final = 0xC0
NMI_DISABLE: Final = 0x80
CMOS_SIZE: Final = 128

# UIP is up from 244 us before an update cycle until its end, 1984 us long.
UPDATE_TICKS: Final = (244 + 1984) * TSC_HZ // 1_000_000
DEFAULT_RATE: Final = 6  # 1024 Hz, as firmware leaves it


def memory_size_bytes(ram_size: int) -> dict[int, int]:
    """The CMOS bytes in which PC firmware finds the size of RAM: base memory, memory above
    1 MiB in KiB, above 16 MiB in 64 KiB units, above 4 GiB in 64 KiB units."""
    ranges = ram_ranges(ram_size)
    low_end = max(r.end for r in ranges if r.start < HIGH_RAM_BASE)
    extended = min(max(low_end - MIB, 0) // 1024, 0xFFFF)
    above_16m = min(max(low_end - 16 * MIB, 0) >> 16, 0xFFFF)
    high = sum(r.size for r in ranges if r.start >= HIGH_RAM_BASE) >> 16
    cmos = {0x15: 640 & 0xFF, 0x16: 640 >> 8}
    for index in (0x17, 0x30):
        cmos |= {index: extended & 0xFF, index + 1: extended >> 8}
    cmos |= {0x34: above_16m & 0xFF, 0x35: above_16m >> 8}
    return cmos | {0x5B + i: high >> 8 * i & 0xFF for i in range(3)}


class Rtc:
    """CMOS RAM with the clock in its first bytes; `irq8` is high while register C asks."""

    def __init__(self, clock: Clock, irq8: InterruptLine, ram_size: int) -> None:
        self.clock = clock
        self.irq8 = irq8
        self.index = 0
        self.cmos = bytearray(CMOS_SIZE)
        for index, value in memory_size_bytes(ram_size).items():
            self.cmos[index] = value
        self.register_a = A_DIVIDER_RUNS | DEFAULT_RATE
        self.register_b = B_24_HOURS
        self.flags = 0  # register C without its top bit
        self.second_shift = 0  # what the guest's settings add to the machine's seconds
        self.weekday_shift = 0
        self.frozen: dict[int, int] | None = None  # the calendar registers while SET stops them
        self.looked_at = 0  # up to when flags are computed

    # --- time -----------------------------------------------------------------------------

    def next_event(self) -> int | None:
        """When the next enabled flag goes up, None while the line already is or nothing will."""
        if self._asking():
            return None
        now = self.looked_at
        due = []
        if self.register_b & B_PERIODIC and (period := self._period()):
            due.append(timebase.RTC.time_of((timebase.RTC.count_at(now) // period + 1) * period))
        if self._updates_run():
            second = now // TSC_HZ
            if self.register_b & B_UPDATE:
                due.append((second + 1) * TSC_HZ)
            if self.register_b & B_ALARM and (alarm := self._next_alarm(second)) is not None:
                due.append(alarm * TSC_HZ)
        return min(due, default=None)

    def advance(self, now: int) -> None:
        """Raise the flags whose time came up to `now`."""
        before, self.looked_at = self.looked_at, now
        if period := self._period():
            count = timebase.RTC.count_at
            if count(now) // period != count(before) // period:
                self.flags |= C_PERIODIC
        if self._updates_run() and now // TSC_HZ != before // TSC_HZ:
            self.flags |= C_UPDATE
            alarm = self._next_alarm(before // TSC_HZ)
            if alarm is not None and alarm <= now // TSC_HZ:
                self.flags |= C_ALARM
        self.irq8.set(self._asking())

    def _asking(self) -> bool:
        return bool(self.flags & self.register_b & (B_PERIODIC | B_ALARM | B_UPDATE))

    def _divider_runs(self) -> bool:
        return self.register_a & A_DIVIDER == A_DIVIDER_RUNS

    def _updates_run(self) -> bool:
        return self._divider_runs() and not self.register_b & B_SET

    def _period(self) -> int:
        """Periods of 32768 Hz between periodic interrupts, 0 for none. The two fastest
        selections give 256 and 128 Hz."""
        rate = self.register_a & 0xF
        if not rate or not self._divider_runs():
            return 0
        return 1 << (rate + 6 if rate <= 2 else rate - 1)

    def _next_alarm(self, second: int) -> int | None:
        def wanted(index: int) -> int | None:
            value = self.cmos[index]
            if value >= ALARM_ANY:
                return None
            convert = decode_hours if index == HOURS_ALARM else decode
            return convert(value, self.register_b)

        alarm = (wanted(HOURS_ALARM), wanted(MINUTES_ALARM), wanted(SECONDS_ALARM))
        found = next_alarm(second + self.second_shift, alarm)
        return None if found is None else found - self.second_shift

    # --- ports ----------------------------------------------------------------------------

    def port_in(self, port: int, width_bits: int) -> int:
        if port == INDEX_PORT:
            return 0xFF  # the index is write-only
        self.advance(self.clock.now())
        return self._read(self.index)

    def port_out(self, port: int, width_bits: int, value: int) -> None:
        if port == INDEX_PORT:
            self.index = value & ~NMI_DISABLE & 0xFF
            return
        self.advance(self.clock.now())
        self._write(self.index, value)
        self.irq8.set(self._asking())

    def _read(self, index: int) -> int:
        if index in TIME_REGISTERS:
            return self._calendar()[index]
        match index:
            case 0x0A:
                return self.register_a | (A_UPDATE_IN_PROGRESS if self._updating() else 0)
            case 0x0B:
                return self.register_b
            case 0x0C:
                value = self.flags | (C_INTERRUPT if self._asking() else 0)
                self.flags = 0
                self.irq8.set(False)
                return value
            case 0x0D:
                return D_VALID
            case _:
                return self.cmos[index]

    def _write(self, index: int, value: int) -> None:
        if index in TIME_REGISTERS:
            registers = self._calendar()
            registers[index] = value
            if self.frozen is None:
                self._set_calendar(registers)
            else:
                self.frozen = registers
        elif index == REGISTER_A:
            self._change_control(value & ~A_UPDATE_IN_PROGRESS, self.register_b)
        elif index == REGISTER_B:
            # SET also takes back the update interrupt's enable.
            self._change_control(self.register_a, value & ~B_UPDATE if value & B_SET else value)
        elif index not in (REGISTER_C, REGISTER_D):
            self.cmos[index] = value

    def _change_control(self, register_a: int, register_b: int) -> None:
        """Registers A and B decide whether the calendar runs and how its registers are read.
        A running calendar keeps its moment when the format changes."""
        registers = self._calendar()
        self.register_a, self.register_b = register_a, register_b
        if not self._updates_run():
            self.frozen = registers
        elif self.frozen is not None:
            self.frozen = None
            self._set_calendar(registers)

    def _updating(self) -> bool:
        in_second = self.looked_at % TSC_HZ
        return self._updates_run() and in_second >= TSC_HZ - UPDATE_TICKS

    def _calendar(self) -> dict[int, int]:
        if self.frozen is not None:
            return dict(self.frozen)
        second = self.looked_at // TSC_HZ + self.second_shift
        return registers_at(second, self.weekday_shift, self.register_b)

    def _set_calendar(self, registers: dict[int, int]) -> None:
        second, self.weekday_shift = second_of(registers, self.register_b)
        self.second_shift = second - self.looked_at // TSC_HZ
