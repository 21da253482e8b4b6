"""Host memory under a VMM: frames for guests, scattered on purpose, and frames of its own.

Guest-physical pages never lie where a guest would expect them, so a translation that is off
shows at once. Frames are handed out by a fixed permutation: the same VM gets the same frames
in every run. This module knows neither page tables nor devices.
"""

from math import gcd

from vtx.machine.bus import PcFrames
from vtx.machine.memory import FRAME_SIZE, PhysicalMemory

POOL_BYTES = 32 << 20
"""Host memory for the VMM itself: VMCS, EPT and shadow tables."""
_STRIDE = 0x9E37_79B1  # odd, far from any power of two


class OutOfFramesError(Exception):
    """The VMM's own pool is used up."""


class ScatteredFrames:
    """A guest's RAM over host frames, permuted in units of `unit` bytes (4 KiB or 2 MiB)."""

    def __init__(self, ram_size: int, first: int, unit: int = FRAME_SIZE) -> None:
        self._layout = PcFrames(ram_size)
        self._first = first
        self._unit = unit
        self._units = -(-ram_size // unit)
        self._stride = _STRIDE % self._units or 1
        while gcd(self._stride, self._units) != 1:
            self._stride += 1

    @property
    def size(self) -> int:
        """Bytes of host memory that the guest's RAM covers."""
        return self._units * self._unit

    def frame_of(self, gpn: int) -> int | None:
        """hpa of the frame behind guest page `gpn`, or None where there is no RAM."""
        place = self._layout.frame_of(gpn)
        if place is None:
            return None
        unit, inside = divmod(place, self._unit)
        return self._first + (unit * self._stride + 1) % self._units * self._unit + inside


class FramePool:
    """The VMM's own frames, zeroed when handed out."""

    def __init__(self, memory: PhysicalMemory, first: int, size: int) -> None:
        self._memory = memory
        self._free = list(range(first + size - FRAME_SIZE, first - FRAME_SIZE, -FRAME_SIZE))

    @property
    def available(self) -> int:
        return len(self._free)

    def take(self) -> int:
        """hpa of a zeroed frame. Raises OutOfFramesError."""
        if not self._free:
            raise OutOfFramesError("the VMM has no frames left")
        hpa = self._free.pop()
        self._memory.write(hpa, bytes(FRAME_SIZE))
        return hpa

    def give_back(self, hpa: int) -> None:
        self._free.append(hpa)
