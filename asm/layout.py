"""Layout: what symbols mean inside sections, sizes of fragments, growth of jumps.

Jumps start short and only ever grow, so the process ends. Knows nothing of ELF.
"""

from __future__ import annotations

from collections.abc import Callable

from asm.errors import Diagnostic, SourceError
from asm.expressions import Linear, Value, resolve
from asm.fragments import Align, Branch, Fill, Fragment, Leb128, Origin, Section, Symbol
from asm.program import MAX_SECTION_BYTES

_MAX_PASSES = 64


# --- what symbols mean once fragments have starts


def section_relative(symbol: Symbol) -> Value:
    """The symbol as section start + number, through equates; itself when undefined."""
    return _meaning(symbol, _never, 0)


def linkable(symbol: Symbol) -> Value:
    """Like section_relative, but a global or weak symbol stays itself for the linker."""
    return _meaning(symbol, lambda s: s.preemptible, 0)


def jumpable(symbol: Symbol) -> Value:
    """What a jump that can grow sees: GNU as binds it to a global symbol, but not to a weak one."""
    return _meaning(symbol, lambda s: s.is_weak, 0)


def _never(symbol: Symbol) -> bool:
    return False


def _meaning(symbol: Symbol, keep: Callable[[Symbol], bool], depth: int) -> Value:
    if depth > 100:
        raise SourceError(f"the value of '{symbol.name}' depends on itself", name=symbol.name)
    if symbol.value is not None:
        return resolve(symbol.value, lambda s: _meaning(s, keep, depth + 1))
    if symbol.fragment is None or keep(symbol):
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
    result = resolve(value, jumpable)
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
            return len(tail_leb128(tail))


def _origin_size(tail: Origin, section: Section, end: int) -> int:
    target = known_number(tail.target)
    if target is None:
        result = resolve(tail.target, section_relative)
        if not isinstance(result, Linear) or result.terms != ((section.symbol, 1),):
            raise SourceError(".org needs a place in this section")
        target = result.constant
    return max(target - end, 0)


def tail_leb128(tail: Leb128) -> bytes:
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
    assert fragment.tail is not None
    return LayoutError(fragment.tail.statement.explain(error))


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
