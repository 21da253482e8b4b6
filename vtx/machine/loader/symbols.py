"""Names and source lines of an image's addresses.

Reading them is a courtesy to people: an image whose symbol table or DWARF is missing or
broken boots all the same and has no names. Nothing here may raise for what a file contains.
"""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

MAX_SYMBOLS = 1_000_000


@dataclass(frozen=True, slots=True)
class Symbol:
    """A named address. `size` is in bytes, 0 where the producer gave none."""

    name: str
    address: int
    size: int


@dataclass(frozen=True, slots=True)
class SourceLine:
    """A place in a source file."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class SymbolTable:
    """Look-ups from name to address and from address to the nearest symbol before it."""

    def __init__(self, symbols: Iterable[Symbol] = ()) -> None:
        # Of several names for one address the first in the table speaks for it.
        unique: dict[int, Symbol] = {}
        self._by_name: dict[str, int] = {}
        for symbol in symbols:
            unique.setdefault(symbol.address, symbol)
            self._by_name.setdefault(symbol.name, symbol.address)
        self._sorted = sorted(unique.values(), key=lambda symbol: symbol.address)
        self._addresses = [symbol.address for symbol in self._sorted]

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[Symbol]:
        return iter(self._sorted)

    def address_of(self, name: str) -> int | None:
        """The address that `name` stands for, or None."""
        return self._by_name.get(name)

    def nearest(self, address: int) -> tuple[Symbol, int] | None:
        """The last symbol at or before `address`, with the distance to it. A symbol that
        states its size ends there: addresses past it have no symbol."""
        index = bisect_right(self._addresses, address) - 1
        if index < 0:
            return None
        symbol = self._sorted[index]
        offset = address - symbol.address
        return None if symbol.size and offset >= symbol.size else (symbol, offset)

    def describe(self, address: int) -> str | None:
        """`name`, `name+0x10`, or None: the way people write an address."""
        found = self.nearest(address)
        if found is None:
            return None
        symbol, offset = found
        return f"{symbol.name}+{offset:#x}" if offset else symbol.name


class LineTable:
    """Look-ups from an address to its source line, read from DWARF at the first question."""

    def __init__(self, image: bytes = b"") -> None:
        self._image = image
        self._rows: list[tuple[int, SourceLine | None]] | None = None
        self._addresses: list[int] = []

    def lookup(self, address: int) -> SourceLine | None:
        """The source line that the code at `address` was made from, or None."""
        rows = self._rows
        if rows is None:
            rows = self._rows = sorted(read_lines(self._image), key=_row_order)
            self._addresses = [start for start, _ in rows]
        index = bisect_right(self._addresses, address) - 1
        return rows[index][1] if index >= 0 else None


def _row_order(row: tuple[int, SourceLine | None]) -> tuple[int, bool]:
    # Where one sequence ends another may begin: its row must come last to win.
    return row[0], row[1] is not None


def read_symbols(image: bytes) -> SymbolTable:
    """The image's symbols: functions, objects and untyped labels with a section."""
    from elftools.elf.elffile import ELFFile
    from elftools.elf.sections import SymbolTableSection

    symbols: list[Symbol] = []
    try:
        for section in ELFFile(io.BytesIO(image)).iter_sections():
            if isinstance(section, SymbolTableSection) and len(symbols) < MAX_SYMBOLS:
                symbols.extend(_symbols_of(section))
    except Exception:  # a broken table must not keep an image from booting
        pass
    return SymbolTable(symbols)


def _symbols_of(section: Any) -> Iterator[Symbol]:
    for index in range(min(section.num_symbols(), MAX_SYMBOLS)):
        symbol = section.get_symbol(index)
        kind = symbol["st_info"]["type"]
        if kind in ("STT_FILE", "STT_SECTION") or symbol["st_shndx"] == "SHN_UNDEF":
            continue
        if symbol.name:
            yield Symbol(symbol.name, int(symbol["st_value"]), int(symbol["st_size"]))


def read_lines(image: bytes) -> list[tuple[int, SourceLine | None]]:
    """Rows of the image's DWARF line programs: start address and line, None after the last row
    of a sequence. Empty, or cut short, where DWARF is missing or broken."""
    rows: list[tuple[int, SourceLine | None]] = []
    if not image:
        return rows
    from elftools.elf.elffile import ELFFile

    try:
        elf = ELFFile(io.BytesIO(image))
        if not elf.has_dwarf_info():
            return rows
        dwarf = elf.get_dwarf_info()
        for unit in dwarf.iter_CUs():
            program = dwarf.line_program_for_CU(unit)
            if program is not None:
                rows.extend(_rows_of(program))
    except Exception:  # broken debug information is the same as none
        pass
    return rows


def _rows_of(program: Any) -> Iterator[tuple[int, SourceLine | None]]:
    files = program["file_entry"]
    first = 0 if program["version"] >= 5 else 1  # DWARF 5 counts files from zero
    for entry in program.get_entries():
        state = entry.state
        if state is None:
            continue
        if state.end_sequence:
            yield state.address, None
            continue
        index = state.file - first
        if 0 <= index < len(files):
            name = files[index].name.decode("utf-8", "replace")
            yield state.address, SourceLine(name, state.line)
