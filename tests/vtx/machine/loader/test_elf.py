"""Reading ELF: plain values out of good files, ImageError out of everything else."""

import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vtx.machine.bus import Bus
from vtx.machine.loader import ImageError, load_image
from vtx.machine.loader.elf import parse_notes, read_elf
from vtx.machine.memory import PhysicalMemory

RAM_SIZE = 2 << 20
MUTATED_EXAMPLES = 3000
EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)


def seeds(elf, load):
    """Images of every kind the loader takes, symbols and notes included."""
    multiboot = struct.pack("<3I", 0x1BADB002, 3, -(0x1BADB002 + 3) & 0xFFFFFFFF)
    note = struct.pack("<III4sI", 4, 4, 18, b"Xen\0", 0x100020)
    symbols = [("start", 0x100000, 8), ("end", 0x100030, 0)]
    for bits in (32, 64):
        plain = load(0x100000, bytes(range(64)), memsz=0x80)
        yield elf([plain], 0x100010, bits=bits, symbols=symbols)
        yield elf([plain, load(0, note, kind=4)], 0x100010, bits=bits, symbols=symbols)
        yield elf([load(0x100000, multiboot + bytes(64))], 0x10000C, bits=bits, symbols=symbols)


@st.composite
def edits(draw):
    """A few changes to a file: single bytes, whole fields, a cut, or foreign bytes inserted."""
    changes = []
    for _ in range(draw(st.integers(1, 4))):
        where = draw(st.integers(0, 400))
        width = draw(st.sampled_from((1, 1, 2, 4, 8)))
        any_value = st.integers(0, (1 << 8 * width) - 1)
        value = draw(st.one_of(st.sampled_from(EDGES), any_value))
        changes.append((where, width, value & (1 << 8 * width) - 1))
    cut = draw(st.one_of(st.none(), st.integers(0, 700)))
    return changes, cut


@settings(
    max_examples=MUTATED_EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
)
@given(which=st.integers(0, 5), edit=edits())
def test_a_mutated_image_boots_or_is_refused_with_an_image_error(elf, load, which, edit):
    image = bytearray(list(seeds(elf, load))[which])
    changes, cut = edit
    for where, width, value in changes:
        where %= len(image)
        image[where : where + width] = value.to_bytes(width, "little")[: len(image) - where]
    data = bytes(image[:cut])
    bus = Bus(PhysicalMemory(RAM_SIZE))

    try:
        state = load_image(data, bus, command_line="x", modules=[(b"m", "")], ram_size=RAM_SIZE)
    except ImageError as error:
        assert "\n" not in str(error)
        return

    state.symbols.describe(state.entry)
    state.lines.lookup(state.entry)
    assert bus.ram_offset(state.entry) >= 0


@settings(max_examples=500, deadline=None, derandomize=True)
@given(st.binary(max_size=300))
def test_foreign_bytes_after_the_elf_magic_are_refused(data):
    with pytest.raises(ImageError):
        read_elf(b"\x7fELF" + data, "foreign")


@given(st.binary(max_size=200))
def test_notes_are_read_up_to_the_first_damaged_one(data):
    good = struct.pack("<III", 4, 3, 7) + b"Xen\0" + b"abc\0"

    assert parse_notes(good + data)[0] == (b"Xen", 7, b"abc")
    assert parse_notes(good[:-5]) == []


def test_segments_keep_their_order_and_empty_ones_are_left_out(elf, load):
    image = elf([load(0x2000, b"b"), load(0x3000, b""), load(0x1000, b"aa", memsz=9)], entry=0x2000)

    segments = read_elf(image, "x").segments

    assert [(s.paddr, s.data, s.memsz) for s in segments] == [(0x2000, b"b", 1), (0x1000, b"aa", 9)]
