"""The local APIC's timer: one-shot, periodic and TSC-deadline.

Nothing ticks: the state is the time at which the count runs out. It must not know the vector
or the mask; it only says how often it expired. Source: SDM 3A, APIC Timer.
"""

from __future__ import annotations

from typing import Final

from vtx.machine.devices import timebase

ONE_SHOT, PERIODIC, TSC_DEADLINE = 0, 1, 2
UINT64: Final = (1 << 64) - 1


class LapicTimer:
    """Counts at the timer's input clock over the divide configuration.

    `expires` counts input clocks (a multiple of the divisor after the start) in the counting
    modes. The TSC that deadlines compare with is virtual time plus `tsc_offset`, modulo 2^64;
    `deadline_due` is the virtual time at which it gets there.
    """

    def __init__(self) -> None:
        self.mode = ONE_SHOT
        self.divide = 0
        self.initial = 0
        self.expires: int | None = None
        self.deadline = 0  # IA32_TSC_DEADLINE; 0 is disarmed
        self.deadline_due = 0
        self.tsc_offset = 0

    @property
    def divisor(self) -> int:
        """1 to 128, from bits 3, 1 and 0 of the divide configuration register."""
        code = self.divide >> 1 & 4 | self.divide & 3
        return 1 << (code + 1 & 7)

    def next_expiry(self) -> int | None:
        """When the timer runs out next, in TSC ticks of virtual time."""
        if self.mode == TSC_DEADLINE:
            return self.deadline_due if self.deadline else None
        return None if self.expires is None else timebase.LAPIC_TIMER.time_of(self.expires)

    def take_expiries(self, now: int) -> bool:
        """Whether the timer ran out since it was last asked, at or before `now`."""
        due = self.next_expiry()
        if due is None or due > now:
            return False
        if self.mode == TSC_DEADLINE:
            self.deadline = 0
        elif self.mode == ONE_SHOT or not self.initial:
            self.expires = None
        else:
            assert self.expires is not None
            period = self.initial * self.divisor
            overdue = timebase.LAPIC_TIMER.count_at(now) - self.expires
            self.expires += period * (overdue // period + 1)
        return True

    def current_count(self, now: int) -> int:
        """What the current-count register shows; expiries up to `now` must have been taken."""
        if self.mode == TSC_DEADLINE or self.expires is None:
            return 0
        left = self.expires - timebase.LAPIC_TIMER.count_at(now)
        return -(-left // self.divisor)

    def write_initial(self, value: int, now: int) -> None:
        """Start counting down from `value` (32 bits); 0 stops. Ignored in TSC-deadline mode."""
        if self.mode == TSC_DEADLINE:
            return
        self.initial = value
        start = timebase.LAPIC_TIMER.count_at(now)
        self.expires = start + value * self.divisor if value else None

    def write_divide(self, value: int, now: int) -> None:
        """Change the divisor; what is left of the count goes on at the new speed."""
        left = self.current_count(now)
        self.divide = value
        if self.expires is not None:
            self.expires = timebase.LAPIC_TIMER.count_at(now) + left * self.divisor

    def set_mode(self, mode: int) -> None:
        """Change the mode. Going to or from TSC-deadline disarms the timer."""
        if (mode == TSC_DEADLINE) != (self.mode == TSC_DEADLINE):
            self.expires = None
            self.deadline = 0
        self.mode = mode

    def write_deadline(self, tsc: int, now: int) -> None:
        """Arm for TSC value `tsc` (64 bits), 0 disarms. Ignored in the other modes."""
        if self.mode == TSC_DEADLINE:
            self.deadline = tsc
            self._compare(now)

    def set_tsc_offset(self, offset: int, now: int) -> None:
        """Move the TSC against virtual time; a deadline it jumps over is due at once."""
        self.tsc_offset = offset
        self._compare(now)

    def _compare(self, now: int) -> None:
        tsc = now + self.tsc_offset & UINT64
        self.deadline_due = now + max(self.deadline - tsc, 0)
