"""The RTC's calendar: register values for a moment, and the moment for register values.

It must not know ports, flags or interrupts. Seconds count from 2000-01-01 00:00:00; years are
two digits plus a century register. Source: MC146818 data sheet, Time, Calendar and Alarm
Locations (binary and BCD, 12 and 24 hours).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from vtx.machine.devices.timebase import RTC_EPOCH

SECONDS, MINUTES, HOURS, WEEKDAY, DAY, MONTH, YEAR, CENTURY = 0, 2, 4, 6, 7, 8, 9, 0x32
TIME_REGISTERS: Final = (SECONDS, MINUTES, HOURS, WEEKDAY, DAY, MONTH, YEAR, CENTURY)
MODE_BINARY, MODE_24_HOURS = 0x04, 0x02
PM_FLAG: Final = 0x80
LAST_SECOND: Final = int((datetime(9999, 12, 31, 23, 59, 59) - RTC_EPOCH).total_seconds())


def encode(value: int, mode: int) -> int:
    """A number from 0 to 99 as a register shows it in `mode` (register B's bits)."""
    return value if mode & MODE_BINARY else value // 10 << 4 | value % 10


def decode(value: int, mode: int) -> int:
    """The number that a register's contents mean in `mode`."""
    return value if mode & MODE_BINARY else (value >> 4) * 10 + (value & 0xF)


def encode_hours(hours: int, mode: int) -> int:
    """Hours 0-23 as the hours register shows them."""
    if mode & MODE_24_HOURS:
        return encode(hours, mode)
    return encode((hours - 1) % 12 + 1, mode) | (PM_FLAG if hours >= 12 else 0)


def decode_hours(value: int, mode: int) -> int:
    """Hours 0-23 that the hours register means."""
    if mode & MODE_24_HOURS:
        return decode(value, mode)
    return decode(value & ~PM_FLAG, mode) % 12 + (12 if value & PM_FLAG else 0)


def registers_at(second: int, weekday_shift: int, mode: int) -> dict[int, int]:
    """The calendar registers `second` seconds after the epoch, by index."""
    moment = RTC_EPOCH + timedelta(seconds=min(second, LAST_SECOND))
    weekday = (moment.isoweekday() + weekday_shift) % 7 + 1  # 1 is Sunday
    return {
        SECONDS: encode(moment.second, mode),
        MINUTES: encode(moment.minute, mode),
        HOURS: encode_hours(moment.hour, mode),
        WEEKDAY: encode(weekday, mode),
        DAY: encode(moment.day, mode),
        MONTH: encode(moment.month, mode),
        YEAR: encode(moment.year % 100, mode),
        CENTURY: encode(moment.year // 100, mode),
    }


def second_of(registers: dict[int, int], mode: int) -> tuple[int, int]:
    """The seconds from the epoch and the weekday shift that calendar registers mean.

    Values no calendar has (a 13th month, the 31st of February) are brought to the nearest
    that exists, so that every register content means some moment.
    """
    year = decode(registers[CENTURY], mode) * 100 + decode(registers[YEAR], mode)
    month = min(max(decode(registers[MONTH], mode), 1), 12)
    first = datetime(min(max(year, 1), 9998), month, 1)
    day = min(max(decode(registers[DAY], mode), 1), 31)
    moment = first + timedelta(days=day - 1)
    if moment.month != first.month:
        moment -= timedelta(days=moment.day)
    moment = moment.replace(
        hour=min(decode_hours(registers[HOURS], mode), 23),
        minute=min(decode(registers[MINUTES], mode), 59),
        second=min(decode(registers[SECONDS], mode), 59),
    )
    shift = (decode(registers[WEEKDAY], mode) - 1 - moment.isoweekday()) % 7
    return int((moment - RTC_EPOCH).total_seconds()), shift


def next_alarm(second: int, alarm: tuple[int | None, int | None, int | None]) -> int | None:
    """The first second after `second` whose hours, minutes and seconds match `alarm` (None
    matches all); None if no time of day does."""
    hours, minutes, seconds = (
        range(limit) if wanted is None else range(wanted, wanted + 1) if wanted < limit else ()
        for wanted, limit in zip(alarm, (24, 60, 60), strict=True)
    )
    if not (hours and minutes and seconds):
        return None
    of_day = (second + 1) % 86400
    for h in hours:
        for m in minutes:
            minute_start = h * 3600 + m * 60
            if minute_start + seconds[-1] < of_day:
                continue
            s = max(seconds[0], of_day - minute_start)
            return second + 1 - of_day + minute_start + s
    return second + 1 - of_day + 86400 + hours[0] * 3600 + minutes[0] * 60 + seconds[0]
