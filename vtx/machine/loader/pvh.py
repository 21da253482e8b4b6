"""PVH: booting an ELF through Xen's 32-bit physical entry note.

Source: Xen's public interface documentation of PVH direct boot, start_info layout version 1.
"""

from __future__ import annotations

import struct
from typing import Final

from vtx.machine.firmware_tables import RSDP_GPA
from vtx.machine.loader.elf import ElfImage, parse_notes
from vtx.machine.loader.memory_list import memory_areas
from vtx.machine.loader.placement import BootArea, PlacedModule

NOTE_NAME: Final = b"Xen"
NOTE_PHYS32_ENTRY: Final = 18
START_INFO_MAGIC: Final = 0x336EC578
START_INFO_VERSION: Final = 1
START_INFO_LAYOUT: Final = struct.Struct("<4I4Q2I")


def physical_entry_note(elf: ElfImage) -> int | None:
    """The 32-bit entry point that the image's PHYS32_ENTRY note gives, or None."""
    for data in elf.notes:
        for note_name, kind, description in parse_notes(data):
            if note_name == NOTE_NAME and kind == NOTE_PHYS32_ENTRY and len(description) >= 4:
                return int.from_bytes(description[:8], "little") & 0xFFFF_FFFF
    return None


def write_start_info(
    area: BootArea, command_line: str, modules: tuple[PlacedModule, ...], ram_size: int
) -> int:
    """Build hvm_start_info in `area`; its gpa."""
    info = area.reserve(START_INFO_LAYOUT.size)
    areas = memory_areas(ram_size)
    map_gpa = area.put(b"".join(struct.pack("<QQII", a.base, a.size, a.kind, 0) for a in areas))
    list_gpa = area.reserve(32 * len(modules))
    command_gpa = area.put_string(command_line)
    entries = b"".join(
        struct.pack("<4Q", m.start, m.end - m.start, area.put_string(m.command_line), 0)
        for m in modules
    )
    area.bus.write_bytes(list_gpa, entries)
    area.bus.write_bytes(
        info,
        START_INFO_LAYOUT.pack(
            START_INFO_MAGIC,
            START_INFO_VERSION,
            0,
            len(modules),
            list_gpa if modules else 0,
            command_gpa,
            RSDP_GPA,
            map_gpa,
            len(areas),
            0,
        ),
    )
    return info
