"""The bus routes by page and port, splits what crosses, and answers ones where nothing is."""

import pytest

from vtx.machine.bus import Bus, PcFrames
from vtx.machine.memory import PhysicalMemory
from vtx.machine.memory_map import GIB, HIGH_RAM_BASE, RAM_HOLE_BASE


class Recorder:
    """A device that notes what reaches it and reads back a pattern."""

    def __init__(self):
        self.seen = []

    def load(self, offset, width_bits):
        self.seen.append(("load", offset, width_bits))
        return int.from_bytes(bytes(range(0x10, 0x20)), "little")

    def store(self, offset, width_bits, value):
        self.seen.append(("store", offset, width_bits, value))

    def port_in(self, port, width_bits):
        self.seen.append(("in", port, width_bits))
        return port & 0xFF

    def port_out(self, port, width_bits, value):
        self.seen.append(("out", port, width_bits, value))


class ScatteredFrames:
    def __init__(self, frames):
        self.frames = frames

    def frame_of(self, gpn):
        return self.frames.get(gpn)


@pytest.fixture
def bus():
    return Bus(PhysicalMemory(0x20_0000))


@pytest.mark.parametrize("width_bits", [8, 16, 32, 64])
def test_ram_returns_the_low_bits_that_were_stored(bus, width_bits):
    bus.store(0x1234, width_bits, 0x1122_3344_5566_7788_99)

    assert bus.load(0x1234, width_bits) == 0x2233445566778899 & ((1 << width_bits) - 1)
    assert bus.memory.load(0x1234, width_bits) == bus.load(0x1234, width_bits)


def test_an_access_across_pages_reaches_each_scattered_frame():
    bus = Bus(PhysicalMemory(0x4000), ScatteredFrames({0: 0x3000, 1: 0x1000}))

    bus.store(0xFFD, 64, 0x8877665544332211)

    assert bus.memory.read(0x3FFD, 3) == b"\x11\x22\x33"
    assert bus.memory.read(0x1000, 5) == b"\x44\x55\x66\x77\x88"
    assert bus.load(0xFFD, 64) == 0x8877665544332211
    assert bus.read_bytes(0xFFD, 8) == bytes.fromhex("1122334455667788")
    assert bus.ram_offset(0x1FFF) == 0x1000


def test_absent_memory_reads_ones_and_forgets_writes(bus):
    bus.store(0x30_0000, 32, 0)
    bus.write_bytes(0xB_8000, b"text")

    assert bus.load(0x30_0000, 32) == 0xFFFFFFFF
    assert bus.load(0xB_8000, 16) == 0xFFFF
    assert bus.read_bytes(0xB_8000, 4) == b"\xff" * 4
    assert bus.ram_offset(0xA_0000) == -1
    assert bus.ram_offset(0xC_0000) == 0xC_0000


def test_an_access_across_the_end_of_ram_keeps_the_part_that_exists(bus):
    bus.store(0x1F_FFFE, 32, 0x44332211)

    assert bus.load(0x1F_FFFE, 32) == 0xFFFF2211


def test_ram_past_the_hole_continues_above_4_gib_without_losing_a_frame():
    frames = PcFrames(RAM_HOLE_BASE + GIB)

    assert frames.frame_of(RAM_HOLE_BASE - 1 >> 12) == RAM_HOLE_BASE - 0x1000
    assert frames.frame_of(RAM_HOLE_BASE >> 12) is None
    assert frames.frame_of(HIGH_RAM_BASE >> 12) == RAM_HOLE_BASE
    assert frames.frame_of(HIGH_RAM_BASE + GIB - 1 >> 12) == RAM_HOLE_BASE + GIB - 0x1000
    assert frames.frame_of(HIGH_RAM_BASE + GIB >> 12) is None


def test_a_device_hides_ram_until_it_is_detached(bus):
    device = Recorder()
    version = bus.layout_version
    bus.store(0x8000, 32, 0x12345678)
    bus.attach_mmio(0x8000, 0x1000, device)

    assert bus.ram_offset(0x8004) == -1
    assert bus.layout_version > version
    assert bus.load(0x8004, 32) == 0x13121110
    bus.store(0x8008, 16, 0xABCDEF)
    assert device.seen == [("load", 4, 32), ("store", 8, 16, 0xCDEF)]

    bus.detach_mmio(0x8000, 0x1000)
    assert bus.load(0x8000, 32) == 0x12345678


def test_an_access_from_ram_into_a_device_is_split_into_bytes(bus):
    device = Recorder()
    bus.attach_mmio(0x8000, 0x1000, device)

    bus.store(0x7FFE, 32, 0x44332211)

    assert bus.memory.read(0x7FFE, 2) == b"\x11\x22"
    assert device.seen == [("store", 0, 8, 0x33), ("store", 1, 8, 0x44)]


def test_ports_wider_than_the_device_come_in_halves(bus):
    byte_device, word_device = Recorder(), Recorder()
    bus.attach_ports(0x40, 2, byte_device)
    bus.attach_ports(0x600, 4, word_device, width_bits=16)

    assert bus.port_in(0x40, 32) == 0xFFFF4140
    bus.port_out(0x600, 32, 0x11223344)

    assert byte_device.seen == [("in", 0x40, 8), ("in", 0x41, 8)]
    assert word_device.seen == [("out", 0x600, 16, 0x3344), ("out", 0x602, 16, 0x1122)]


def test_unmapped_ports_read_ones_even_past_the_last_port(bus):
    bus.port_out(0xFFFF, 32, 0)

    assert bus.port_in(0x80, 8) == 0xFF
    assert bus.port_in(0xFFFF, 32) == 0xFFFFFFFF


def test_devices_are_synchronized_before_they_are_touched(bus):
    order = []
    device = Recorder()
    bus.attach_ports(0x10, 1, device)
    bus.attach_mmio(0x8000, 0x1000, device)
    bus.synchronize = lambda: order.append(len(device.seen))

    bus.port_in(0x10, 8)
    bus.load(0x8000, 8)
    bus.load(0x9000, 8)

    assert order == [0, 1]


def test_two_devices_cannot_share_a_port(bus):
    bus.attach_ports(0x60, 1, Recorder())
    with pytest.raises(ValueError, match="taken"):
        bus.attach_ports(0x5F, 2, Recorder())
