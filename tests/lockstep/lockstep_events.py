"""Interrupts and NMIs that arrive at given virtual times, the same for every engine."""

from collections import deque
from dataclasses import dataclass

NMI = 2


@dataclass(frozen=True, slots=True)
class Arrival:
    """Vector 2 is an NMI, others are maskable interrupts."""

    time: int
    vector: int


class Arrivals:
    """An InterruptSource whose events are known from the start."""

    def __init__(self, arrivals: tuple[Arrival, ...]) -> None:
        self._coming = deque(sorted(arrivals, key=lambda one: one.time))
        self._interrupts: deque[int] = deque()
        self._nmi = False

    def advance(self, now: int) -> None:
        while self._coming and self._coming[0].time <= now:
            vector = self._coming.popleft().vector
            if vector == NMI:
                self._nmi = True
            else:
                self._interrupts.append(vector)

    def next_event(self) -> int | None:
        return self._coming[0].time if self._coming else None

    def interrupt_pending(self) -> bool:
        return bool(self._interrupts)

    def acknowledge_interrupt(self) -> int:
        return self._interrupts.popleft()

    def nmi_pending(self) -> bool:
        return self._nmi

    def take_nmi(self) -> None:
        self._nmi = False
