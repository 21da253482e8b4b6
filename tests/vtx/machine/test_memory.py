"""Physical memory: little-endian, zeroed, and never touched outside."""

import pytest

from vtx.machine.memory import OutsideMemoryError, PhysicalMemory

SIZE = 0x2000


@pytest.fixture
def memory():
    return PhysicalMemory(SIZE)


def test_it_starts_as_zeros_and_keeps_what_is_written(memory):
    assert memory.read(0, SIZE) == bytes(SIZE)
    memory.write(SIZE - 3, b"end")
    assert memory.read(SIZE - 4, 4) == b"\0end"
    assert memory.buffer[SIZE - 1] == ord("d")


@pytest.mark.parametrize("width_bits", [8, 16, 32, 64, 128])
def test_numbers_are_little_endian_and_cut_to_their_width(memory, width_bits):
    memory.write(8, b"\xaa" * 32)
    memory.store(8, width_bits, 0x0123456789ABCDEF_FEDCBA9876543210_FF)
    count = width_bits // 8
    assert memory.load(8, width_bits) == int.from_bytes(memory.read(8, count), "little")
    assert memory.load(8, 8) == 0xFF
    assert memory.read(8 + count, 1) == b"\xaa"


@pytest.mark.parametrize("size", [0, -4096, 4097])
def test_its_size_is_a_positive_number_of_frames(size):
    with pytest.raises(ValueError, match="multiple"):
        PhysicalMemory(size)


def test_every_access_outside_is_refused_and_changes_nothing(memory):
    for access in (
        lambda: memory.read(SIZE - 1, 2),
        lambda: memory.read(-1, 1),
        lambda: memory.read(0, -1),
        lambda: memory.write(SIZE, b"x"),
        lambda: memory.write(SIZE - 1, b"xy"),
        lambda: memory.write(-1, b"x"),
        lambda: memory.load(SIZE - 4, 64),
        lambda: memory.load(-8, 64),
        lambda: memory.store(SIZE - 1, 16, 0xFFFF),
        lambda: memory.store(-1, 8, 0xFF),
    ):
        with pytest.raises(OutsideMemoryError):
            access()
    assert memory.read(0, SIZE) == bytes(SIZE)
