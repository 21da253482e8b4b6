"""Model-specific registers: index, reset value, which bits WRMSR may change.

Must not know who holds an MSR's value or what reading and writing it does.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal

from vtx.spec.layouts import Bits
from vtx.spec.tables import Names, SpecError, lookup, number_in, rows

MASK64 = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Msr:
    """One MSR (SDM 4, Architectural MSRs).

    writable: bits a WRMSR changes; ignored: bits it may give any value without effect; every
    other bit must be written as 0 or WRMSR raises #GP. canonical: the value must be canonical.
    physical: writable bits at and above MAXPHYADDR are reserved. access "ro": WRMSR raises #GP;
    "wo": RDMSR raises #GP. computed: the reset value follows from the machine's configuration.
    """

    name: str
    index: int
    see: str
    access: Literal["rw", "ro", "wo"] = "rw"
    reset: int = 0
    writable: int = 0
    ignored: int = 0
    canonical: bool = False
    physical: bool = False
    computed: bool = False
    meaning: str = ""
    notes: str = ""
    bits: tuple[Bits, ...] = ()

    def reserved(self, maxphyaddr: int) -> int:
        """The bits that WRMSR must write as 0, on a CPU with `maxphyaddr` address bits."""
        reserved = ~(self.writable | self.ignored) & MASK64
        if self.physical:
            reserved |= MASK64 << maxphyaddr & MASK64
        return reserved


@cache
def msrs() -> tuple[Msr, ...]:
    """All MSRs, the VMX capability MSRs among them, in order of index."""
    both = rows("msrs", "msrs", Msr) + rows("vmx_msrs", "msrs", Msr)
    return tuple(sorted(both, key=lambda row: row.index))


@cache
def _by_name() -> dict[str, Msr]:
    return {row.name: row for row in msrs()}


@cache
def _by_index() -> dict[int, Msr]:
    return {row.index: row for row in msrs()}


@cache
def _indexes() -> dict[str, int]:
    return {row.name: row.index for row in msrs()}


def msr(name_or_index: str | int) -> Msr:
    """The MSR with this name or index (also as text, "0x1b"); SpecError if there is none."""
    number = number_in(name_or_index) if isinstance(name_or_index, str) else name_or_index
    if number is None:
        return lookup("MSR", _by_name(), str(name_or_index))
    if number not in _by_index():
        raise SpecError(f"no MSR has index {number:#x}")
    return _by_index()[number]


MSRS: Names[int] = Names("MSR", _indexes)
"""Indexes by name: `MSRS.IA32_EFER == 0xC0000080`."""
