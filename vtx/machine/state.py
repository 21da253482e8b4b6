"""A CPU's architectural state: the words of the flat layout over one buffer.

It stores and names; what an instruction does to it is the algebra's business. Copying a state
is copying its buffer.
"""

import ctypes
from functools import cache, lru_cache

from vtx.isa.layout import ARITHMETIC_FLAGS, SEGMENT_NAMES, SLOT_COUNT, SLOT_NAMES, SLOTS

_FLAG_BITS = tuple((SLOTS[name], bit) for name, bit in ARITHMETIC_FLAGS.items())
_FLAG_MASK = sum(1 << bit for bit in ARITHMETIC_FLAGS.values())
_RFLAGS = SLOTS["rflags"]
_FLAGS_AT, _FLAGS_END = 8 * _FLAG_BITS[0][0], 8 * _FLAG_BITS[-1][0] + 8
assert 8 * len(_FLAG_BITS) == _FLAGS_END - _FLAGS_AT


EXECUTOR_WORDS = 64
"""Words behind the architectural state that an executor may use while it runs."""


@cache
def _slots_of(flags: int) -> bytes:
    """The slots of the arithmetic flags, which stand one after the other."""
    return b"".join((flags >> bit & 1).to_bytes(8, "little") for _, bit in _FLAG_BITS)


@lru_cache(maxsize=256)
def _flags_of(slots: bytes) -> int:
    """Their bits in RFLAGS."""
    found = 0
    for n, (_, bit) in enumerate(_FLAG_BITS):
        found |= int.from_bytes(slots[8 * n : 8 * n + 8], "little") << bit
    return found


class StateWords(ctypes.Structure):
    """The same words as a C structure, for executors that compile against it."""

    _fields_ = [(name, ctypes.c_uint64) for name in SLOT_NAMES]


class State:
    """The register file. `words[SLOTS[name]]` is the fast way in, attributes the readable one."""

    __slots__ = ("buffer", "words")

    def __init__(self) -> None:
        self.buffer = bytearray(8 * (SLOT_COUNT + EXECUTOR_WORDS))
        self.words = memoryview(self.buffer).cast("Q")[:SLOT_COUNT]
        self.words[_RFLAGS] = 2

    def read(self, name: str) -> int:
        """The 64-bit word called `name`."""
        return self.words[SLOTS[name]]

    def write(self, name: str, value: int) -> None:
        self.words[SLOTS[name]] = value & 0xFFFF_FFFF_FFFF_FFFF

    @property
    def rflags(self) -> int:
        """RFLAGS as PUSHFQ would store it, VM and RF included."""
        flags = self.buffer[_FLAGS_AT:_FLAGS_END]
        return self.words[_RFLAGS] | _flags_of(bytes(flags))

    @rflags.setter
    def rflags(self, value: int) -> None:
        self.buffer[_FLAGS_AT:_FLAGS_END] = _slots_of(value & _FLAG_MASK)
        self.words[_RFLAGS] = value & ~_FLAG_MASK

    def write_segment(self, name: str, sel: int, base: int, limit: int, ar: int) -> None:
        """Load a segment register's visible and hidden parts."""
        if name not in SEGMENT_NAMES:
            raise KeyError(name)
        for part, value in (("sel", sel), ("base", base), ("limit", limit), ("ar", ar)):
            self.words[SLOTS[f"{name}_{part}"]] = value

    def as_dict(self) -> dict[str, int]:
        """All words by name."""
        return dict(zip(SLOT_NAMES, self.words, strict=True))

    def save(self) -> bytes:
        return bytes(self.words)

    def restore(self, saved: bytes) -> None:
        self.buffer[: len(saved)] = saved
