"""An 82093AA I/O APIC with 24 pins.

Turns levels on pins into messages on the APIC bus. It must not know the devices behind its
pins. Polarity bits are kept but have no effect: a pin is high when its device asks.
Source: 82093AA data sheet, Register Description; pin masking as stated there.
"""

from __future__ import annotations

from typing import Final

from vtx.machine.devices.apic_messages import BROADCAST, ApicBus, DeliveryMode, InterruptMessage

PIN_COUNT: Final = 24
SELECT_OFFSET, WINDOW_OFFSET = 0x00, 0x10
REGISTER_ID, REGISTER_VERSION, REGISTER_ARBITRATION, REGISTER_TABLE = 0x00, 0x01, 0x02, 0x10
VERSION_VALUE: Final = (PIN_COUNT - 1) << 16 | 0x11

ENTRY_LOGICAL, ENTRY_REMOTE_IRR, ENTRY_LEVEL, ENTRY_MASKED = 1 << 11, 1 << 14, 1 << 15, 1 << 16
ENTRY_WRITABLE: Final = 0xFF00_0000_0001_AFFF


class IoApic:
    """The redirection table and its pins."""

    def __init__(self, bus: ApicBus, *, ioapic_id: int = 0) -> None:
        self.bus = bus
        self.id = ioapic_id
        self.select = 0
        self.pins = 0  # levels
        self.entries = [ENTRY_MASKED] * PIN_COUNT

    def set_pin(self, pin: int, level: bool) -> None:
        """Drive a pin. An edge on a masked edge-triggered pin is lost."""
        bit = 1 << pin
        rose = level and not self.pins & bit
        self.pins = self.pins | bit if level else self.pins & ~bit
        if rose:
            self._request(pin)

    def end_of_interrupt(self, vector: int) -> None:
        """An EOI broadcast: level-triggered entries with this vector may ask again."""
        for pin, entry in enumerate(self.entries):
            if entry & ENTRY_REMOTE_IRR and entry & 0xFF == vector:
                self.entries[pin] = entry & ~ENTRY_REMOTE_IRR
                if self.pins >> pin & 1:
                    self._request(pin)

    def may_interrupt(self, pin: int) -> bool:
        """Whether the entry of `pin` is unmasked."""
        return not self.entries[pin] & ENTRY_MASKED

    def _request(self, pin: int) -> None:
        entry = self.entries[pin]
        if entry & (ENTRY_MASKED | ENTRY_REMOTE_IRR):
            return
        mode = DeliveryMode(entry >> 8 & 7)
        waits_for_eoi = mode in (DeliveryMode.FIXED, DeliveryMode.LOWEST_PRIORITY)
        level = bool(entry & ENTRY_LEVEL) and waits_for_eoi
        if level:
            self.entries[pin] = entry | ENTRY_REMOTE_IRR
        destination = entry >> 56
        logical = bool(entry & ENTRY_LOGICAL)
        if destination == 0xFF and not logical:
            destination = BROADCAST
        self.bus.send(InterruptMessage(entry & 0xFF, mode, destination, logical, level))

    def load(self, offset: int, width_bits: int) -> int:
        """Read the select register or the window; the rest of the page reads zero."""
        if offset == SELECT_OFFSET:
            return self.select
        return self._read(self.select) if offset == WINDOW_OFFSET else 0

    def store(self, offset: int, width_bits: int, value: int) -> None:
        """Write the select register (8 bits count) or the window (32 bits)."""
        if offset == SELECT_OFFSET:
            self.select = value & 0xFF
        elif offset == WINDOW_OFFSET:
            self._write(self.select, value & 0xFFFF_FFFF)

    def _read(self, register: int) -> int:
        if register in (REGISTER_ID, REGISTER_ARBITRATION):
            return self.id << 24
        if register == REGISTER_VERSION:
            return VERSION_VALUE
        pin, high = divmod(register - REGISTER_TABLE, 2)
        if not 0 <= pin < PIN_COUNT:
            return 0xFFFF_FFFF
        return self.entries[pin] >> 32 * high & 0xFFFF_FFFF

    def _write(self, register: int, value: int) -> None:
        if register == REGISTER_ID:
            self.id = value >> 24 & 0xF
            return
        pin, high = divmod(register - REGISTER_TABLE, 2)
        if not 0 <= pin < PIN_COUNT:
            return
        half = 0xFFFF_FFFF << 32 * high
        old = self.entries[pin]
        entry = (old & ~half | value << 32 * high) & ENTRY_WRITABLE
        # Remote IRR belongs to level-triggered entries: turning one into an edge drops it.
        entry |= old & ENTRY_REMOTE_IRR if entry & ENTRY_LEVEL else 0
        self.entries[pin] = entry
        if entry & ENTRY_LEVEL and self.pins >> pin & 1:
            self._request(pin)
