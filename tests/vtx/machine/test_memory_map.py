"""RAM lies where a PC has it, and boot data keeps to its place."""

import pytest

from vtx.machine import memory_map
from vtx.machine.bus import PcFrames
from vtx.machine.memory_map import GpaRange, ram_ranges

MIB, GIB = 1 << 20, 1 << 30


@pytest.mark.parametrize(
    ("ram_size", "ranges"),
    [
        (MIB, [(0, 0xA0000), (0xC0000, MIB)]),
        (64 * MIB, [(0, 0xA0000), (0xC0000, 64 * MIB)]),
        (3 * GIB, [(0, 0xA0000), (0xC0000, 3 * GIB)]),
        (5 * GIB, [(0, 0xA0000), (0xC0000, 3 * GIB), (4 * GIB, 6 * GIB)]),
    ],
)
def test_ram_skips_the_vga_window_and_continues_above_4_gib(ram_size, ranges):
    assert [(r.start, r.end) for r in ram_ranges(ram_size)] == ranges


@pytest.mark.parametrize("ram_size", [MIB, 64 * MIB, 3 * GIB + 0x5000, 5 * GIB])
def test_ranges_and_frames_agree_at_every_border(ram_size):
    frames, ranges = PcFrames(ram_size), ram_ranges(ram_size)
    for border in {gpa for r in ranges for gpa in (r.start, r.end)}:
        for gpa in (border - 4096, border):
            if gpa >= 0:
                inside = any(r.contains(gpa, 4096) for r in ranges)
                assert (frames.frame_of(gpa >> 12) is not None) == inside


def test_ranges_contain_and_overlap_by_bytes():
    area = GpaRange(0x1000, 0x2000)
    assert area.contains(0x1000, 0x1000)
    assert not area.contains(0x1000, 0x1001)
    assert not area.contains(0xFFF, 1)
    assert area.overlaps(0xFFF, 2)
    assert not area.overlaps(0xFFF, 1)
    assert not area.overlaps(0x2000, 1)


def test_boot_data_areas_do_not_overlap():
    starts = [
        memory_map.BOOT_GDT,
        memory_map.BOOT_PAGE_TABLES,
        memory_map.BOOT_INFO,
        memory_map.BOOT_INFO_END,
        memory_map.EBDA_BASE,
        memory_map.VGA_BASE,
    ]
    assert starts == sorted(set(starts))
    assert memory_map.BOOT_INFO - memory_map.BOOT_PAGE_TABLES >= 6 * 4096
