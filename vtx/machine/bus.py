"""A physical address space: RAM by 4 KiB page, MMIO by page, ports by number.

The bus routes accesses and nothing else. It must not know what a device means, who the
accessing CPU is, or whether it belongs to the physical machine or to a VM.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from vtx.machine.memory import PhysicalMemory
from vtx.machine.memory_map import (
    HIGH_RAM_BASE,
    PAGE_SIZE,
    RAM_HOLE_BASE,
    VGA_BASE,
    VGA_END,
)

PAGE_MASK = PAGE_SIZE - 1
PORT_COUNT = 0x1_0000


class FrameMap(Protocol):
    """Which host frame stands behind each page of a physical address space."""

    def frame_of(self, gpn: int) -> int | None:
        """The hpa of the 4 KiB frame behind page number `gpn`, or None where there is no RAM."""


class MmioDevice(Protocol):
    """A device in memory space. Offsets count from where it was attached; an access never
    leaves the attached range."""

    def load(self, offset: int, width_bits: int) -> int: ...

    def store(self, offset: int, width_bits: int, value: int) -> None: ...


class PortDevice(Protocol):
    """A device in port space. It sees absolute port numbers and at most its own width."""

    def port_in(self, port: int, width_bits: int) -> int: ...

    def port_out(self, port: int, width_bits: int, value: int) -> None: ...


class PcFrames:
    """The PC's own RAM layout over one run of frames starting at hpa `first_frame`.

    Below the hole the mapping is the identity (plus `first_frame`); RAM that continues above
    4 GiB follows on in the frames, so no frame is lost to the hole.
    """

    def __init__(self, ram_size: int, first_frame: int = 0) -> None:
        self.ram_size = ram_size
        self.first_frame = first_frame

    def frame_of(self, gpn: int) -> int | None:
        gpa = gpn * PAGE_SIZE
        if VGA_BASE <= gpa < VGA_END:
            return None
        if gpa >= HIGH_RAM_BASE:
            gpa -= HIGH_RAM_BASE - RAM_HOLE_BASE
        elif gpa >= RAM_HOLE_BASE:
            return None
        return self.first_frame + gpa if gpa < self.ram_size else None


@dataclass(frozen=True, slots=True)
class _MmioRange:
    base: int
    device: MmioDevice


@dataclass(frozen=True, slots=True)
class _PortRange:
    first: int
    count: int
    device: PortDevice
    width_bits: int


class Bus:
    """One physical address space: what a CPU (or a VM's vCPU) sees by gpa and by port.

    Memory that nothing answers reads as all ones and ignores writes, ports likewise. An
    access that spans pages is split into bytes, lowest first. `synchronize` is called before
    any device is touched, so that time-dependent device state is up to date. `layout_version`
    grows whenever a page turns from RAM to MMIO or back: whoever caches `ram_offset` must
    drop its cache then.
    """

    def __init__(self, memory: PhysicalMemory, frames: FrameMap | None = None) -> None:
        self.memory = memory
        self.frames: FrameMap = frames if frames is not None else PcFrames(memory.size)
        self.layout_version = 0
        self.ram_pages: dict[int, int] = {}
        """Page number -> buffer offset, for pages of plain RAM asked for since the last change."""
        self.synchronize: Callable[[], None] | None = None
        self._mmio: dict[int, _MmioRange] = {}
        self._ports: dict[int, _PortRange] = {}

    def attach_mmio(self, gpa: int, size: int, device: MmioDevice) -> None:
        """Let `device` answer `size` bytes from `gpa` (both multiples of 4 KiB), before RAM."""
        if (gpa | size) & PAGE_MASK or size <= 0:
            raise ValueError(f"MMIO range {gpa:#x}+{size:#x} is not made of whole pages")
        region = _MmioRange(gpa, device)
        for gpn in range(gpa // PAGE_SIZE, (gpa + size) // PAGE_SIZE):
            self._mmio[gpn] = region
        self.layout_version += 1
        self.ram_pages.clear()

    def detach_mmio(self, gpa: int, size: int) -> None:
        """Take the device away from `size` bytes at `gpa`; what was below answers again."""
        for gpn in range(gpa // PAGE_SIZE, (gpa + size) // PAGE_SIZE):
            self._mmio.pop(gpn, None)
        self.layout_version += 1
        self.ram_pages.clear()

    def attach_ports(self, first: int, count: int, device: PortDevice, width_bits: int = 8) -> None:
        """Let `device` answer `count` ports; accesses wider than `width_bits` come in halves."""
        if first < 0 or first + count > PORT_COUNT:
            raise ValueError(f"ports {first:#x}+{count:#x} lie outside the 64 KiB port space")
        region = _PortRange(first, count, device, width_bits)
        for port in range(first, first + count):
            if port in self._ports:
                raise ValueError(f"port {port:#x} is already taken")
            self._ports[port] = region

    def ram_offset(self, gpa: int) -> int:
        """The buffer offset of the 4 KiB frame that holds `gpa` if that page is plain RAM,
        else -1."""
        gpn = gpa >> 12
        known = self.ram_pages.get(gpn)
        if known is not None:
            return known
        if gpn in self._mmio:
            return -1
        frame = self.frames.frame_of(gpn)
        if frame is None:
            return -1
        self.ram_pages[gpn] = frame
        return frame

    def is_void(self, gpa: int) -> bool:
        """Nothing answers in the page of `gpa`: it reads as ones, and writes are ignored."""
        return gpa >> 12 not in self._mmio and self.ram_offset(gpa) < 0

    def load(self, gpa: int, width_bits: int) -> int:
        """Read `width_bits` (8, 16, 32, 64 or more whole bytes) at `gpa`, little-endian."""
        within = gpa & PAGE_MASK
        if within + (width_bits >> 3) > PAGE_SIZE:
            return self._load_split(gpa, width_bits)
        offset = self.ram_offset(gpa)
        if offset >= 0:
            return self.memory.load(offset + within, width_bits)
        region = self._mmio.get(gpa >> 12)
        if region is None:
            return (1 << width_bits) - 1
        self._synchronize()
        return region.device.load(gpa - region.base, width_bits) & ((1 << width_bits) - 1)

    def store(self, gpa: int, width_bits: int, value: int) -> None:
        """Write the low `width_bits` of `value` at `gpa`, little-endian."""
        within = gpa & PAGE_MASK
        if within + (width_bits >> 3) > PAGE_SIZE:
            for i in range(width_bits >> 3):
                self.store(gpa + i, 8, value >> (8 * i) & 0xFF)
            return
        offset = self.ram_offset(gpa)
        if offset >= 0:
            self.memory.store(offset + within, width_bits, value)
            return
        region = self._mmio.get(gpa >> 12)
        if region is not None:
            self._synchronize()
            region.device.store(gpa - region.base, width_bits, value & ((1 << width_bits) - 1))

    def _load_split(self, gpa: int, width_bits: int) -> int:
        return sum(self.load(gpa + i, 8) << (8 * i) for i in range(width_bits >> 3))

    def read_bytes(self, gpa: int, count: int) -> bytes:
        """`count` bytes of RAM from `gpa`; bytes that are not plain RAM read as 0xFF.

        For loaders, views and tests: no device is touched.
        """
        pieces = []
        start, end = -1, -1  # of memory that lies together and was not read yet
        while count > 0:
            chunk = min(count, PAGE_SIZE - (gpa & PAGE_MASK))
            offset = self.ram_offset(gpa)
            place = offset + (gpa & PAGE_MASK) if offset >= 0 else -1
            if place != end or place < 0:
                if start >= 0:
                    pieces.append(self.memory.read(start, end - start))
                start = end = place
            if place < 0:
                pieces.append(b"\xff" * chunk)
            else:
                end = place + chunk
            gpa, count = gpa + chunk, count - chunk
        if start >= 0:
            pieces.append(self.memory.read(start, end - start))
        return b"".join(pieces)

    def write_bytes(self, gpa: int, data: bytes) -> None:
        """Store `data` in RAM from `gpa`; bytes that are not plain RAM are dropped."""
        done = 0
        while done < len(data):
            chunk = min(len(data) - done, PAGE_SIZE - ((gpa + done) & PAGE_MASK))
            offset = self.ram_offset(gpa + done)
            if offset >= 0:
                within = (gpa + done) & PAGE_MASK
                self.memory.write(offset + within, data[done : done + chunk])
            done += chunk

    def port_in(self, port: int, width_bits: int) -> int:
        """Read `width_bits` (8, 16 or 32) from I/O port `port`."""
        region = self._port_range(port, width_bits)
        if region is not None:
            self._synchronize()
            return region.device.port_in(port, width_bits) & ((1 << width_bits) - 1)
        if width_bits == 8:
            return 0xFF
        half = width_bits >> 1
        low = self.port_in(port, half)
        return low | self.port_in(port + (half >> 3), half) << half

    def port_out(self, port: int, width_bits: int, value: int) -> None:
        """Write the low `width_bits` (8, 16 or 32) of `value` to I/O port `port`."""
        region = self._port_range(port, width_bits)
        if region is not None:
            self._synchronize()
            region.device.port_out(port, width_bits, value & ((1 << width_bits) - 1))
            return
        if width_bits == 8:
            return
        half = width_bits >> 1
        self.port_out(port, half, value)
        self.port_out(port + (half >> 3), half, value >> half)

    def _port_range(self, port: int, width_bits: int) -> _PortRange | None:
        """The range that answers this access whole, if there is one."""
        region = self._ports.get(port)
        if region is None or width_bits > region.width_bits:
            return None
        inside = port + (width_bits >> 3) <= region.first + region.count
        return region if inside else None

    def _synchronize(self) -> None:
        if self.synchronize is not None:
            self.synchronize()
