"""Where the numbers of an instruction stand in its bytes, so that they can be read without iced.

The bytes of an x86 instruction are a *head* (prefixes, opcode, ModRM, SIB), which says what
follows, and then displacement and immediates. Instructions of one head differ in those numbers
only. What is computed from them is not known here.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from struct import Struct

from iced_x86 import Decoder, OpKind
from iced_x86 import Instruction as Decoded

from vtx.isa.program import Origin

_WRAP = 0xFFFF_FFFF_FFFF_FFFF
_CODES = {1: "b", 2: "h", 4: "i", 8: "q"}
_BRANCHES = (OpKind.NEAR_BRANCH16, OpKind.NEAR_BRANCH32, OpKind.NEAR_BRANCH64)
_BY_ICED: dict[Origin, Callable[[Decoded], int]] = {
    Origin.IMMEDIATE0: lambda x: x.immediate(0),
    Origin.IMMEDIATE1: lambda x: x.immediate(1),
    Origin.IMMEDIATE2: lambda x: x.immediate(2),
    Origin.IMMEDIATE3: lambda x: x.immediate(3),
    Origin.DISPLACEMENT: lambda x: x.memory_displacement,
    Origin.BRANCH: lambda x: x.near_branch_target,
}
"""What iced says a constant is, of an instruction decoded at 0."""
_PATTERNS = (0x00, 0x7F, 0x80, 0xFF)
"""Bytes that numbers are tried with, to see that they are read as iced reads them."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """The shape of one head's instructions."""

    head: int
    """Bytes before the first number."""
    length: int
    fields: str
    """Format of the numbers for `struct`; they are called f0, f1 and so on."""
    sources: dict[Origin, str]
    """How constants are computed from the fields; their low 64 bits count."""


def head_of(decoder: Decoder, decoded: Decoded) -> int:
    """Bytes before the first number of the instruction just decoded."""
    places = decoder.get_constant_offsets(decoded)
    if places.has_displacement:
        return places.displacement_offset
    return places.immediate_offset if places.has_immediate else decoded.len


def encoding_of(raw: bytes, bits: int, decoder: Decoder, decoded: Decoded) -> Encoding | None:
    """The encoding of the instruction `raw`, just decoded; None if it cannot be read so."""
    places = decoder.get_constant_offsets(decoded)
    sizes = {
        places.displacement_offset: places.displacement_size,
        places.immediate_offset: places.immediate_size,
        places.immediate_offset2: places.immediate_size2,
    }
    numbers = sorted((offset, size) for offset, size in sizes.items() if size)
    head = end = numbers[0][0] if numbers else len(raw)
    for offset, size in numbers:
        if offset != end or size not in _CODES:
            return None
        end += size
    if end != len(raw):
        return None
    fields = Struct("<" + "".join(_CODES[size] for _, size in numbers))
    names = {offset: f"f{n}" for n, (offset, _) in enumerate(numbers)}
    samples = tuple(_samples(raw, head, bits, fields))
    sources: dict[Origin, str] = {}
    for origin, name in _used(decoded, places, names).items():
        source = _source(_BY_ICED[origin], name, decoded.len, samples)
        if source is None:
            return None
        sources[origin] = source
    return Encoding(head, len(raw), fields.format, sources)


def _used(decoded: Decoded, places: object, names: dict[int, str]) -> dict[Origin, str]:
    """The field of each constant the instruction has."""
    displacement, first, second = (
        names.get(getattr(places, attribute), "")
        for attribute in ("displacement_offset", "immediate_offset", "immediate_offset2")
    )
    used = {Origin.DISPLACEMENT: displacement}
    for n in range(min(decoded.op_count, 4)):
        kind = decoded.op_kind(n)
        if kind in _BRANCHES:
            used[Origin.BRANCH] = first
        elif kind == OpKind.IMMEDIATE8_2ND:
            used[Origin(Origin.IMMEDIATE0 + n)] = second
        elif OpKind.IMMEDIATE8 <= kind <= OpKind.IMMEDIATE32TO64:
            used[Origin(Origin.IMMEDIATE0 + n)] = first
    return {origin: name for origin, name in used.items() if name}


_Sample = tuple[Decoded, dict[str, int]]


def _samples(raw: bytes, head: int, bits: int, fields: Struct) -> Iterator[_Sample]:
    """Instructions of this head with various numbers, and the numbers."""
    tails = [raw[head:], *(bytes([byte]) * (len(raw) - head) for byte in _PATTERNS)]
    for tail in tails:
        decoded = Decoder(bits, raw[:head] + tail).decode()
        numbers = fields.unpack(tail)
        yield decoded, {f"f{n}": number for n, number in enumerate(numbers)}


def _source(
    meaning: Callable[[Decoded], int], name: str, length: int, samples: tuple[_Sample, ...]
) -> str | None:
    """An expression over the field `name` that gives what iced gives, for every sample."""
    for added in (0, length):
        for mask in (_WRAP, 0xFF, 0xFFFF, 0xFFFF_FFFF):
            if all(
                not decoded.is_invalid
                and decoded.len == length
                and meaning(decoded) & _WRAP == numbers[name] + added & mask
                for decoded, numbers in samples
            ):
                text = f"{name} + {added}" if added else name
                return f"({text})" if mask == _WRAP else f"({text} & {mask})"
    return None
