"""Linking one program into a static executable: addresses, segments, relocated images.

Layout: the first load address is `base`; sections of equal rights share a page-aligned
segment in the order boot sections, code, read-only data, writable data, zeroed data.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from asm import elf
from asm.dwarf import debug_sections
from asm.elf import ElfSymbol, ElfTarget, ProgramHeader, SectionHeader
from asm.errors import Diagnostic, SourceError
from asm.expressions import Linear, Value, resolve
from asm.fragments import Section, Symbol
from asm.images import LaidOut, Relocation, check_field
from asm.program import Program

PAGE = 0x1000


@dataclass(slots=True)
class Segment:
    """Sections loaded together with the same rights, at a file offset (nobits: none used)."""

    sections: list[Section]
    offset: int = 0

    @property
    def address(self) -> int:
        return self.sections[0].address

    @property
    def end(self) -> int:
        return self.sections[-1].address + self.sections[-1].size

    @property
    def is_nobits(self) -> bool:
        return self.sections[0].is_nobits

    @property
    def flags(self) -> int:
        letters = self.sections[0].flags
        return 4 | 2 * ("w" in letters) | ("x" in letters)


@dataclass(slots=True)
class Executable:
    """A linked program; section images are final and `addresses` holds every symbol."""

    program: Program
    target: ElfTarget
    segments: list[Segment]
    addresses: dict[str, int]
    sizes: dict[str, int]
    entry: int

    def file(self, name: str) -> bytes:
        """The ELF file, with symbols and line numbers; `name` names the source in DWARF."""
        headers: list[ProgramHeader] = []
        sections: list[SectionHeader] = []
        for segment in self.segments:
            headers.append(_load_header(segment))
            for section in segment.sections:
                offset = segment.offset + section.address - segment.address
                sections.append(_section_header(section, offset))
                if section.kind == "note":
                    headers.append(_note_header(section, offset))
        symbols = self._symbols([s for segment in self.segments for s in segment.sections])
        sections += debug_sections(self.program, self.target, name)
        sections += elf.symbol_sections(self.target, symbols, len(sections) + 2)
        return elf.write_file(self.target, elf.ET_EXEC, self.entry, headers, sections)

    def _symbols(self, sections: list[Section]) -> list[ElfSymbol]:
        index = {id(section): i for i, section in enumerate(sections, start=1)}
        entries = []
        for name, symbol in self.program.symbols.items():
            if name not in self.addresses or name.startswith(".L"):
                continue
            place = _home(symbol)
            if place is not None and id(place) not in index:
                continue
            entries.append(
                ElfSymbol(
                    name,
                    self.addresses[name],
                    self.sizes.get(name, 0),
                    2 if symbol.is_weak else int(symbol.is_global),
                    elf.SYMBOL_TYPES[symbol.kind],
                    index[id(place)] if place is not None else elf.SHN_ABS,
                    2 if symbol.hidden else 0,
                )
            )
        return sorted(entries, key=lambda entry: entry.binding != 0)


def _home(symbol: Symbol) -> Section | None:
    """The section a symbol lies in, through equates."""
    if symbol.fragment is not None:
        return symbol.fragment.section
    if isinstance(symbol.value, Linear) and len(symbol.value.terms) == 1:
        return _home(symbol.value.terms[0][0])
    return None


def _load_header(segment: Segment) -> ProgramHeader:
    size = segment.end - segment.address
    return ProgramHeader(
        elf.PT_LOAD, segment.flags, segment.offset, segment.address,
        0 if segment.is_nobits else size, size, PAGE,
    )  # fmt: skip


def _note_header(section: Section, offset: int) -> ProgramHeader:
    return ProgramHeader(
        elf.PT_NOTE, 4, offset, section.address, section.size, section.size, section.alignment
    )


def section_flags(section: Section) -> int:
    """ELF flag bits of a section's letters."""
    return sum(elf.SECTION_FLAGS.get(letter, 0) for letter in set(section.flags))


def _section_header(section: Section, offset: int) -> SectionHeader:
    return SectionHeader(
        section.name, elf.SECTION_TYPES[section.kind], section_flags(section), section.address,
        section.image, section.size, alignment=section.alignment,
        entry_size=section.entry_size, offset=offset,
    )  # fmt: skip


# --- addresses

_BOOT_NAMES = (".multiboot", ".boot", ".note")


def _rank(section: Section) -> tuple[int, str]:
    """The segment a section belongs to, in file order; boot headers must come early."""
    rights = "".join(letter for letter in "wx" if letter in section.flags)
    if section.is_nobits:
        return 5, "w" + rights
    if section.name.startswith(_BOOT_NAMES):
        return 0, rights
    return {"x": 1, "": 2, "wx": 3, "w": 4}[rights], rights


def _make_segments(program: Program, base: int) -> list[Segment]:
    loaded = [s for s in program.sections.values() if s.allocated and s.size]
    loaded.sort(key=_rank)  # stable: first appearance decides among equals
    segments = []
    address, offset = base, PAGE
    for _, group in groupby(loaded, _rank):
        segment = Segment(list(group))
        address += -address % max(PAGE, segment.sections[0].alignment)
        offset += -offset % PAGE
        segment.offset = offset
        for section in segment.sections:
            address += -address % section.alignment
            section.address = address
            address += section.size
        if not segment.is_nobits:
            offset += segment.end - segment.address
        segments.append(segment)
    return segments


class _Addresses:
    """What symbols mean once sections have addresses; `provided` are the linker's own names."""

    def __init__(self, provided: dict[str, int]) -> None:
        self.provided = provided

    def meaning(self, symbol: Symbol, depth: int = 0) -> Value:
        if depth > 100:
            raise SourceError(f"the value of '{symbol.name}' depends on itself", name=symbol.name)
        if symbol.value is not None:
            return resolve(symbol.value, lambda s: self.meaning(s, depth + 1))
        if symbol.fragment is not None:
            place = symbol.fragment
            return Linear(place.section.address + place.start + symbol.offset)
        if symbol.name in self.provided:
            return Linear(self.provided[symbol.name])
        return Linear(0) if symbol.is_weak else Linear(0, ((symbol, 1),))

    def number(self, value: Value) -> int | None:
        """The value as a number, or None when something in it is undefined."""
        result = resolve(value, self.meaning)
        return result.constant if isinstance(result, Linear) and not result.terms else None


def _provided_symbols(segments: list[Segment]) -> dict[str, int]:
    """The names GNU ld provides for sources that refer to them without defining them."""
    if not segments:
        return {}
    code = [s for s in segments if s.flags & 1]
    data = [s for s in segments if not s.is_nobits]
    start, end = segments[0].address, segments[-1].end
    etext = code[-1].end if code else start
    edata = data[-1].end if data else start
    return {
        "__executable_start": start, "etext": etext, "_etext": etext, "edata": edata,
        "_edata": edata, "end": end, "_end": end,
        "__bss_start": next((s.address for s in segments if s.is_nobits), end),
    }  # fmt: skip


def link(
    program: Program,
    laid_out: list[LaidOut],
    target: ElfTarget,
    base: int,
    errors: list[Diagnostic],
) -> Executable:
    """Assign addresses and relocate. Undefined symbols and overflows go to `errors`."""
    segments = _make_segments(program, base)
    known = _Addresses(_provided_symbols(segments))
    if segments and segments[-1].end > target.mask:
        last = segments[-1].sections[-1]
        errors.append(
            Diagnostic("<link>", 1, 1, f"section '{last.name}' ends above the address space", "")
        )
    _report_undefined(laid_out, known, errors)
    if not errors:
        for part in laid_out:
            if part.section.allocated:
                _relocate(part, known, errors)
    addresses: dict[str, int] = {}
    sizes: dict[str, int] = {}
    for name, symbol in program.symbols.items():
        if symbol.is_defined:
            address = known.number(Linear(0, ((symbol, 1),)))
            if address is not None:
                addresses[name] = address
                sizes[name] = known.number(symbol.size) or 0 if symbol.size else 0
    text = program.sections[".text"]
    first_code = next((s.address for s in segments if s.flags & 1), base)
    entry = addresses.get("_start", text.address if text.size else first_code)
    return Executable(program, target, segments, addresses, sizes, entry)


def _report_undefined(laid_out: list[LaidOut], known: _Addresses, errors: list[Diagnostic]) -> None:
    seen: set[str] = set()
    for part in laid_out:
        for relocation in part.relocations:
            symbol = relocation.symbol
            if symbol is None or symbol.is_defined or symbol.is_weak or symbol.name in seen:
                continue
            if symbol.name in known.provided:
                continue
            seen.add(symbol.name)
            statement = symbol.first_use or relocation.statement
            error = SourceError(f"undefined symbol '{symbol.name}'", name=symbol.name)
            errors.append(statement.explain(error))


def _relocate(part: LaidOut, known: _Addresses, errors: list[Diagnostic]) -> None:
    image = bytearray(part.image)
    for relocation in part.relocations:
        try:
            _apply(relocation, part.section, known, image)
        except SourceError as error:
            errors.append(relocation.statement.explain(error))
    part.section.image = bytes(image)


def _apply(relocation: Relocation, section: Section, known: _Addresses, image: bytearray) -> None:
    if relocation.modifier not in ("", "PLT"):
        raise SourceError(f"'@{relocation.modifier}' has no meaning in a static executable")
    symbol = relocation.symbol
    target = known.number(Linear(0, ((symbol, 1),) if symbol else ()))
    if target is None:
        raise SourceError("this expression has no address")
    number = target + relocation.addend
    if relocation.pc_relative:
        number -= section.address + relocation.offset
    size, place = relocation.size, relocation.offset
    check_field(number, size, signed=relocation.signed or relocation.pc_relative)
    image[place : place + size] = (number & ((1 << (8 * size)) - 1)).to_bytes(size, "little")
