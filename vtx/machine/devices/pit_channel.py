"""One counter of the 8254: OUT and the count as functions of time.

Time here is `clk`, the number of input clock pulses so far. Between commands nothing is
simulated: everything is computed from when the count was loaded. It must not know what OUT
is wired to. Source: 8254 data sheet, Mode Definitions and Operation Common to All Modes.
"""

from __future__ import annotations

from typing import Final

ACCESS_LOW, ACCESS_HIGH, ACCESS_BOTH = 1, 2, 3
STATUS_OUT, STATUS_NULL = 0x80, 0x40
TRIGGERED_MODES: Final = (1, 5)
PERIODIC_MODES: Final = (2, 3)
FULL_BINARY, FULL_BCD = 0x1_0000, 10_000


class PitChannel:
    """A counter with its read and write logic. Each call says at which `clk` it happens; calls
    come in order of time.

    `loads_at` is the pulse that loads the counting element (it may lie one pulse ahead);
    `before` is OUT and the count as they stay until then. From then on the phase says
    everything: `clk - start`, or `held_phase` while the gate stops counting.
    """

    def __init__(self, *, gate: bool = True) -> None:
        self.gate = gate
        self.mode = 0
        self.bcd = False
        self.access = ACCESS_BOTH
        self.count = FULL_BINARY  # what is being counted down
        self.start: int | None = None
        self.loads_at = 0
        self.held_phase: int | None = None
        self.expired_at: int | None = None  # mode 4: when, if the gate has stopped it since
        self.before = (False, 0)
        self.reload = FULL_BINARY  # what was last written
        self.reload_at: int | None = None  # when it replaces `count` in a periodic mode
        self.written = False  # a whole count followed the control word
        self.awaiting_load = True  # the counting element does not hold what was written
        self.low_byte: int | None = None
        self.read_high = False
        self.latched: int | None = None
        self.latched_status: int | None = None

    # --- what time does -------------------------------------------------------------------

    def settle(self, clk: int) -> None:
        """Take over a new count whose time has come (modes 2 and 3)."""
        if self.reload_at is None or clk < self.reload_at or self.start is None:
            return
        at_end_of_period = (self.reload_at - self.start) % self.count == 0
        self.start = self.reload_at
        self.count = self.reload
        if not at_end_of_period:  # mode 3, end of the high half: go on with the low one
            self.start -= self._high_half()
        self.reload_at = None

    def _phase(self, clk: int) -> int | None:
        if self.start is None:
            return None
        return clk - self.start if self.held_phase is None else self.held_phase

    def _high_half(self) -> int:
        return self.count + 1 >> 1

    def out(self, clk: int) -> bool:
        """The level of OUT after pulse `clk`."""
        phase = self._phase(clk)
        if phase is None or clk < self.loads_at:
            return self.before[0]
        match self.mode:
            case 0 | 1:
                return phase >= self.count
            case 2:
                return self.held_phase is not None or phase % self.count != self.count - 1
            case 3:
                return self.held_phase is not None or phase % self.count < self._high_half()
            case _:
                return phase != self.count if self.expired_at is None else clk != self.expired_at

    def next_change(self, clk: int) -> int | None:
        """The first pulse after `clk` at which OUT changes if nothing else happens."""
        phase = self._phase(clk)
        if phase is None or self.start is None or self.held_phase is not None:
            return None
        if clk < self.loads_at:
            if self.out(self.loads_at) != self.out(clk):
                return self.loads_at
            return self.next_change(self.loads_at)
        if self.mode in PERIODIC_MODES:
            return self._next_periodic_change(clk, phase % self.count)
        if phase < self.count:
            return self.start + self.count
        return None if self.out(clk) else clk + 1

    def _next_periodic_change(self, clk: int, position: int) -> int | None:
        if self.count == 1:
            return None if self.reload_at is None else self.reload_at
        falls_at = self.count - 1 if self.mode == 2 else self._high_half()
        return clk + (falls_at if position < falls_at else self.count) - position

    def _element(self, clk: int) -> int:
        """The counting element as a number."""
        phase = self._phase(clk)
        if phase is None or clk < self.loads_at:
            return self.before[1]
        if self.mode == 2:
            return self.count - phase % self.count
        if self.mode == 3:  # counts down by two, twice a period
            position = phase % self.count
            if position >= self._high_half():
                position -= self._high_half()
            return (self.count & ~1) - 2 * position
        return self.count - phase

    def _value(self, clk: int) -> int:
        """The counting element as the 16 bits that are read."""
        value = self._element(clk)
        if not self.bcd:
            return value % FULL_BINARY
        digits = f"{value % FULL_BCD:04d}"
        return int(digits, 16)

    # --- what the gate does ---------------------------------------------------------------

    def set_gate(self, clk: int, level: bool) -> None:
        """Drive the GATE input."""
        if level == self.gate:
            return
        self.settle(clk)
        self.gate = level
        if self.mode in TRIGGERED_MODES:
            if level and self.written:
                self._load(clk)
        elif not level:
            self._hold(clk)
        elif self.held_phase is not None:
            self._release(clk, self.held_phase)

    def _hold(self, clk: int) -> None:
        phase = self._phase(clk)
        if phase is None:
            return
        if self.mode == 4 and phase >= self.count and self.expired_at is None:
            self.expired_at = clk - (phase - self.count)  # the strobe ends whatever the gate does
        self.held_phase = max(phase, 0)
        if self.reload_at is not None:  # the new count now waits for the gate
            self.reload_at = None
            self.awaiting_load = True

    def _release(self, clk: int, phase: int) -> None:
        if self.mode in PERIODIC_MODES:  # a rising gate starts the period anew
            self._load(clk)
        else:
            self.start = max(clk - phase, self.loads_at)
            self.held_phase = None

    def _load(self, clk: int) -> None:
        """Load the written count at the next pulse."""
        self.before = (self.out(clk), self._element(clk))
        self.count = self.reload
        self.start = self.loads_at = clk + 1
        self.held_phase = self.expired_at = self.reload_at = None
        self.awaiting_load = False

    # --- what the bus does ----------------------------------------------------------------

    def write_control(self, clk: int, control: int) -> None:
        """A control word for this counter: access in bits 5:4 (not 0), mode 3:1, BCD 0."""
        self.settle(clk)
        element = self._element(clk)
        mode = control >> 1 & 7
        self.mode = mode & 3 if mode >= 6 else mode
        self.access = control >> 4 & 3
        self.bcd = bool(control & 1)
        self.before = (self.mode != 0, element)
        self.start = self.held_phase = self.expired_at = self.reload_at = None
        self.written = False
        self.awaiting_load = True
        self.low_byte = self.latched = self.latched_status = None
        self.read_high = False

    def write_count(self, clk: int, byte: int) -> None:
        """One byte of a new count, as the access mode orders them."""
        self.settle(clk)
        if self.access == ACCESS_LOW:
            self._write_reload(clk, byte)
        elif self.access == ACCESS_HIGH:
            self._write_reload(clk, byte << 8)
        elif self.low_byte is None:
            self.low_byte = byte
            if self.mode == 0:  # the first byte stops the count and takes OUT low
                self.before = (False, self._element(clk))
                self.start = self.held_phase = None
        else:
            value, self.low_byte = self.low_byte | byte << 8, None
            self._write_reload(clk, value)

    def _write_reload(self, clk: int, raw: int) -> None:
        self.reload = self._reload_value(raw)
        self.written = True
        if self.start is not None and clk < self.loads_at:
            self.count = self.reload  # in time for the load that is about to happen
        elif self.mode in TRIGGERED_MODES:
            self.awaiting_load = True
        elif self.mode not in PERIODIC_MODES or self.start is None:
            self._load(clk)
            if self.mode == 0:
                self.before = (False, self.before[1])
            if not self.gate:  # loaded all the same, but not counted
                self.held_phase = 0
        else:
            self._change_period(clk)

    def _change_period(self, clk: int) -> None:
        """A new count while a periodic mode runs: it waits for the end of the (half) period."""
        phase = self._phase(clk)
        assert self.start is not None and phase is not None
        if self.held_phase is not None:
            self.awaiting_load = True
        elif self.reload_at is None:
            position = phase % self.count
            half = self._high_half() if self.mode == 3 else self.count
            self.reload_at = clk + (half if position < half else self.count) - position

    def _reload_value(self, raw: int) -> int:
        if not self.bcd:
            return raw or FULL_BINARY
        value = sum((raw >> 4 * i & 0xF) * 10**i for i in range(4))
        return value or FULL_BCD

    def latch_count(self, clk: int) -> None:
        """Freeze the count for reading, unless one is frozen already."""
        self.settle(clk)
        if self.latched is None:
            self.latched = self._value(clk)

    def latch_status(self, clk: int) -> None:
        """Freeze the status byte: OUT, null count, access, mode, BCD."""
        self.settle(clk)
        if self.latched_status is not None:
            return
        loading = self.start is not None and clk < self.loads_at
        null = self.awaiting_load or loading or self.reload_at is not None
        status = STATUS_OUT if self.out(clk) else 0
        status |= STATUS_NULL if null else 0
        self.latched_status = status | self.access << 4 | self.mode << 1 | int(self.bcd)

    def read(self, clk: int) -> int:
        """The next byte: latched status first, then the latched or running count."""
        self.settle(clk)
        if self.latched_status is not None:
            status, self.latched_status = self.latched_status, None
            return status
        value = self._value(clk) if self.latched is None else self.latched
        high = self.read_high if self.access == ACCESS_BOTH else self.access == ACCESS_HIGH
        if self.access == ACCESS_BOTH:
            self.read_high = not self.read_high
        if high or self.access == ACCESS_LOW:
            self.latched = None
        return value >> 8 if high else value & 0xFF
