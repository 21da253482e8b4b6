"""The vectors a local APIC has requested and in service, and which may interrupt.

It must not know where vectors come from. Sets of vectors are 256-bit numbers.
Source: SDM 3A, Interrupt, Task, and Processor Priority; SDM 3A, Interrupt Acceptance for
Fixed Interrupts; SDM 3A, Signaling Interrupt Servicing Completion.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FIRST_LEGAL_VECTOR: Final = 16
PRIORITY_CLASS: Final = 0xF0


@dataclass(frozen=True, slots=True)
class EndedInterrupt:
    """What an EOI ended."""

    vector: int
    level_triggered: bool


class VectorState:
    """IRR, ISR, TMR and the task priority (8 bits)."""

    def __init__(self) -> None:
        self.irr = 0
        self.isr = 0
        self.tmr = 0
        self.tpr = 0

    @property
    def ppr(self) -> int:
        """Processor priority: the task's, or the class of what is in service if higher."""
        in_service = _highest(self.isr) & PRIORITY_CLASS
        return self.tpr if self.tpr & PRIORITY_CLASS >= in_service else in_service

    def request(self, vector: int, level_triggered: bool) -> None:
        """A fixed interrupt with a legal vector arrives."""
        bit = 1 << vector
        self.irr |= bit
        self.tmr = self.tmr | bit if level_triggered else self.tmr & ~bit

    def pending(self) -> int | None:
        """The highest requested vector, if its class is above the processor priority's."""
        if not self.irr:
            return None
        vector = _highest(self.irr)
        return vector if vector & PRIORITY_CLASS > self.ppr & PRIORITY_CLASS else None

    def acknowledge(self) -> int:
        """Move the pending vector from requested to in service."""
        vector = self.pending()
        assert vector is not None, "acknowledge without a pending vector"
        self.irr &= ~(1 << vector)
        self.isr |= 1 << vector
        return vector

    def end_highest(self) -> EndedInterrupt | None:
        """Take the highest vector out of service; None if there is none."""
        if not self.isr:
            return None
        vector = _highest(self.isr)
        self.isr &= ~(1 << vector)
        return EndedInterrupt(vector, bool(self.tmr >> vector & 1))


def _highest(vectors: int) -> int:
    """The highest vector in a set, 0 if it is empty."""
    return max(vectors.bit_length() - 1, 0)
