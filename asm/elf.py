"""ELF containers: headers, string tables, section and program headers, for both classes.

Knows the System V gABI's structures; knows nothing of assembling.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

SHT_PROGBITS, SHT_SYMTAB, SHT_STRTAB, SHT_RELA, SHT_NOTE, SHT_NOBITS, SHT_REL = 1, 2, 3, 4, 7, 8, 9
SHF_INFO_LINK = 0x40
ET_REL, ET_EXEC = 1, 2
PT_LOAD, PT_NOTE = 1, 4
SHN_UNDEF, SHN_ABS = 0, 0xFFF1

SECTION_FLAGS = {"w": 1, "a": 2, "x": 4, "M": 0x10, "S": 0x20, "G": 0x200, "T": 0x400,
                 "e": 0x80000000, "o": 0x80, "R": 0x200000}  # fmt: skip
SECTION_TYPES = {
    "progbits": SHT_PROGBITS, "nobits": SHT_NOBITS, "note": SHT_NOTE, "init_array": 14,
    "fini_array": 15, "preinit_array": 16, "unwind": 0x70000001,
}  # fmt: skip
SYMBOL_TYPES = {"": 0, "notype": 0, "object": 1, "function": 2, "section": 3, "file": 4,
                "tls_object": 6}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ElfTarget:
    """ELF32 for i386 or ELF64 for x86-64."""

    bits: int

    @property
    def is_64(self) -> bool:
        return self.bits == 64

    @property
    def machine(self) -> int:
        return 62 if self.is_64 else 3

    @property
    def header_size(self) -> int:
        return 64 if self.is_64 else 52

    @property
    def program_header_size(self) -> int:
        return 56 if self.is_64 else 32

    @property
    def word(self) -> int:
        return 8 if self.is_64 else 4

    @property
    def mask(self) -> int:
        return (1 << self.bits) - 1


@dataclass(slots=True)
class StringTable:
    data: bytearray = field(default_factory=lambda: bytearray(1))
    places: dict[str, int] = field(default_factory=lambda: {"": 0})

    def add(self, text: str) -> int:
        """Offset of a string, stored once."""
        place = self.places.get(text)
        if place is None:
            place = self.places[text] = len(self.data)
            self.data += text.encode("utf-8", "surrogateescape") + b"\0"
        return place


@dataclass(frozen=True, slots=True)
class ElfSymbol:
    """A symbol table entry; `section` is a section header index."""

    name: str
    value: int
    size: int
    binding: int
    kind: int
    section: int
    other: int = 0


@dataclass(slots=True)
class SectionHeader:
    """A section header together with the bytes it describes (none for nobits)."""

    name: str
    kind: int
    flags: int = 0
    address: int = 0
    data: bytes = b""
    size: int | None = None
    link: int = 0
    info: int = 0
    alignment: int = 1
    entry_size: int = 0
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class ProgramHeader:
    kind: int
    flags: int
    offset: int
    address: int
    file_size: int
    memory_size: int
    alignment: int


def symbol_table(target: ElfTarget, symbols: list[ElfSymbol], names: StringTable) -> bytes:
    """Symbols, locals first, after the reserved null entry."""
    out = bytearray(24 if target.is_64 else 16)
    for symbol in symbols:
        info = symbol.binding << 4 | symbol.kind
        value, size = symbol.value & target.mask, symbol.size & target.mask
        name = names.add(symbol.name)
        if target.is_64:
            out += struct.pack("<IBBHQQ", name, info, symbol.other, symbol.section, value, size)
        else:
            out += struct.pack("<IIIBBH", name, value, size, info, symbol.other, symbol.section)
    return bytes(out)


def symbol_sections(
    target: ElfTarget, symbols: list[ElfSymbol], strtab_index: int
) -> list[SectionHeader]:
    """.symtab and .strtab; `.strtab` must become section `strtab_index`."""
    names = StringTable()
    first_global = 1 + sum(symbol.binding == 0 for symbol in symbols)
    data = symbol_table(target, symbols, names)
    return [
        SectionHeader(
            ".symtab", SHT_SYMTAB, data=data, link=strtab_index, info=first_global,
            alignment=target.word, entry_size=24 if target.is_64 else 16,
        ),
        SectionHeader(".strtab", SHT_STRTAB, data=bytes(names.data)),
    ]  # fmt: skip


def write_file(
    target: ElfTarget,
    kind: int,
    entry: int,
    segments: list[ProgramHeader],
    sections: list[SectionHeader],
) -> bytes:
    """Put a file together. Sections that name no offset are placed after the others."""
    names = StringTable()
    sections = [
        SectionHeader("", 0, alignment=0),
        *sections,
        SectionHeader(".shstrtab", SHT_STRTAB),
    ]
    name_offsets = [names.add(section.name) for section in sections]
    sections[-1].data = bytes(names.data)
    start = target.header_size + len(segments) * target.program_header_size
    image = bytearray(start)
    for section in sorted(sections, key=lambda s: (s.offset is None, s.offset or 0)):
        _place_section(image, section)
    image += bytes(-len(image) % target.word)
    headers_at = len(image)
    for name, section in zip(name_offsets, sections, strict=True):
        image += _section_header(target, name, section)
    image[: target.header_size] = _file_header(
        target, kind, entry, len(segments), headers_at, len(sections)
    )
    position = target.header_size
    for segment in segments:
        packed = _program_header(target, segment)
        image[position : position + len(packed)] = packed
        position += len(packed)
    return bytes(image)


def _place_section(image: bytearray, section: SectionHeader) -> None:
    if section.kind == 0:
        section.offset = 0
        return
    if section.offset is None:
        section.offset = len(image) + (-len(image) % max(section.alignment, 1))
    if section.kind != SHT_NOBITS:
        image += bytes(max(section.offset - len(image), 0)) + section.data


def _section_header(target: ElfTarget, name: int, section: SectionHeader) -> bytes:
    size = len(section.data) if section.size is None else section.size
    return struct.pack(
        "<IIQQQQIIQQ" if target.is_64 else "<10I",
        name,
        section.kind,
        section.flags,
        section.address & target.mask,
        section.offset,
        size,
        section.link,
        section.info,
        section.alignment,
        section.entry_size,
    )


def _file_header(
    target: ElfTarget, kind: int, entry: int, segments: int, headers_at: int, sections: int
) -> bytes:
    ident = b"\x7fELF" + bytes([2 if target.is_64 else 1, 1, 1]) + bytes(9)
    return ident + struct.pack(
        "<HHIQQQIHHHHHH" if target.is_64 else "<HHIIIIIHHHHHH",
        kind,
        target.machine,
        1,
        entry & target.mask,
        target.header_size if segments else 0,
        headers_at,
        0,
        target.header_size,
        target.program_header_size if segments else 0,
        segments,
        64 if target.is_64 else 40,
        sections,
        sections - 1,
    )


def _program_header(target: ElfTarget, s: ProgramHeader) -> bytes:
    if target.is_64:
        return struct.pack(
            "<IIQQQQQQ", s.kind, s.flags, s.offset, s.address, s.address, s.file_size,
            s.memory_size, s.alignment,
        )  # fmt: skip
    return struct.pack(
        "<8I", s.kind, s.offset, s.address, s.address, s.file_size, s.memory_size, s.flags,
        s.alignment,
    )  # fmt: skip
