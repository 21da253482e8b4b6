"""Interrupt messages between IOAPIC, local APICs and whoever else sends them.

The bus finds receivers by asking each local APIC; it must not know registers or priorities.
Source: SDM 3A, Issuing Interprocessor Interrupts; SDM 3A, Determining IPI Destination.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Protocol

BROADCAST: Final = 0xFFFF_FFFF
ICR_LOGICAL, ICR_ASSERT, ICR_LEVEL = 1 << 11, 1 << 14, 1 << 15


class DeliveryMode(IntEnum):
    """Bits 10:8 of ICR, LVT and redirection entries."""

    FIXED = 0
    LOWEST_PRIORITY = 1
    SMI = 2
    RESERVED = 3
    NMI = 4
    INIT = 5
    STARTUP = 6
    EXTINT = 7


class Shorthand(IntEnum):
    """Bits 19:18 of the ICR."""

    NONE = 0
    SELF = 1
    ALL = 2
    ALL_BUT_SELF = 3


@dataclass(frozen=True, slots=True)
class InterruptMessage:
    """One message. `destination` is an APIC ID, or a logical mask if `logical`; an 8-bit
    physical 0xFF has become BROADCAST by the time a message is built."""

    vector: int
    mode: DeliveryMode
    destination: int = BROADCAST
    logical: bool = False
    level_triggered: bool = False


class Receiver(Protocol):
    """A local APIC as the bus sees it."""

    apic_id: int

    @property
    def tpr(self) -> int: ...

    def is_destination(self, message: InterruptMessage) -> bool: ...

    def accept(self, message: InterruptMessage) -> None: ...


class ApicBus:
    """Carries messages to every local APIC they are meant for. `on_eoi` hears of the end of
    level-triggered interrupts."""

    def __init__(self) -> None:
        self.receivers: list[Receiver] = []
        self.on_eoi: Callable[[int], None] = lambda vector: None

    def send(
        self,
        message: InterruptMessage,
        shorthand: Shorthand = Shorthand.NONE,
        source: Receiver | None = None,
    ) -> None:
        """Deliver `message`. Of several receivers of a lowest-priority message the one with
        the lowest task priority takes it, the lowest APIC ID among equals."""
        targets = [r for r in self.receivers if self._is_target(r, message, shorthand, source)]
        if message.mode == DeliveryMode.LOWEST_PRIORITY and targets:
            targets = [min(targets, key=lambda r: (r.tpr >> 4, r.apic_id))]
        for target in targets:
            target.accept(message)

    @staticmethod
    def _is_target(
        receiver: Receiver,
        message: InterruptMessage,
        shorthand: Shorthand,
        source: Receiver | None,
    ) -> bool:
        match shorthand:
            case Shorthand.SELF:
                return receiver is source
            case Shorthand.ALL:
                return True
            case Shorthand.ALL_BUT_SELF:
                return receiver is not source
            case _:
                return receiver.is_destination(message)


def matches_xapic_logical(destination: int, ldr: int, *, flat: bool) -> bool:
    """Whether an 8-bit logical destination names the APIC with this LDR (ID in bits 31:24)."""
    mine = ldr >> 24
    if flat:
        return bool(destination & mine)
    cluster = destination >> 4 & 0xF
    return cluster in (mine >> 4, 0xF) and bool(destination & mine & 0xF)


def matches_x2apic_logical(destination: int, ldr: int) -> bool:
    """Whether a 32-bit logical destination (cluster, mask) names the APIC with this LDR."""
    return destination >> 16 == ldr >> 16 and bool(destination & ldr & 0xFFFF)


def decode_icr(icr: int, *, x2apic: bool) -> tuple[InterruptMessage, Shorthand] | None:
    """What a write of the interrupt command register (64 bits) sends; None for an INIT level
    de-assert, which once synchronized arbitration IDs and now does nothing."""
    mode = DeliveryMode(icr >> 8 & 7)
    if mode == DeliveryMode.INIT and icr & ICR_LEVEL and not icr & ICR_ASSERT:
        return None
    logical = bool(icr & ICR_LOGICAL)
    destination = icr >> 32 if x2apic else icr >> 56
    if destination == 0xFF and not x2apic and not logical:
        destination = BROADCAST
    # IPIs are always edge-triggered in the receiver, whatever the trigger bit says.
    message = InterruptMessage(icr & 0xFF, mode, destination, logical)
    return message, Shorthand(icr >> 18 & 3)
