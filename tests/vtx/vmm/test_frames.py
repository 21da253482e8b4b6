"""Host frames for guests and for the VMM."""

from __future__ import annotations

import pytest

from vtx.machine.memory import PhysicalMemory
from vtx.vmm.frames import FramePool, OutOfFramesError, ScatteredFrames

MIB = 1 << 20


@pytest.mark.parametrize("unit", [4096, 2 * MIB])
@pytest.mark.parametrize("size", [MIB, 3 * MIB, 8 * MIB, 64 * MIB])
def test_every_guest_page_has_a_frame_of_its_own_inside_the_region(size: int, unit: int) -> None:
    frames = ScatteredFrames(size, 16 * MIB, unit)
    found = [frames.frame_of(gpn) for gpn in range(size >> 12)]
    ram = [hpa for hpa in found if hpa is not None]

    assert len(ram) == len(set(ram)) == (size >> 12) - 32  # the VGA window is no RAM
    assert all(16 * MIB <= hpa < 16 * MIB + frames.size and not hpa & 0xFFF for hpa in ram)
    assert frames.frame_of(size >> 12) is None


def test_neighbours_do_not_stay_neighbours_but_units_stay_whole() -> None:
    small, large = ScatteredFrames(8 * MIB, 0), ScatteredFrames(8 * MIB, 0, 2 * MIB)

    pairs = [(small.frame_of(n), small.frame_of(n + 1)) for n in range(0x100, 0x200)]
    assert all(b - a != 4096 for a, b in pairs if a is not None and b is not None)
    assert [large.frame_of(n) != n << 12 for n in (0x200, 0x400, 0x600)] != [False] * 3
    for n in range(0x200, 0x400):
        base = large.frame_of(0x200)
        assert base is not None and large.frame_of(n) == base + (n - 0x200 << 12)


def test_the_pool_hands_out_zeroed_frames_until_there_are_none() -> None:
    memory = PhysicalMemory(8 * 4096)
    memory.write(0, b"\xff" * memory.size)
    pool = FramePool(memory, 4096, 3 * 4096)

    taken = [pool.take() for _ in range(3)]
    assert sorted(taken) == [4096, 8192, 12288]
    assert all(memory.read(hpa, 4096) == bytes(4096) for hpa in taken)
    assert memory.read(0, 1) == memory.read(4 * 4096, 1) == b"\xff"
    with pytest.raises(OutOfFramesError, match="no frames left"):
        pool.take()
    memory.write(8192, b"x")
    pool.give_back(8192)
    assert (pool.available, pool.take(), memory.read(8192, 1)) == (1, 8192, b"\0")
