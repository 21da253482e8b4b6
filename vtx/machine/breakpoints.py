"""Data and I/O breakpoints: which accesses meet the conditions that DR7 enables.

The CPU reports each linear access of an instruction or an event delivery, its surroundings
each port access; `hits` collects what they met until whoever runs instructions takes them. It
does not know when a trap is delivered, nor how accesses are made.
Sources: SDM 3B, Debug Registers; Debug Exceptions (data and I/O breakpoint conditions).
"""

from typing import Protocol

from vtx.isa.layout import SLOTS
from vtx.spec.registers import CR4

_DR7, _CR4 = SLOTS["dr7"], SLOTS["cr4"]
_DR = tuple(SLOTS[f"dr{n}"] for n in range(4))
CR4_DE = CR4.DE
ENABLES = 0xFF
"""L0 G0 ... L3 G3 of DR7."""
EXECUTE, WRITE, IO, READ_WRITE = range(4)
"""R/Wn of DR7."""
_SIZES = (1, 2, 8, 4)
"""Bytes that LENn of DR7 stands for."""


class Words(Protocol):
    """State words, by slot index."""

    def __getitem__(self, slot: int, /) -> int: ...


class DataBreakpoints:
    """The breakpoints of one CPU other than those on instructions."""

    def __init__(self, words: Words) -> None:
        self._words = words
        self.watching = False
        """Accesses must be reported now."""
        self.hits = 0
        """B0 to B3 for the conditions met so far."""

    def wanted(self) -> bool:
        """Whether DR7 enables a breakpoint on data or I/O."""
        dr7 = self._words[_DR7]
        if not dr7 & ENABLES:
            return False
        return any(dr7 >> 2 * n & 3 and dr7 >> (16 + 4 * n) & 3 for n in range(4))

    def memory(self, gva: int, size: int, *, write: bool) -> None:
        """`size` bytes at linear address `gva` were read or written."""
        self._note(gva, size, (WRITE, READ_WRITE) if write else (READ_WRITE,))

    def port(self, port: int, size: int) -> None:
        """`size` bytes of I/O space at `port` were read or written; they count with CR4.DE."""
        if self.watching and self._words[_CR4] & CR4_DE:
            self._note(port, size, (IO,))

    def take(self) -> int:
        """The conditions met, which are forgotten."""
        hits, self.hits = self.hits, 0
        return hits

    def _note(self, first: int, size: int, kinds: tuple[int, ...]) -> None:
        dr7 = self._words[_DR7]
        for n, slot in enumerate(_DR):
            condition = dr7 >> (16 + 4 * n)
            if dr7 >> 2 * n & 3 and condition & 3 in kinds:
                length = _SIZES[condition >> 2 & 3]
                base = self._words[slot] & -length  # DRn is taken as aligned to its length
                if first < base + length and base < first + size:
                    self.hits |= 1 << n
