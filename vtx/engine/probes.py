"""Probes: linear addresses at which retired instructions are reported.

A translation never holds a probed instruction together with others: a block is cut before and
behind each one, and what runs such a block alone is wrapped by `Probes.watched`. Every executor
uses these two; neither changes what the guest does. It does not know names or traces.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from vtx.isa.key import current_key
from vtx.isa.layout import SLOTS
from vtx.machine.cpu import OK, Cpu

_RIP, _RETIRED, _CR3, _CS_BASE = (SLOTS[name] for name in ("rip", "retired", "cr3", "cs_base"))
_PAGE = 0xFFF


@dataclass(frozen=True, slots=True)
class Hit:
    """The instruction at linear address `gva` has retired.

    retired: what the CPU had retired before it; cr3: the CPU's CR3 when it began.
    """

    gva: int
    rip: int
    retired: int
    cr3: int


class Probes:
    """A set of linear addresses, and whom to tell."""

    def __init__(self, addresses: Iterable[int], report: Callable[[Hit], None]) -> None:
        self._addresses = frozenset(addresses)
        self._offsets = frozenset(gva & _PAGE for gva in self._addresses)
        self._report = report

    def hits(self, gva: int) -> bool:
        """There is a probe at this linear address."""
        return gva in self._addresses

    def cuts(self, gva: int) -> bool:
        """An instruction that begins here is a block of its own.

        Only the place in the page counts: translations belong to host pages, which may be
        mapped at several linear addresses.
        """
        return gva & _PAGE in self._offsets

    def watched(
        self, cpu: Cpu, run: Callable[[], int], settle: Callable[[int], None], *, repeats: bool
    ) -> Callable[[], int]:
        """`run`, one instruction's block, made to report; it settles what the block ended in and
        always returns OK. `repeats`: a repeated string instruction, which has retired when RIP
        has left it."""

        def run_and_settle() -> None:
            status = run()
            if status != OK:
                settle(status)

        def watched_block() -> int:
            self.around(cpu, run_and_settle, repeats=repeats)
            return OK

        return watched_block

    def around(self, cpu: Cpu, run: Callable[[], object], *, repeats: bool = False) -> None:
        """Do `run`, which lets at most one instruction retire, and report it if it is probed."""
        gva = linear_address(cpu)
        if gva not in self._addresses:
            run()
            return
        words = cpu.words
        rip, retired, cr3 = words[_RIP], words[_RETIRED], words[_CR3]
        run()
        if words[_RETIRED] != retired and not (repeats and words[_RIP] == rip):
            self._report(Hit(gva, rip, words[_RETIRED] - 1, cr3))

    def retired(self, hit: Hit) -> None:
        """An instruction retired; report it if it is probed."""
        if hit.gva in self._addresses:
            self._report(hit)


def linear_address(cpu: Cpu) -> int:
    """The linear address of the CPU's next instruction: CS has a base outside 64-bit mode."""
    words = cpu.words
    if current_key(words).bits == 64:
        return words[_RIP]
    return (words[_RIP] + words[_CS_BASE]) & 0xFFFF_FFFF
