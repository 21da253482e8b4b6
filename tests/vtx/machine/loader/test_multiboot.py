"""Multiboot 1: machine state, boot information, memory map, address fields."""

import struct

import pytest

from vtx.machine.bus import Bus
from vtx.machine.loader import load_image
from vtx.machine.memory import PhysicalMemory
from vtx.machine.memory_map import EBDA_BASE

RAM_SIZE = 4 << 20
CODE = bytes(range(64))


def multiboot_header(flags=0, addresses=()):
    head = struct.pack("<3I", 0x1BADB002, flags, -(0x1BADB002 + flags) & 0xFFFFFFFF)
    return head + struct.pack(f"<{len(addresses)}I", *addresses)


def words(bus, gpa, count):
    return struct.unpack(f"<{count}I", bus.read_bytes(gpa, 4 * count))


def string(bus, gpa):
    return bus.read_bytes(gpa, 256).split(b"\0")[0]


@pytest.mark.parametrize("bits", [32, 64])
def test_multiboot_gives_magic_and_information_in_protected_mode(bus, elf, load, bits):
    image = elf([load(0x100000, multiboot_header(3) + CODE)], entry=0x10000C, bits=bits)

    state = load_image(
        image,
        bus,
        command_line="root=/dev/x quiet",
        modules=[(b"A" * 5000, "first one"), (b"second", "")],
        ram_size=RAM_SIZE,
        name="kernel.elf",
    )

    assert (state.mode, state.protocol, state.entry) == ("protected32", "multiboot1", 0x10000C)
    assert state.registers["rax"] == 0x2BADB002
    assert state.cr0 & 0x80000001 == 1
    assert (state.cr4, state.efer) == (0, 0)
    assert state.segments["cs"].access_rights == 0xC09B
    info = state.registers["rbx"]
    flags, lower, upper, _, command, count, modules, *_ = words(bus, info, 17)
    assert flags == 0b10_0100_1101
    assert (lower, upper) == (EBDA_BASE // 1024, (RAM_SIZE - 0x100000) // 1024)
    assert string(bus, command) == b"root=/dev/x quiet"
    assert string(bus, words(bus, info + 64, 1)[0]) == b"vtx"
    assert count == 2
    first, second = words(bus, modules, 4), words(bus, modules + 16, 4)
    assert first[0] % 4096 == second[0] % 4096 == 0
    assert first[0] >= 0x100000 + len(CODE) + 12
    assert second[0] >= first[1]
    assert bus.read_bytes(first[0], first[1] - first[0]) == b"A" * 5000
    assert bus.read_bytes(second[0], second[1] - second[0]) == b"second"
    assert string(bus, first[2]) == b"first one"


def test_the_memory_map_lists_usable_ram_without_firmware_areas(elf, load):
    bus = Bus(PhysicalMemory(RAM_SIZE))
    image = elf([load(0x100000, multiboot_header() + CODE)], entry=0x10000C)
    state = load_image(image, bus, ram_size=RAM_SIZE)

    length, gpa = words(bus, state.registers["rbx"] + 44, 2)

    entries = []
    end = gpa + length
    while gpa < end:
        size, base, count, kind = struct.unpack("<IQQI", bus.read_bytes(gpa, 24))
        entries.append((base, count, kind))
        gpa += size + 4
    assert entries == [
        (0, EBDA_BASE, 1),
        (EBDA_BASE, 0xA0000 - EBDA_BASE, 2),
        (0xE0000, 0x20000, 2),
        (0x100000, RAM_SIZE - 0x100000, 1),
    ]


def test_multiboot_address_fields_load_a_flat_file(bus):
    header = multiboot_header(1 << 16, (0x100010, 0x100000, 0, 0x101000, 0x100040))
    image = b"\x90" * 16 + header + b"body" * 10

    state = load_image(image, bus, ram_size=RAM_SIZE)

    assert state.entry == 0x100040
    assert bus.read_bytes(0x100000, len(image)) == image
    assert bus.read_bytes(0x100000 + len(image), 16) == bytes(16)
