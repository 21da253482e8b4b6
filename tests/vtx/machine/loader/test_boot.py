"""Each boot protocol leaves the machine as its specification says."""

import struct

import pytest

from vtx.machine.bus import Bus
from vtx.machine.loader import ImageError, load_image
from vtx.machine.memory import PhysicalMemory
from vtx.machine.memory_map import BOOT_BASE, BOOT_STACK_TOP

RAM_SIZE = 4 << 20
CODE = bytes(range(64))


def multiboot_header(flags=0, addresses=()):
    head = struct.pack("<3I", 0x1BADB002, flags, -(0x1BADB002 + flags) & 0xFFFFFFFF)
    return head + struct.pack(f"<{len(addresses)}I", *addresses)


def words(bus, gpa, count):
    return struct.unpack(f"<{count}I", bus.read_bytes(gpa, 4 * count))


def string(bus, gpa):
    return bus.read_bytes(gpa, 256).split(b"\0")[0]


def translate(bus, cr3, gva):
    """What 4-level page tables with 2 MiB leaves make of an address."""
    table = cr3
    for shift in (39, 30):
        entry = bus.load(table + 8 * (gva >> shift & 511), 64)
        assert entry & 3 == 3
        table = entry & ~0xFFF
    leaf = bus.load(table + 8 * (gva >> 21 & 511), 64)
    assert leaf & 0x83 == 0x83
    return (leaf & ~0x1FFFFF) + (gva & 0x1FFFFF)


def test_a_plain_elf64_starts_in_long_mode_with_4_gib_identity_mapped(bus, elf, load):
    bus.write_bytes(0x100000, b"\xcc" * 0x2000)
    image = elf([load(0x100000, CODE, memsz=0x1800)], entry=0x100010)

    state = load_image(image, bus, command_line="hello", ram_size=RAM_SIZE)

    assert (state.mode, state.protocol, state.entry) == ("long64", "elf64", 0x100010)
    assert bus.read_bytes(0x100000, 0x1801) == CODE + bytes(0x1800 - 64) + b"\xcc"
    assert state.cr0 & 0x80000001 == 0x80000001
    assert state.cr4 & 0x20
    assert state.efer == 0x500
    assert state.rflags == 2
    assert state.registers["rsp"] == BOOT_STACK_TOP
    for gva in (0, 0x100000, 0xB8000, 0x7FFFFFFF, 0xFEE00000, 0xFFFFFFFF):
        assert translate(bus, state.cr3, gva) == gva
    assert bus.load(state.cr3 + 8, 64) == 0
    info = state.registers["rdi"]
    assert string(bus, words(bus, info, 5)[4]) == b"hello"
    assert state.segments["cs"].access_rights == 0xA09B


def test_segments_match_the_descriptors_their_selectors_name(bus, elf, load):
    for bits in (32, 64):
        image = elf([load(0x100000, CODE)], entry=0x100000, bits=bits)
        state = load_image(image, bus, ram_size=RAM_SIZE)
        for name in ("cs", "ds", "es", "fs", "gs", "ss"):
            segment = state.segments[name]
            assert segment.selector + 7 <= state.gdt.limit
            raw = bus.load(state.gdt.base + segment.selector, 64)
            limit = raw & 0xFFFF | raw >> 32 & 0xF0000
            limit = limit << 12 | 0xFFF if raw >> 55 & 1 else limit
            assert segment.access_rights == raw >> 40 & 0xF0FF
            assert segment.limit == limit
            assert segment.base == raw >> 16 & 0xFFFFFF | raw >> 32 & 0xFF000000


def test_an_entry_given_as_virtual_address_is_translated(bus, elf, load):
    high = load(0x100000, CODE, vaddr=0xFFFFFFFF80100000)
    assert load_image(elf([high], 0xFFFFFFFF80100020), bus, ram_size=RAM_SIZE).entry == 0x100020
    assert load_image(elf([high], 0x100030), bus, ram_size=RAM_SIZE).entry == 0x100030


def test_a_plain_elf32_starts_like_multiboot(bus, elf, load):
    state = load_image(elf([load(0x100000, CODE)], 0x100000, bits=32), bus, ram_size=RAM_SIZE)

    assert (state.mode, state.protocol) == ("protected32", "elf32")
    assert state.registers["rax"] == 0x2BADB002


def test_memory_depends_on_image_and_options_alone(elf, load):
    image = elf([load(0x100000, CODE)], 0x100000)
    contents = []
    for _ in range(2):
        bus = Bus(PhysicalMemory(RAM_SIZE))
        load_image(image, bus, command_line="a b", modules=[(b"m", "n")], ram_size=RAM_SIZE)
        contents.append(bus.read_bytes(0, RAM_SIZE))

    assert contents[0] == contents[1]


def test_an_image_may_be_given_as_a_path(tmp_path, bus, elf, load):
    path = tmp_path / "kernel.elf"
    path.write_bytes(elf([load(0x100000, CODE)], 0x100000))

    assert load_image(path, bus, ram_size=RAM_SIZE).entry == 0x100000
    with pytest.raises(ImageError, match=r"missing\.elf: cannot be read: No such file"):
        load_image(tmp_path / "missing.elf", bus, ram_size=RAM_SIZE)


def refusals(elf, load):
    good = load(0x100000, CODE)
    image = elf([good], 0x100000)
    bad_demand = multiboot_header(1 << 5)
    yield b"", "empty"
    yield b"#!/bin/sh\n", "not an ELF"
    yield bytes(0x202) + b"HdrS" + bytes(600), "bzImage"
    yield image[:40], "truncated"
    yield image[:-10], "truncated"
    yield elf([good], 0x100000, machine=183), "EM_AARCH64"
    yield elf([good], 0x100000, bits=32, machine=62), "EM_X86_64"
    yield elf([good], 0x100000, kind=1), "object file"
    yield elf([good], 0x100000, kind=3), "no-pie"
    yield elf([good], 0x100000, kind=4), "not an executable"
    yield elf([], 0x100000), "no loadable segments"
    yield elf([load(0x100000, b"", memsz=0)], 0x100000), "no loadable segments"
    yield elf([load(RAM_SIZE - 32, CODE)], RAM_SIZE - 32), "outside RAM"
    yield elf([load(0xFFFFFFFFFFFFFFF0, CODE)], 0xFFFFFFFFFFFFFFF8), "outside RAM"
    yield elf([load(0x9FFE0, CODE)], 0x9FFE0), "outside RAM"
    yield elf([load(BOOT_BASE - 8, CODE)], BOOT_BASE), "overlaps the boot data"
    yield elf([load(0xF0000, CODE)], 0xF0000), "overlaps the firmware tables"
    yield elf([good, load(0xF0FFF, CODE)], 0x100000), "overlaps the firmware tables"
    yield elf([good, load(0x10003F, CODE)], 0x100000), "overlaps the segment"
    yield elf([load(0x100000, CODE, memsz=10)], 0x100000), "in the file"
    yield elf([load(0x100000, CODE, align=3)], 0x100000), "misaligned"
    yield elf([load(0x100000, CODE, align=0x1000)], 0x100000), "misaligned"
    yield elf([good], 0x200000), "entry point 0x200000 is not in any segment"
    yield elf([load(0x100000, bad_demand)], 0x100000), "demands unknown features"
    addresses = (0x100000, 0x100008, 0, 0, 0x100000)
    yield multiboot_header(1 << 16, addresses) + CODE, "do not fit"
    yield multiboot_header(1 << 16), "truncated"
    addresses = (0x100000, 0x100000, 0x200000, 0, 0x100000)
    yield multiboot_header(1 << 16, addresses) + CODE, "truncated"
    addresses = (0x100000, 0x100000, 0, 0x100001, 0x100000)
    yield multiboot_header(1 << 16, addresses) + CODE, "before load_end_addr"
    addresses = (0x100000, 0x100000, 0, 0, 0x300000)
    yield multiboot_header(1 << 16, addresses) + CODE, "entry_addr"


def test_every_bad_image_is_refused_in_one_line_that_names_it(elf, load, bus):
    for image, reason in refusals(elf, load):
        with pytest.raises(ImageError, match=reason) as caught:
            load_image(image, bus, ram_size=RAM_SIZE, name="bad.elf")
        assert str(caught.value).startswith("bad.elf: ")
        assert "\n" not in str(caught.value)


def test_what_does_not_fit_into_memory_is_refused(elf, load, bus):
    image = elf([load(0x100000, CODE)], 0x100000)
    with pytest.raises(ImageError, match=r"module 1 .* does not fit"):
        load_image(image, bus, modules=[(b"x", ""), (bytes(RAM_SIZE), "")], ram_size=RAM_SIZE)
    with pytest.raises(ImageError, match="command lines"):
        load_image(image, bus, command_line="x" * 40000, ram_size=RAM_SIZE)
    with pytest.raises(ImageError, match="at least 1 MiB"):
        load_image(image, bus, ram_size=0x10000)
