"""Where things stand in a PC's physical address space.

What `spec/memory_map.toml` says, and where the loader puts boot data in it; it must not
know what any device does.
Sources: the PC/AT memory map, the Multiboot and ACPI specifications for the
areas an operating system may search.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vtx.spec.places import region

PAGE_SIZE: Final = 0x1000
MIB: Final = 1 << 20
GIB: Final = 1 << 30

# RAM and its holes. RAM that reaches the hole continues above 4 GiB.
RAM_HOLE_BASE: Final = region("pci_hole").start
HIGH_RAM_BASE: Final = region("high_memory").start
VGA_BASE: Final = region("vga").start
VGA_END: Final = region("vga").end + 1
MIN_RAM_SIZE: Final = MIB

# Devices.
IOAPIC_BASE: Final = region("ioapic").start
LAPIC_BASE: Final = region("lapic").start

# Low memory that firmware and boot data occupy. Everything the loader writes besides the
# image and its modules lies in BOOT_BASE..EBDA_BASE, so RAM below BOOT_BASE stays free
# for a kernel's start-up code for other processors.
BDA_BASE: Final = 0x400
BOOT_BASE: Final = 0x9_0000
BOOT_GDT: Final = BOOT_BASE
BOOT_PAGE_TABLES: Final = 0x9_1000  # PML4, PDPT and four page directories
BOOT_INFO: Final = 0x9_7000  # boot information, its tables and strings
BOOT_INFO_END: Final = 0x9_F000
BOOT_STACK_TOP: Final = BOOT_BASE  # grows down into free low memory
EBDA_BASE: Final = 0x9_FC00
BIOS_BASE: Final = 0xE_0000  # ACPI tables and the RSDP; a copy of no real BIOS
BIOS_END: Final = region("bios").end + 1


@dataclass(frozen=True, slots=True)
class GpaRange:
    """A half-open range of physical addresses."""

    start: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.start

    def contains(self, start: int, size: int) -> bool:
        return self.start <= start and start + size <= self.end

    def overlaps(self, start: int, size: int) -> bool:
        return start < self.end and self.start < start + size


def ram_ranges(ram_size: int) -> tuple[GpaRange, ...]:
    """The address ranges that decode to RAM on a machine with `ram_size` bytes (a multiple of
    4 KiB). The bytes shadowed by the VGA window count towards `ram_size`, as on a PC."""
    low_end = min(ram_size, RAM_HOLE_BASE)
    ranges = [GpaRange(0, min(low_end, VGA_BASE)), GpaRange(VGA_END, low_end)]
    if ram_size > RAM_HOLE_BASE:
        ranges.append(GpaRange(HIGH_RAM_BASE, HIGH_RAM_BASE + ram_size - RAM_HOLE_BASE))
    return tuple(r for r in ranges if r.size > 0)
