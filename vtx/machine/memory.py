"""Host physical memory: one flat run of bytes, addressed by hpa.

It must not know about address spaces, devices or guests: an hpa here is an offset
into the buffer, nothing more.
"""

from __future__ import annotations

import mmap

FRAME_SIZE = 4096


class OutsideMemoryError(Exception):
    """An access touched bytes that the physical memory does not have."""


class PhysicalMemory:
    """`size` bytes of zeroed memory, a positive multiple of 4 KiB.

    `buffer` is the mapping itself, which executors may share; reads and writes here are
    little-endian and checked, so nothing outside the buffer is ever touched.
    """

    def __init__(self, size: int) -> None:
        if size <= 0 or size % FRAME_SIZE:
            raise ValueError(f"memory size {size} is not a positive multiple of {FRAME_SIZE} bytes")
        self.size = size
        self.buffer = mmap.mmap(-1, size)

    def _check(self, hpa: int, count: int) -> None:
        if hpa < 0 or count < 0 or hpa + count > self.size:
            raise OutsideMemoryError(
                f"hpa {hpa:#x} with {count} bytes lies outside the {self.size:#x} bytes of memory"
            )

    def read(self, hpa: int, count: int) -> bytes:
        """`count` bytes from `hpa` on; OutsideMemoryError if any of them does not exist."""
        self._check(hpa, count)
        return self.buffer[hpa : hpa + count]

    def write(self, hpa: int, data: bytes) -> None:
        """Store `data` at `hpa`; OutsideMemoryError, and no effect, if it does not fit."""
        self._check(hpa, len(data))
        self.buffer[hpa : hpa + len(data)] = data

    def load(self, hpa: int, width_bits: int) -> int:
        """The little-endian number of `width_bits` (a multiple of 8) at `hpa`."""
        end = hpa + (width_bits >> 3)
        if hpa < 0 or end > self.size:
            self._check(hpa, width_bits >> 3)
        return int.from_bytes(self.buffer[hpa:end], "little")

    def store(self, hpa: int, width_bits: int, value: int) -> None:
        """Store the low `width_bits` (a multiple of 8) of `value` at `hpa`."""
        count = width_bits >> 3
        if hpa < 0 or hpa + count > self.size:
            self._check(hpa, count)
        masked = value & ((1 << width_bits) - 1)
        self.buffer[hpa : hpa + count] = masked.to_bytes(count, "little")
