"""The list of memory areas that boot protocols tell a kernel about (BIOS E820 types)."""

from __future__ import annotations

from dataclasses import dataclass

from vtx.machine.memory_map import (
    BIOS_BASE,
    BIOS_END,
    EBDA_BASE,
    VGA_BASE,
    GpaRange,
    ram_ranges,
)

AVAILABLE, RESERVED = 1, 2


@dataclass(frozen=True, slots=True)
class MemoryArea:
    """`size` bytes at `base`; `kind` is 1 for usable RAM, 2 for reserved."""

    base: int
    size: int
    kind: int


def memory_areas(ram_size: int) -> tuple[MemoryArea, ...]:
    """The areas of a PC with `ram_size` bytes, ascending. The extended BIOS data area and the
    firmware tables are RAM, but reserved."""
    taken = (GpaRange(EBDA_BASE, VGA_BASE), GpaRange(BIOS_BASE, BIOS_END))
    areas = [MemoryArea(r.start, r.size, RESERVED) for r in taken]
    for ram in ram_ranges(ram_size):
        start = ram.start
        for hole in (r for r in taken if ram.contains(r.start, r.size)):
            areas.append(MemoryArea(start, hole.start - start, AVAILABLE))
            start = hole.end
        areas.append(MemoryArea(start, ram.end - start, AVAILABLE))
    # The option-ROM area below the tables holds no ROM here; it stays out of use as on a PC.
    kept = (a for a in areas if a.size and not VGA_BASE <= a.base < BIOS_BASE)
    return tuple(sorted(kept, key=lambda area: area.base))
