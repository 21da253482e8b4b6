"""Multiboot 1: the header in the image and the information given to the kernel.

Source: Multiboot Specification 0.6.96, sections 3.1 (header), 3.2 (machine state) and
3.3 (boot information format).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from vtx.machine.loader.elf import Segment
from vtx.machine.loader.errors import ImageError
from vtx.machine.loader.memory_list import MemoryArea, memory_areas
from vtx.machine.loader.placement import BootArea, PlacedModule
from vtx.machine.memory_map import EBDA_BASE, MIB

HEADER_MAGIC: Final = 0x1BADB002
BOOT_MAGIC: Final = 0x2BADB002
SEARCH_BYTES: Final = 8192
BOOT_LOADER_NAME: Final = "vtx"

# Header flags. Bits 0-15 are demands a loader must understand, 16-31 are offers.
FLAG_PAGE_ALIGN, FLAG_MEMORY_INFO, FLAG_VIDEO, FLAG_ADDRESSES = 1, 2, 4, 1 << 16
DEMANDS: Final = 0xFFFF
# A request for a video mode is a wish: without a display the information says nothing of one.
UNDERSTOOD: Final = FLAG_PAGE_ALIGN | FLAG_MEMORY_INFO | FLAG_VIDEO

# Boot information flags.
INFO_MEMORY, INFO_COMMAND_LINE, INFO_MODULES, INFO_MEMORY_MAP, INFO_LOADER_NAME = (
    1 << 0,
    1 << 2,
    1 << 3,
    1 << 6,
    1 << 9,
)
INFO_SIZE: Final = 88
# flags, lower and upper memory in KiB, boot device, command line, module count and list;
# symbols; memory map length and place; drives and configuration table; loader name.
INFO_LAYOUT: Final = struct.Struct("<7I16x2I12xI")


@dataclass(frozen=True, slots=True)
class MultibootHeader:
    """A valid header at file offset `offset`. `addresses` holds header_addr, load_addr,
    load_end_addr, bss_end_addr and entry_addr if the header gives them (flag 16)."""

    offset: int
    flags: int
    addresses: tuple[int, int, int, int, int] | None


def find_header(image: bytes, name: str) -> MultibootHeader | None:
    """The header in the first 8 KiB, 4-byte aligned, with a right checksum; None if there is
    none. ImageError if it demands what this loader does not know."""
    head = image[:SEARCH_BYTES]
    for offset in range(0, len(head) - 11, 4):
        magic, flags, checksum = struct.unpack_from("<3I", head, offset)
        if magic == HEADER_MAGIC and magic + flags + checksum & 0xFFFFFFFF == 0:
            return _header(head, offset, flags, name)
    return None


def _header(head: bytes, offset: int, flags: int, name: str) -> MultibootHeader:
    unknown = flags & DEMANDS & ~UNDERSTOOD
    if unknown:
        raise ImageError(name, f"Multiboot header demands unknown features (flags {unknown:#x})")
    if not flags & FLAG_ADDRESSES:
        return MultibootHeader(offset, flags, None)
    if offset + 32 > len(head):
        raise ImageError(name, "truncated: the Multiboot header's address fields are missing")
    fields = struct.unpack_from("<5I", head, offset + 12)
    return MultibootHeader(offset, flags, fields)


def segment_by_addresses(image: bytes, header: MultibootHeader, name: str) -> tuple[Segment, int]:
    """The one segment and the entry point that the header's address fields describe."""
    if header.addresses is None:
        raise ImageError(name, "the Multiboot header has no address fields")
    header_addr, load_addr, load_end, bss_end, entry = header.addresses
    start = header.offset - (header_addr - load_addr)
    if load_addr > header_addr or start < 0:
        raise ImageError(
            name,
            f"Multiboot load_addr {load_addr:#x} and header_addr {header_addr:#x} do not fit "
            f"a header at file offset {header.offset:#x}",
        )
    load_end = load_end or load_addr + len(image) - start
    size = load_end - load_addr
    if size <= 0 or start + size > len(image):
        raise ImageError(
            name,
            f"truncated: Multiboot load_end_addr {load_end:#x} asks for {size:#x} bytes from "
            f"file offset {start:#x}, the file has {len(image):#x}",
        )
    bss_end = bss_end or load_end
    if bss_end < load_end:
        raise ImageError(
            name, f"Multiboot bss_end_addr {bss_end:#x} lies before load_end_addr {load_end:#x}"
        )
    if not load_addr <= entry < bss_end:
        raise ImageError(name, f"Multiboot entry_addr {entry:#x} is not in the loaded image")
    data = image[start : start + size]
    return Segment(load_addr, load_addr, bss_end - load_addr, data), entry


def write_boot_information(
    area: BootArea, command_line: str, modules: tuple[PlacedModule, ...], ram_size: int
) -> int:
    """Build the boot information in `area`; its gpa. The structure itself comes first."""
    info = area.reserve(INFO_SIZE)
    memory_map = b"".join(map(_map_entry, memory_areas(ram_size)))
    map_gpa = area.put(memory_map)
    list_gpa = area.reserve(16 * len(modules))
    command_gpa = area.put_string(command_line)
    entries = b"".join(
        struct.pack("<4I", m.start, m.end, area.put_string(m.command_line), 0) for m in modules
    )
    area.bus.write_bytes(list_gpa, entries)
    loader_gpa = area.put_string(BOOT_LOADER_NAME)
    flags = INFO_MEMORY | INFO_COMMAND_LINE | INFO_MEMORY_MAP | INFO_LOADER_NAME
    flags |= INFO_MODULES if modules else 0
    fields = INFO_LAYOUT.pack(
        flags,
        EBDA_BASE // 1024,
        _upper_kib(ram_size),
        0,
        command_gpa,
        len(modules),
        list_gpa if modules else 0,
        len(memory_map),
        map_gpa,
        loader_gpa,
    )
    area.bus.write_bytes(info, fields.ljust(INFO_SIZE, b"\0"))
    return info


def _upper_kib(ram_size: int) -> int:
    """Contiguous RAM from 1 MiB to the first hole, in KiB."""
    first = next((a for a in memory_areas(ram_size) if a.base == MIB), None)
    return first.size // 1024 if first is not None else 0


def _map_entry(area: MemoryArea) -> bytes:
    # The leading size does not count itself.
    return struct.pack("<IQQI", 20, area.base, area.size, area.kind)
