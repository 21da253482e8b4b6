"""From instruction bytes to filled forms, remembering what was worked out before.

Instructions whose bytes differ only in immediates and displacements share one template. What
is made of the forms is not known here.
"""

from dataclasses import dataclass

from iced_x86 import Decoder, DecoderError, DecoderOptions
from iced_x86 import Instruction as Decoded

from vtx.engine.native.forms import Template, make_template
from vtx.engine.translate import LONGEST, translate_bytes
from vtx.isa.key import Key

_MOST_TEMPLATES = 50_000


@dataclass(frozen=True, slots=True)
class Found:
    """An instruction in memory: its template, its length, and whether it ends a block."""

    template: Template | None
    """None: it has to run in Python, alone."""
    length: int
    ends_block: bool
    values: tuple[int, ...]
    repeats: bool = False
    """A repeated string instruction."""

    @property
    def alone(self) -> bool:
        """It has to be a block of its own."""
        return self.template is None or self.template.program.alone


@dataclass(frozen=True, slots=True)
class _Shape:
    """What instructions of one shape have in common."""

    template: Template | None
    ends_block: bool
    exact: bool
    repeats: bool = False


class Templates:
    """Everything known of instruction shapes, for one translation key and set of features."""

    def __init__(self, key: Key, features: frozenset[str]) -> None:
        self._key, self._features = key, features
        self._ip_mask = (1 << 64) - 1 if key.bits == 64 else 0xFFFF_FFFF
        self._shapes: dict[bytes, _Shape] = {}
        """By bytes with zeros in the place of numbers. An exact one only says that there are
        more, by their very bytes, in the other dictionary: a zero may be that number itself."""
        self._exact: dict[bytes, _Shape] = {}

    def find(self, code: bytes, at: int, ip: int) -> Found | None:
        """The instruction at `code[at:]`, which runs at `ip`; None: it needs more bytes."""
        decoder = Decoder(self._key.bits, code[at : at + LONGEST], DecoderOptions.NONE)
        decoded = decoder.decode()
        if decoded.is_invalid:
            if decoder.last_error == DecoderError.NO_MORE_BYTES and len(code) - at < LONGEST:
                return None
            return self._in_python(code, at)
        raw = code[at : at + decoded.len]
        masked = _masked(raw, decoder, decoded)
        shape = self._shapes.get(masked)
        if shape is None or shape.exact:
            shape = self._exact.get(raw) or self._learn(raw, masked)
        template = shape.template
        values = template.values(ip, decoded) if template is not None else ()
        return Found(template, decoded.len, shape.ends_block, values, shape.repeats)

    def _in_python(self, code: bytes, at: int) -> Found | None:
        one = translate_bytes(code[at : at + LONGEST], self._key, self._features)
        return None if one is None else Found(None, one.length, True, ())

    def _learn(self, raw: bytes, masked: bytes) -> _Shape:
        one = translate_bytes(raw, self._key, self._features)
        assert one is not None, "the instruction was decoded before"
        template = make_template(one.program, one.length, self._ip_mask)
        shape = _Shape(template, one.ends_block, template.exact, one.repeats)
        if len(self._shapes) + len(self._exact) >= _MOST_TEMPLATES:
            self._shapes.clear()
            self._exact.clear()
        self._shapes[masked] = shape
        if shape.exact:
            self._exact[raw] = shape
        return shape


def _masked(raw: bytes, decoder: Decoder, decoded: Decoded) -> bytes:
    """`raw` with zeros where immediates and displacements stand."""
    places = decoder.get_constant_offsets(decoded)
    if not places.has_displacement and not places.has_immediate:
        return raw
    masked = bytearray(raw)
    for offset, size in (
        (places.displacement_offset, places.displacement_size),
        (places.immediate_offset, places.immediate_size),
        (places.immediate_offset2, places.immediate_size2),
    ):
        masked[offset : offset + size] = bytes(size)
    return bytes(masked)
