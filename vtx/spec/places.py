"""Where things are: regions of physical memory and I/O ports of the PC.

Must not know any device; a device asks for its place by name.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal

from vtx.spec.tables import lookup, rows


@dataclass(frozen=True, slots=True)
class Region:
    """Physical addresses `start` to `end`, both included. hole: reads give ones."""

    name: str
    start: int
    end: int
    kind: Literal["ram", "mmio", "rom", "hole"]
    meaning: str

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.end - self.start + 1


@dataclass(frozen=True, slots=True)
class PortRange:
    """I/O ports `first` to `last`, both included; `irq` is the ISA interrupt line, if any."""

    name: str
    first: int
    last: int
    meaning: str
    irq: int | None = None


@cache
def regions() -> tuple[Region, ...]:
    """All regions of the physical address space, in order."""
    return rows("memory_map", "regions", Region)


@cache
def port_ranges() -> tuple[PortRange, ...]:
    """All I/O port places."""
    return rows("memory_map", "ports", PortRange)


def region(name: str) -> Region:
    """The memory region called `name`, e.g. "lapic"; SpecError if there is none."""
    return lookup("memory region", {row.name: row for row in regions()}, name)


def port_range(name: str) -> PortRange:
    """The I/O ports called `name`, e.g. "com1"; SpecError if there are none."""
    return lookup("I/O port place", {row.name: row for row in port_ranges()}, name)
