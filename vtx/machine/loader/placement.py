"""Where an image, its modules and the boot data go, and that they do not collide.

It must not know any boot protocol: it deals in address ranges and bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from vtx.machine.bus import Bus
from vtx.machine.firmware_tables import FIRMWARE_TABLES_END
from vtx.machine.loader.elf import Segment
from vtx.machine.loader.errors import ImageError
from vtx.machine.memory_map import (
    BDA_BASE,
    BIOS_BASE,
    BOOT_BASE,
    BOOT_INFO,
    BOOT_INFO_END,
    MIB,
    PAGE_SIZE,
    VGA_BASE,
    VGA_END,
    GpaRange,
    ram_ranges,
)

# Above the tables the BIOS area is free: linkers like to put ELF headers just below 1 MiB.
RESERVED = (
    (GpaRange(BDA_BASE, BDA_BASE + 0x100), "the BIOS data area"),
    (GpaRange(BOOT_BASE, VGA_BASE), "the boot data"),
    (GpaRange(BIOS_BASE, FIRMWARE_TABLES_END), "the firmware tables"),
)


@dataclass(frozen=True, slots=True)
class PlacedModule:
    """A module in memory: page-aligned `start`, exclusive `end`, and its command line."""

    start: int
    end: int
    command_line: str


def check_segments(segments: tuple[Segment, ...], ram_size: int, name: str) -> None:
    """ImageError unless every segment lies in RAM, clear of boot data and of the others."""
    ram = ram_ranges(ram_size)
    previous: Segment | None = None
    for segment in sorted(segments, key=lambda segment: segment.paddr):
        where = f"segment at {segment.paddr:#x} with {segment.memsz:#x} bytes"
        if not any(r.contains(segment.paddr, segment.memsz) for r in ram):
            raise ImageError(
                name, f"{where} lies outside RAM ({ram_size:#x} bytes; try a larger -m)"
            )
        for area, what in RESERVED:
            if area.overlaps(segment.paddr, segment.memsz):
                raise ImageError(name, f"{where} overlaps {what} at {area.start:#x}-{area.end:#x}")
        if previous is not None and segment.paddr < previous.paddr + previous.memsz:
            raise ImageError(name, f"{where} overlaps the segment at {previous.paddr:#x}")
        previous = segment


def write_segments(segments: tuple[Segment, ...], bus: Bus) -> None:
    """Put checked segments into memory, zero-filled up to their sizes."""
    for segment in segments:
        bus.write_bytes(segment.paddr, segment.data)
        clear = segment.paddr + len(segment.data)
        end = segment.paddr + segment.memsz
        while clear < end:
            count = min(MIB, end - clear)
            bus.write_bytes(clear, bytes(count))
            clear += count


def place_modules(
    modules: tuple[tuple[bytes, str], ...],
    segments: tuple[Segment, ...],
    bus: Bus,
    ram_size: int,
    name: str,
) -> tuple[PlacedModule, ...]:
    """Put modules (contents, command line) into RAM above the kernel, below 4 GiB, each on a
    page boundary."""
    low_ram = next(r for r in ram_ranges(ram_size) if r.start == VGA_END)
    ends = [s.paddr + s.memsz for s in segments if s.paddr < low_ram.end]
    free = _page_up(max([*ends, MIB]))
    placed: list[PlacedModule] = []
    for data, command_line in modules:
        if free + len(data) > low_ram.end:
            raise ImageError(
                name,
                f"module {len(placed)} ({len(data):#x} bytes) does not fit between {free:#x} "
                f"and the end of RAM at {low_ram.end:#x}; try a larger -m",
            )
        bus.write_bytes(free, data)
        placed.append(PlacedModule(free, free + len(data), command_line))
        free = _page_up(free + len(data))
    return tuple(placed)


def _page_up(gpa: int) -> int:
    return gpa + PAGE_SIZE - 1 & ~(PAGE_SIZE - 1)


class BootArea:
    """The documented low place for boot information, handed out from the bottom up."""

    def __init__(self, bus: Bus, name: str) -> None:
        self.bus = bus
        self.name = name
        self.free = BOOT_INFO

    def reserve(self, count: int, align: int = 8) -> int:
        """The gpa of `count` fresh bytes."""
        start = self.free + align - 1 & ~(align - 1)
        if start + count > BOOT_INFO_END:
            raise ImageError(
                self.name,
                f"command lines and module list exceed {BOOT_INFO_END - BOOT_INFO:#x} bytes",
            )
        self.free = start + count
        return start

    def put(self, data: bytes, align: int = 8) -> int:
        """Store `data`; its gpa."""
        start = self.reserve(len(data), align)
        self.bus.write_bytes(start, data)
        return start

    def put_string(self, text: str) -> int:
        """Store `text` with its terminating zero; its gpa."""
        return self.put(text.encode("utf-8", "surrogateescape") + b"\0", 1)
