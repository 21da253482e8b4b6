"""Fields of the current VMCS for a VMM in Python: read and written where they lie in the region.

Where a field lies and how wide it is says the table that VMREAD and VMWRITE look into. Whatever
they refuse (a field that this CPU has not, or that is read-only; no current VMCS) is refused
here too, and why is theirs to say. As for them, nothing of the region is cached.
"""

from collections.abc import Callable, Sequence
from operator import itemgetter
from struct import Struct

from vtx.isa.layout import SLOTS
from vtx.isa.tables import table
from vtx.machine.cpu import Cpu
from vtx.machine.images import Image, imager
from vtx.spec import field
from vtx.vmx.vmcs import (
    DESCRIPTOR_16,
    DESCRIPTOR_32,
    DESCRIPTOR_OFFSET,
    DESCRIPTOR_READ_ONLY,
    ENCODING_BITS,
    FIELD_TABLE,
    NO_VMCS,
)

_POINTER, _PROFILE = SLOTS["vmcs_pointer"], SLOTS["cpu_profile"]
_CODES = {16: "H6x", 32: "I4x", 64: "Q"}
REFUSED = -1
"""What stands for the value of a field that cannot be read."""

_Unpack = Callable[[memoryview, int], tuple[int, ...]]
_Place = tuple[int, int]
"""Offset in the region, mask of the field's width."""
_Batch = tuple[_Unpack, int, Callable[[tuple[int, ...]], tuple[int, ...]]]
"""Reads the fields from a region that begins at an offset; puts them in the order asked for."""


class _Fields(dict[str, int]):
    """Field's name -> what the table says of it on one CPU profile; 0: there is none."""

    def __init__(self, profile: int) -> None:
        super().__init__()
        self._base, self._table = profile << ENCODING_BITS, table(FIELD_TABLE)

    def __missing__(self, name: str) -> int:
        found = self[name] = self._table.get(self._base | field(name).encoding, 0)
        return found


def _bits(descriptor: int) -> int:
    return 16 if descriptor & DESCRIPTOR_16 else 32 if descriptor & DESCRIPTOR_32 else 64


class FieldAccess:
    """Fields of one CPU's current VMCS. Names are those of the spec."""

    def __init__(self, cpu: Cpu) -> None:
        self._words, self._bus, self._code = cpu.words, cpu.bus, cpu.code
        self._memory = memoryview(cpu.memory)
        self._quads = self._memory.cast("Q")
        self._fields = _Fields(cpu.words[_PROFILE])
        self._places: dict[str, _Place] = {}
        self._writable: dict[str, _Place] = {}
        """The same, of fields that VMWRITE can write."""
        self._batches: dict[tuple[str, ...], _Batch | None] = {}
        self._imagers: dict[tuple[str, ...], Callable[..., Image] | None] = {}
        self._pointer, self._layout = NO_VMCS, -1
        self._host = REFUSED
        """Offset of the region in the machine's memory, for this pointer and layout."""

    def read(self, name: str) -> int:
        """The field's value; REFUSED if it cannot be read so."""
        place = self._places.get(name) or self._place(name)
        host = self._region()
        if place is None or host < 0:
            return REFUSED
        at, mask = place
        return self._quads[(host + at) >> 3] & mask

    def read_all(self, names: tuple[str, ...]) -> tuple[int, ...] | None:
        """The values of several fields, in their order; None if one cannot be read so."""
        if names not in self._batches:
            self._batches[names] = self._batch(names)
        batch, host = self._batches[names], self._region()
        if batch is None or host < 0:
            return None
        unpack, first, ordered = batch
        return ordered(unpack(self._memory, host + first))

    def image(self, names: tuple[str, ...]) -> Image | None:
        """Bytes that are the same as long as all of the fields are; None without them."""
        if names not in self._imagers:
            places = [self._place(name) for name in names]
            known = [at >> 3 for at, _ in (place for place in places if place is not None)]
            self._imagers[names] = imager(known) if len(known) == len(names) else None
        taken, host = self._imagers[names], self._region()
        return None if taken is None or host < 0 else taken(self._memory, host)

    def write(self, name: str, value: int) -> bool:
        """Write the field, with the value cut to its width; False if it cannot be done so."""
        place = self._writable.get(name) or self._place(name, DESCRIPTOR_READ_ONLY)
        host = self._region()
        if place is None or host < 0:
            return False
        at, mask = place
        self._quads[(host + at) >> 3] = value & mask
        if host in self._code.pages:
            self._code.written(host, at, at + 7)
        return True

    def _region(self) -> int:
        """Where the region lies in memory, or REFUSED."""
        pointer = self._words[_POINTER]
        if pointer != self._pointer or self._bus.layout_version != self._layout:
            self._pointer, self._layout = pointer, self._bus.layout_version
            usable = pointer != NO_VMCS and not pointer & 0xFFF
            self._host = self._bus.ram_offset(pointer) if usable else REFUSED
        return self._host

    def _place(self, name: str, refused: int = 0) -> _Place | None:
        """Where a field lies; None where there is none, or one with a flag of `refused`."""
        descriptor = self._fields[name]
        if not descriptor or descriptor & refused:
            return None
        place = descriptor & DESCRIPTOR_OFFSET, (1 << _bits(descriptor)) - 1
        (self._writable if refused else self._places)[name] = place
        return place

    def _batch(self, names: Sequence[str]) -> _Batch | None:
        """How to read several fields at once; None where the CPU has not all of them."""
        if len(names) < 2 or not all(self._fields[name] for name in names):
            return None
        by_place = sorted(names, key=lambda name: self._fields[name] & DESCRIPTOR_OFFSET)
        first = end = self._fields[by_place[0]] & DESCRIPTOR_OFFSET
        pattern = "<"
        for name in by_place:
            at = self._fields[name] & DESCRIPTOR_OFFSET
            pattern += f"{at - end}x" + _CODES[_bits(self._fields[name])]
            end = at + 8
        order = itemgetter(*(by_place.index(name) for name in names))
        return Struct(pattern).unpack_from, first, order
