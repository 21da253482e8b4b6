"""Layout: sizes of fragments, growth of jumps, padding, and what is left to relocate.

Jumps start short and only ever grow, so the process ends. Knows nothing of ELF.
"""

from __future__ import annotations

from dataclasses import dataclass

from asm.errors import Diagnostic, SourceError
from asm.expressions import Deferred, Linear, Value, fits_in, resolve
from asm.fragments import Align, Branch, Fill, Fixup, Fragment, Leb128, Origin, Section, Symbol
from asm.padding import code_padding
from asm.program import MAX_SECTION_BYTES
from asm.source import Statement

_MAX_PASSES = 64


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


# --- what symbols mean once fragments have starts


def section_relative(symbol: Symbol) -> Value:
    """The symbol as section start + number, through equates; itself when undefined."""
    return _meaning(symbol, keep_preemptible=False, depth=0)


def _linkable(symbol: Symbol) -> Value:
    return _meaning(symbol, keep_preemptible=True, depth=0)


def _meaning(symbol: Symbol, *, keep_preemptible: bool, depth: int) -> Value:
    if depth > 100:
        raise SourceError(f"the value of '{symbol.name}' depends on itself", name=symbol.name)
    if symbol.value is not None:
        return resolve(
            symbol.value,
            lambda s: _meaning(s, keep_preemptible=keep_preemptible, depth=depth + 1),
        )
    if symbol.fragment is None or (keep_preemptible and symbol.preemptible):
        return Linear(0, ((symbol, 1),))
    start = symbol.fragment.start + symbol.offset
    return Linear(start, ((symbol.fragment.section.symbol, 1),))


def known_number(value: Value) -> int | None:
    """A value that no longer depends on any address, or None."""
    result = resolve(value, section_relative)
    return result.constant if isinstance(result, Linear) and not result.terms else None


# --- sizes


def _offset_in(value: Value, section: Section) -> int | None:
    """The section offset a value denotes, when it lies in this section for sure."""
    result = resolve(value, _linkable)
    if isinstance(result, Linear) and result.terms == ((section.symbol, 1),):
        return result.constant
    return None


def _tail_size(fragment: Fragment, end: int) -> int:
    tail = fragment.tail
    match tail:
        case None:
            return 0
        case Branch():
            return len(tail.encoding) + tail.width
        case Align():
            padding = -end % tail.alignment
            return padding if not tail.limit or padding <= tail.limit else 0
        case Origin():
            return _origin_size(tail, fragment.section, end)
        case Fill():
            count = known_number(tail.count)
            if count is None:
                raise SourceError("the repeat count must be a number")
            return max(count, 0) * len(tail.pattern)
        case Leb128():
            return len(_leb128(tail))


def _origin_size(tail: Origin, section: Section, end: int) -> int:
    target = known_number(tail.target)
    if target is None:
        result = resolve(tail.target, section_relative)
        if not isinstance(result, Linear) or result.terms != ((section.symbol, 1),):
            raise SourceError(".org needs a place in this section")
        target = result.constant
    return max(target - end, 0)


def _leb128(tail: Leb128) -> bytes:
    value = known_number(tail.value)
    if value is None:
        raise SourceError("this must be a number once the sections are laid out")
    return leb128(value, signed=tail.signed)


def leb128(value: int, *, signed: bool) -> bytes:
    """LEB128: seven bits a byte, low bits first."""
    if not signed:
        value &= (1 << 64) - 1
    out = bytearray()
    while True:
        byte, value = value & 0x7F, value >> 7
        done = (value == 0 and not (signed and byte & 0x40)) or (
            signed and value == -1 and byte & 0x40
        )
        out.append(byte | (0 if done else 0x80))
        if done:
            return bytes(out)


def _place_fragments(section: Section) -> None:
    position = 0
    limit = MAX_SECTION_BYTES if not section.is_nobits else 1 << 62
    for fragment in section.fragments:
        fragment.start = position
        position += len(fragment.data)
        if fragment.tail is not None:
            try:
                fragment.tail_size = _tail_size(fragment, position)
            except SourceError as error:
                raise _located(error, fragment) from None
            position += fragment.tail_size
            if position > limit:
                message = f"section '{section.name}' becomes larger than {limit} bytes"
                raise _located(SourceError(message), fragment)
    section.size = position


class LayoutError(Exception):
    """A mistake found during layout, with its place."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__(diagnostic.message)
        self.diagnostic = diagnostic


def _located(error: SourceError, fragment: Fragment) -> LayoutError:
    statement = getattr(fragment.tail, "statement", None)
    if statement is None:
        return LayoutError(Diagnostic("<source>", 1, 1, error.message, ""))
    return LayoutError(statement.explain(error))


def _grow_branches(section: Section) -> bool:
    grew = False
    for fragment in section.fragments:
        tail = fragment.tail
        if not isinstance(tail, Branch) or tail.grown:
            continue
        try:
            target = _offset_in(tail.target, section)
        except SourceError as error:
            raise _located(error, fragment) from None
        end = fragment.start + len(fragment.data) + len(tail.short) + 1
        if target is None or not -128 <= target - end <= 127:
            tail.grown = grew = True
    return grew


def place_sections(sections: list[Section]) -> None:
    """Give every fragment its start. Raises LayoutError."""
    for _ in range(_MAX_PASSES):
        before = [s.size for s in sections]
        for section in sections:
            _place_fragments(section)
        grew = [_grow_branches(section) for section in sections]
        if not any(grew) and before == [s.size for s in sections]:
            return
    while any(_grow_branches(section) for section in sections):
        for section in sections:
            _place_fragments(section)


# --- images and relocations


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
        pc_relative=True, pc_bias=tail.width, branch=True,
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
            return _leb128(tail)
        case None:
            return b""


def _apply(fixup: Fixup, fragment: Fragment, image: bytearray, out: LaidOut) -> None:
    section = fragment.section
    place = fragment.start + fixup.offset
    own = section.symbol
    value = resolve(fixup.value, _linkable)
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
