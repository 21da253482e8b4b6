"""The descriptor table, page tables and segment values for the two modes images start in.

It must not know any boot protocol. Sources: SDM 3A, Segment Descriptors; SDM 3A, 4-Level
Paging and 5-Level Paging; SDM 3C, Guest Register State (access-rights layout).
"""

from __future__ import annotations

import struct
from types import MappingProxyType
from typing import Final

from vtx.machine.bus import Bus
from vtx.machine.loader.boot_state import SegmentState, TableRegister
from vtx.machine.memory_map import BOOT_GDT, BOOT_PAGE_TABLES, GIB, PAGE_SIZE

PTE_PRESENT_WRITABLE: Final = 0x3
PDE_LARGE: Final = 0x80
IDENTITY_GIB: Final = 4

# Selectors in the loader's GDT.
SELECTOR_CODE32, SELECTOR_DATA, SELECTOR_CODE64, SELECTOR_TSS = 0x08, 0x10, 0x18, 0x20
GDT_DESCRIPTORS: Final = (
    0,
    0x00CF_9B00_0000_FFFF,  # 32-bit code, flat, accessed
    0x00CF_9300_0000_FFFF,  # data, flat, writable, accessed
    0x00AF_9B00_0000_FFFF,  # 64-bit code, accessed
)

FLAT_LIMIT: Final = 0xFFFF_FFFF
RIGHTS_CODE32, RIGHTS_DATA, RIGHTS_CODE64 = 0xC09B, 0xC093, 0xA09B
RIGHTS_BUSY_TSS32, RIGHTS_LDT, RIGHTS_UNUSABLE = 0x008B, 0x0082, 1 << 16

DATA_REGISTERS = ("ds", "es", "fs", "gs", "ss")


def write_gdt(bus: Bus) -> TableRegister:
    """Put the loader's GDT into low memory."""
    table = struct.pack(f"<{len(GDT_DESCRIPTORS)}Q", *GDT_DESCRIPTORS)
    bus.write_bytes(BOOT_GDT, table)
    return TableRegister(BOOT_GDT, len(table) - 1)


def write_identity_page_tables(bus: Bus) -> int:
    """Map the first 4 GiB onto themselves with 2 MiB pages; the value for CR3."""
    pdpt = BOOT_PAGE_TABLES + PAGE_SIZE
    directories = [pdpt + PAGE_SIZE * (1 + i) for i in range(IDENTITY_GIB)]
    _write_table(bus, BOOT_PAGE_TABLES, [pdpt | PTE_PRESENT_WRITABLE])
    _write_table(bus, pdpt, [gpa | PTE_PRESENT_WRITABLE for gpa in directories])
    for index, gpa in enumerate(directories):
        base = index * GIB | PDE_LARGE | PTE_PRESENT_WRITABLE
        _write_table(bus, gpa, [base + (entry << 21) for entry in range(512)])
    return BOOT_PAGE_TABLES


def _write_table(bus: Bus, gpa: int, entries: list[int]) -> None:
    bus.write_bytes(gpa, struct.pack(f"<{len(entries)}Q", *entries).ljust(PAGE_SIZE, b"\0"))


def flat_segments(code: SegmentState) -> MappingProxyType[str, SegmentState]:
    """All eight segment registers: `code` in CS, flat data, no LDT, an empty task state."""
    data = SegmentState(SELECTOR_DATA, 0, FLAT_LIMIT, RIGHTS_DATA)
    segments = dict.fromkeys(DATA_REGISTERS, data)
    segments["cs"] = code
    segments["ldtr"] = SegmentState(0, 0, 0, RIGHTS_UNUSABLE)
    # TR is never empty on a real CPU: after reset it is a busy TSS at 0.
    segments["tr"] = SegmentState(0, 0, 0xFFFF, RIGHTS_BUSY_TSS32)
    return MappingProxyType(segments)


CODE32: Final = SegmentState(SELECTOR_CODE32, 0, FLAT_LIMIT, RIGHTS_CODE32)
CODE64: Final = SegmentState(SELECTOR_CODE64, 0, FLAT_LIMIT, RIGHTS_CODE64)
