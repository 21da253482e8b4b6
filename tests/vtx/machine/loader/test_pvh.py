"""PVH: the note is found and start_info says where everything is."""

import struct

from vtx.machine.loader import load_image
from vtx.machine.memory_map import EBDA_BASE

RAM_SIZE = 4 << 20
CODE = bytes(range(64))


def string(bus, gpa):
    return bus.read_bytes(gpa, 256).split(b"\0")[0]


def test_a_pvh_note_starts_the_32_bit_entry_with_start_info(bus, elf, load):
    note = struct.pack("<III4sI", 4, 4, 18, b"Xen\0", 0x100020)
    image = elf([load(0x100000, CODE), load(0, note, kind=4)], entry=0x100000)

    state = load_image(image, bus, command_line="x", modules=[(b"disk", "d")], ram_size=RAM_SIZE)

    assert (state.mode, state.protocol, state.entry) == ("protected32", "pvh", 0x100020)
    info = bus.read_bytes(state.registers["rbx"], 56)
    magic, version, _, count, modules, command, rsdp, areas, area_count, _ = struct.unpack(
        "<4I4Q2I", info
    )
    assert (magic, version, count) == (0x336EC578, 1, 1)
    assert string(bus, command) == b"x"
    assert 0xE0000 <= rsdp < 0x100000
    start, size = struct.unpack("<QQ", bus.read_bytes(modules, 16))
    assert bus.read_bytes(start, size) == b"disk"
    assert struct.unpack("<QQI", bus.read_bytes(areas, 20)) == (0, EBDA_BASE, 1)
    assert area_count == 4
