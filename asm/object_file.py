"""Relocatable objects: sections, symbols and relocations as GNU as writes them."""

from __future__ import annotations

import struct

from asm import elf
from asm.elf import ElfSymbol, ElfTarget, SectionHeader
from asm.errors import Diagnostic, SourceError
from asm.executable import section_flags
from asm.expressions import Linear
from asm.fragments import Section, Symbol
from asm.images import LaidOut, Relocation
from asm.layout import known_number, section_relative
from asm.program import Program

# (kind, size in bytes) to the psABI's relocation numbers.
_X86_64 = {
    ("absolute", 8): 1, ("relative", 4): 2, ("PLT", 4): 4, ("absolute", 4): 10, ("signed", 4): 11,
    ("absolute", 2): 12, ("relative", 2): 13, ("absolute", 1): 14, ("relative", 1): 15,
    ("relative", 8): 24, ("GOTPCREL", 4): 9,
}  # fmt: skip
_I386 = {
    ("absolute", 4): 1, ("signed", 4): 1, ("relative", 4): 2, ("PLT", 4): 4, ("absolute", 2): 20,
    ("relative", 2): 21, ("absolute", 1): 22, ("relative", 1): 23,
}  # fmt: skip


class _Symbols:
    """The symbol table under construction: section symbols, locals, then globals."""

    def __init__(self, program: Program, headers: dict[int, int]) -> None:
        self.entries: list[ElfSymbol] = []
        self.index: dict[int, int] = {}
        local: list[tuple[Symbol, ElfSymbol]] = []
        external: list[tuple[Symbol, ElfSymbol]] = []
        for section in program.sections.values():
            if id(section) in headers:
                local.append((section.symbol, section_entry(headers[id(section)])))
        for name, symbol in program.symbols.items():
            entry = _entry(name, symbol, headers)
            if entry is not None:
                (external if entry.binding else local).append((symbol, entry))
        for symbol, entry in local + external:
            self.index[id(symbol)] = len(self.entries) + 1
            self.entries.append(entry)


def section_entry(header: int) -> ElfSymbol:
    """The symbol that stands for a whole section."""
    return ElfSymbol("", 0, 0, 0, elf.SYMBOL_TYPES["section"], header)


def _entry(name: str, symbol: Symbol, headers: dict[int, int]) -> ElfSymbol | None:
    if not symbol.is_defined:
        if symbol.first_use is None and not symbol.is_global and not symbol.is_weak:
            return None
        return ElfSymbol(name, 0, 0, 2 if symbol.is_weak else 1, 0, elf.SHN_UNDEF)
    if name.startswith(".L") and not symbol.is_global:
        return None
    value = section_relative(symbol)
    if not isinstance(value, Linear) or len(value.terms) > 1:
        return None
    header = elf.SHN_ABS
    if value.terms:
        section = value.terms[0][0].section
        if section is None or id(section) not in headers:
            return None
        header = headers[id(section)]
    size = known_number(symbol.size) if symbol.size is not None else 0
    binding = 2 if symbol.is_weak else int(symbol.is_global)
    other = 2 if symbol.hidden else 0
    kind = elf.SYMBOL_TYPES[symbol.kind]
    return ElfSymbol(name, value.constant, size or 0, binding, kind, header, other)


def _kind(relocation: Relocation, target: ElfTarget, symbol: Symbol | None) -> str:
    if relocation.modifier:
        return relocation.modifier
    if relocation.pc_relative:
        external = symbol is not None and symbol.kind != "section"
        is_call = relocation.branch and relocation.addend == -4 and target.is_64
        return "PLT" if is_call and external else "relative"
    return "signed" if relocation.signed else "absolute"


def _number_of(relocation: Relocation, target: ElfTarget, symbol: Symbol | None) -> int:
    table = _X86_64 if target.is_64 else _I386
    kind = _kind(relocation, target, symbol)
    number = table.get((kind, relocation.size))
    if number is None:
        raise SourceError(
            f"a {8 * relocation.size}-bit {kind} field cannot be relocated in ELF{target.bits}"
        )
    return number


def _relocations(
    part: LaidOut, target: ElfTarget, symbols: _Symbols, errors: list[Diagnostic]
) -> tuple[bytes, bytes]:
    """The relocation table and the image, which holds the addends in ELF32."""
    out = bytearray()
    image = bytearray(part.image)
    for relocation in part.relocations:
        symbol = relocation.symbol
        index = symbols.index.get(id(symbol), 0) if symbol is not None else 0
        try:
            number = _number_of(relocation, target, symbol)
        except SourceError as error:
            errors.append(relocation.statement.explain(error))
            continue
        if target.is_64:
            out += struct.pack("<QQq", relocation.offset, index << 32 | number, relocation.addend)
        else:
            out += struct.pack("<II", relocation.offset, index << 8 | number)
            size, place = relocation.size, relocation.offset
            addend = relocation.addend & ((1 << (8 * size)) - 1)
            image[place : place + size] = addend.to_bytes(size, "little")
    return bytes(out), bytes(image)


def _section(section: Section, image: bytes) -> SectionHeader:
    return SectionHeader(
        section.name, elf.SECTION_TYPES[section.kind], section_flags(section),
        data=image, size=section.size, alignment=section.alignment,
        entry_size=section.entry_size,
    )  # fmt: skip


def write_object(
    program: Program, laid_out: list[LaidOut], target: ElfTarget, errors: list[Diagnostic]
) -> bytes:
    """An ET_REL file. Relocations that ELF cannot express go to `errors`."""
    sections = list(program.sections.values())
    headers = {id(section): index for index, section in enumerate(sections, start=1)}
    symbols = _Symbols(program, headers)
    result: list[SectionHeader] = []
    tables: list[tuple[Section, bytes]] = []
    for part in laid_out:
        table, image = _relocations(part, target, symbols, errors)
        result.append(_section(part.section, image))
        if table:
            tables.append((part.section, table))
    symtab = len(result) + len(tables) + 1
    for section, data in tables:
        result.append(
            SectionHeader(
                (".rela" if target.is_64 else ".rel") + section.name,
                elf.SHT_RELA if target.is_64 else elf.SHT_REL,
                elf.SHF_INFO_LINK,
                data=data,
                link=symtab,
                info=headers[id(section)],
                alignment=target.word,
                entry_size=24 if target.is_64 else 8,
            )
        )
    result += elf.symbol_sections(target, symbols.entries, symtab + 1)
    return elf.write_file(target, elf.ET_REL, 0, [], result)
