"""Reads a relocatable ELF64 object into code, functions and relocations.

It knows the format (System V ABI, Object Files; the psABI of the machine only as far as which
relocations are relative to their place) and nothing of what the functions do. A reader of its
own, because a general one takes 2 ms for an object of three functions, and this runs for every
hot region.
"""

import struct
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

EM_X86_64, EM_AARCH64 = 62, 183

INSIDE = ""
"""The symbol of a relocation that refers into its own blob: its value is where the blob's first
byte lies, and the addend counts from there."""

_SHT_PROGBITS, _SHT_SYMTAB, _SHT_RELA, _SHT_NOBITS, _SHT_REL = 1, 2, 4, 8, 9
_SHF_ALLOC = 2
_SHN_UNDEF = 0
_STT_FUNC = 2
_ET_REL = 1

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QIIq")

_LARGEST_ALIGNMENT = 4096
"""A page: executable memory is aligned no better."""

_KEPT = (".text", ".rodata", ".data.rel.ro")
_LEFT_OUT = (".eh_frame", ".note")
"""Unwind tables and notes: nothing unwinds through generated code."""


class ObjectError(Exception):
    """An object that is damaged or uses what is not understood; the message is one line."""


@dataclass(frozen=True, slots=True)
class Relocation:
    """A place that waits for a value: `symbol` + `addend`, in the way `kind` says.

    `offset` counts bytes from the start of the blob or stencil, `kind` is ELF's r_type.
    """

    offset: int
    kind: int
    symbol: str
    addend: int


@dataclass(frozen=True, slots=True)
class Function:
    """Where a function lies in the blob, in bytes."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Stencil:
    """The code of one function that stands alone; it may lie at any aligned place."""

    machine: int
    code: bytes
    relocations: tuple[Relocation, ...]


@dataclass(frozen=True)
class ObjectCode:
    """What of an object goes into memory: one blob, to be placed at a multiple of `alignment`.

    Relocations are sorted by offset.
    """

    machine: int
    code: bytes
    alignment: int
    functions: dict[str, Function]
    relocations: tuple[Relocation, ...]

    @cached_property
    def _offsets(self) -> list[int]:
        return [relocation.offset for relocation in self.relocations]

    def relocations_between(self, start: int, end: int) -> tuple[Relocation, ...]:
        """Those with `start` <= offset < `end`."""
        first = bisect_left(self._offsets, start)
        return self.relocations[first : bisect_left(self._offsets, end, lo=first)]


def extract(code: ObjectCode, name: str) -> Stencil:
    """The function `name` alone, without padding.

    Raises ObjectError if there is none, or if it refers to another part of the blob. A call to
    a function of the same section is resolved by the assembler and cannot be seen here.
    """
    function = code.functions.get(name)
    if function is None:
        raise ObjectError(f"the object has no function {name}")
    start, size = function.offset, function.size
    relocations = []
    for relocation in code.relocations_between(start, start + size):
        if relocation.symbol == INSIDE:
            raise ObjectError(f"function {name} refers to another part of its object")
        relocations.append(
            Relocation(
                relocation.offset - start, relocation.kind, relocation.symbol, relocation.addend
            )
        )
    return Stencil(code.machine, code.code[start : start + size], tuple(relocations))


def parse_object(data: bytes) -> ObjectCode:
    """The code, functions and relocations of a relocatable object. Raises ObjectError."""
    try:
        return _Reader(data).read()
    except (struct.error, IndexError, UnicodeDecodeError, ValueError) as error:
        raise ObjectError(f"the object is damaged: {error}") from None


@dataclass(frozen=True, slots=True)
class _Section:
    name: str
    type: int
    flags: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int


class _Reader:
    """One object while it is read."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        header = _HEADER.unpack_from(data, 0)
        identification, kind, self._machine = header[:3]
        if identification[:7] != b"\x7fELF\x02\x01\x01":
            raise ObjectError("not a little-endian ELF64 object")
        if kind != _ET_REL:
            raise ObjectError(f"ELF file type {kind} is not a relocatable object")
        self._sections = self._read_sections(*header[6:7], *header[11:14])
        self._code = bytearray()
        self._alignment = 1
        self._places: dict[int, int] = {}
        """Section number -> offset of the section in the blob."""

    def read(self) -> ObjectCode:
        self._lay_out()
        tables = [s for s in self._sections if s.type == _SHT_SYMTAB]
        if len(tables) != 1:
            raise ObjectError(f"the object has {len(tables)} symbol tables")
        symbols = list(_SYMBOL.iter_unpack(self._contents(tables[0])))
        names = self._contents(self._sections[tables[0].link])
        functions = {
            _string(names, name): Function(self._places[section] + value, size)
            for name, info, _, section, value, size in symbols
            if info & 15 == _STT_FUNC and section in self._places
        }
        relocations = sorted(self._relocations(symbols, names), key=lambda r: r.offset)
        for function in functions.values():
            if function.offset + function.size > len(self._code):
                raise ObjectError("the object is damaged: a function ends outside its section")
        return ObjectCode(
            self._machine, bytes(self._code), self._alignment, functions, tuple(relocations)
        )

    def _read_sections(
        self, table: int, entry_size: int, count: int, names_at: int
    ) -> list[_Section]:
        if entry_size != _SECTION.size:
            raise ObjectError(f"section headers of {entry_size} bytes are not understood")
        data = self._data[table : table + count * entry_size]
        raw = list(_SECTION.iter_unpack(data))
        if len(raw) != count:
            raise ObjectError("the object is damaged: it ends inside its section headers")
        names = self._data[raw[names_at][4] : raw[names_at][4] + raw[names_at][5]]
        return [
            _Section(_string(names, name), kind, flags, offset, size, link, info, alignment)
            for name, kind, flags, _, offset, size, link, info, alignment, _ in raw
        ]

    def _contents(self, section: _Section) -> bytes:
        data = self._data[section.offset : section.offset + section.size]
        if len(data) != section.size:
            raise ObjectError(f"the object is damaged: it ends inside {section.name}")
        return data

    def _lay_out(self) -> None:
        """Put the allocated sections one after another, each at its alignment."""
        for number, section in enumerate(self._sections):
            if not section.flags & _SHF_ALLOC or section.name.startswith(_LEFT_OUT):
                continue
            if not section.size:
                # An empty section still carries symbols of functions without code.
                self._places[number] = len(self._code)
                continue
            if section.type != _SHT_PROGBITS or not section.name.startswith(_KEPT):
                raise ObjectError(f"section {section.name} is not understood")
            alignment = max(section.alignment, 1)
            if alignment & (alignment - 1) or alignment > _LARGEST_ALIGNMENT:
                raise ObjectError(f"section {section.name} has alignment {alignment:#x}")
            self._code += bytes(-len(self._code) % alignment)
            self._alignment = max(self._alignment, alignment)
            self._places[number] = len(self._code)
            self._code += self._contents(section)

    def _relocations(
        self, symbols: list[tuple[int, int, int, int, int, int]], names: bytes
    ) -> Iterator[Relocation]:
        for section in self._sections:
            if section.info not in self._places:
                continue
            if section.type == _SHT_REL:
                raise ObjectError(f"section {section.name} has relocations without addends")
            if section.type != _SHT_RELA:
                continue
            start = self._places[section.info]
            end = start + self._sections[section.info].size
            for offset, kind, symbol, addend in _RELOCATION.iter_unpack(self._contents(section)):
                if start + offset >= end:
                    raise ObjectError(f"the object is damaged: {section.name} points outside")
                name, _, _, defined_in, value, _ = symbols[symbol]
                if defined_in in self._places:
                    inside = self._places[defined_in] + value + addend
                    yield Relocation(start + offset, kind, INSIDE, inside)
                elif defined_in == _SHN_UNDEF and name:
                    yield Relocation(start + offset, kind, _string(names, name), addend)
                else:
                    raise ObjectError(
                        f"{section.name} refers to {_string(names, name) or 'a place'}, "
                        "which is in no section that is kept"
                    )


def _string(table: bytes, offset: int) -> str:
    return table[offset : table.index(b"\0", offset)].decode()
