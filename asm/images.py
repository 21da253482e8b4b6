"""Section images after layout: fields filled in, and relocations for what needs addresses.

Knows nothing of ELF's relocation numbers or of where sections are loaded.
"""

from __future__ import annotations

from dataclasses import dataclass

from asm.errors import Diagnostic, SourceError
from asm.expressions import Deferred, Linear, fits_in, resolve
from asm.fragments import Align, Branch, Fill, Fixup, Fragment, Leb128, Origin, Section, Symbol
from asm.layout import jumpable, known_number, linkable, tail_leb128
from asm.padding import code_padding
from asm.source import Statement


@dataclass(frozen=True, slots=True)
class Relocation:
    """A field whose value needs an address: symbol + addend (minus the field, if relative)."""

    offset: int
    size: int
    symbol: Symbol | None
    addend: int
    pc_relative: bool
    signed: bool
    branch: bool
    modifier: str
    statement: Statement


@dataclass(slots=True)
class LaidOut:
    """One section after layout; its `image` still has zeros where relocations go."""

    section: Section
    relocations: list[Relocation]
    image: bytes = b""


def render(section: Section, errors: list[Diagnostic]) -> LaidOut:
    """Build the section's bytes; fields that need addresses become relocations."""
    result = LaidOut(section, [])
    if section.is_nobits:
        return result
    image = bytearray()
    for fragment in section.fragments:
        image += fragment.data
        fixups = fragment.fixups
        if isinstance(fragment.tail, Branch):
            tail = fragment.tail
            offset = len(fragment.data) + len(tail.encoding)
            fixups = [*fixups, _branch_fixup(tail, offset)]
        image += _tail_bytes(fragment)
        for fixup in fixups:
            try:
                _apply(fixup, fragment, image, result)
            except SourceError as error:
                errors.append(fixup.statement.explain(error))
    result.image = section.image = bytes(image)
    return result


def _branch_fixup(tail: Branch, offset: int) -> Fixup:
    return Fixup(
        offset, tail.width, tail.target, tail.statement,
        pc_relative=True, pc_bias=tail.width, branch=tail.is_64_bit, can_grow=True,
    )  # fmt: skip


def _tail_bytes(fragment: Fragment) -> bytes:
    tail, size = fragment.tail, fragment.tail_size
    match tail:
        case Branch():
            return tail.encoding + bytes(tail.width)
        case Align():
            if tail.fill is None:
                code = fragment.section.is_code
                return code_padding(size, tail.mode) if code else bytes(size)
            lead = size % len(tail.fill)
            return bytes(lead) + tail.fill * (size // len(tail.fill))
        case Origin():
            return bytes([tail.fill]) * size
        case Fill():
            return tail.pattern * (size // len(tail.pattern)) if tail.pattern else b""
        case Leb128():
            return tail_leb128(tail)
        case None:
            return b""


def _apply(fixup: Fixup, fragment: Fragment, image: bytearray, out: LaidOut) -> None:
    section = fragment.section
    place = fragment.start + fixup.offset
    own = section.symbol
    value = resolve(fixup.value, jumpable if fixup.can_grow else linkable)
    if not fixup.pc_relative and not (isinstance(value, Linear) and not value.terms):
        number = known_number(fixup.value)
        if number is not None:
            value = Linear(number)
    if isinstance(value, Deferred):
        raise SourceError("this expression is too complex for a relocation")
    if not value.modifier:
        if not fixup.pc_relative and not value.terms:
            _patch(image, place, fixup, value.constant)
            return
        if fixup.pc_relative and value.terms == ((own, 1),):
            _patch(image, place, fixup, value.constant - place - fixup.pc_bias)
            return
    out.relocations.append(_relocation(fixup, value, place, own))


def _relocation(fixup: Fixup, value: Linear, place: int, own: Symbol) -> Relocation:
    symbol, addend, relative = None, value.constant - fixup.pc_bias, fixup.pc_relative
    terms = dict(value.terms)
    base = next((s for s, c in terms.items() if c == -1 and s.section is own.section), None)
    if not relative and len(terms) == 2 and base is not None and base.fragment is not None:
        relative = True
        addend += place - (base.fragment.start + base.offset)
        del terms[base]
    if len(terms) == 1 and next(iter(terms.values())) == 1:
        symbol = next(iter(terms))
    elif terms:
        raise SourceError("this expression is too complex for a relocation")
    return Relocation(
        place, fixup.size, symbol, addend, relative, fixup.signed, fixup.branch, value.modifier,
        fixup.statement,
    )  # fmt: skip


def _patch(image: bytearray, place: int, fixup: Fixup, number: int) -> None:
    size = fixup.size
    check_field(number, fixup.size, signed=fixup.pc_relative or fixup.signed)
    image[place : place + size] = (number & ((1 << (8 * size)) - 1)).to_bytes(size, "little")


def check_field(number: int, size: int, *, signed: bool) -> None:
    """Raise SourceError when a number does not fit its field."""
    bits = 8 * size
    if signed and size < 8:
        if not -(1 << (bits - 1)) <= number < 1 << (bits - 1):
            raise SourceError(f"value {number:#x} is out of range for a signed {bits}-bit field")
    elif not fits_in(number, size):
        raise SourceError(f"value {number:#x} does not fit {bits} bits")
