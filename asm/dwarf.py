"""DWARF 4 line numbers: which source line each instruction came from.

Writes .debug_line with one sequence per code section, and the smallest .debug_info and
.debug_abbrev that lead a debugger to it (DWARF 4, 6.2 and 7.5).
"""

from __future__ import annotations

import struct

from asm.elf import SHT_PROGBITS, ElfTarget, SectionHeader
from asm.fragments import Section
from asm.layout import leb128
from asm.program import Program

_LINE_BASE, _LINE_RANGE, _OPCODE_BASE = -5, 14, 13
_OPERAND_COUNTS = bytes([0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1])
_DW_LANG_ASSEMBLER = 0x8001

Row = tuple[int, int, int]  # address, file number, line


def _rows(section: Section, files: dict[str, int]) -> list[Row]:
    rows: dict[int, Row] = {}
    for mark in section.marks:
        if mark.is_code:
            file, line = mark.line.origin
            address = section.address + mark.position
            rows[address] = (address, files.setdefault(file, len(files) + 1), line)
    return [rows[address] for address in sorted(rows)]


def _program(rows: list[Row], end: int, word: int) -> bytes:
    """A line-number program for one ascending run of rows."""
    out = bytearray()
    address, file, line = rows[0][0], 1, 1
    out += b"\0" + leb128(word + 1, signed=False) + b"\x02" + address.to_bytes(word, "little")
    for row_address, row_file, row_line in rows:
        if row_file != file:
            out += b"\x04" + leb128(row_file, signed=False)
            file = row_file
        advance, delta = row_address - address, row_line - line
        special = delta - _LINE_BASE + _LINE_RANGE * advance + _OPCODE_BASE
        if _LINE_BASE <= delta < _LINE_BASE + _LINE_RANGE and special < 256:
            out.append(special)
        else:
            out += b"\x02" + leb128(advance, signed=False)
            out += b"\x03" + leb128(delta, signed=True) + b"\x01"
        address, line = row_address, row_line
    return bytes(out + b"\x02" + leb128(end - address, signed=False) + b"\0\x01\x01")


def _debug_line(files: dict[str, int], programs: bytes) -> bytes:
    names = b"".join(_string(name) + b"\0\0\0" for name in files)
    header = struct.pack("<BBBbBB", 1, 1, 1, _LINE_BASE, _LINE_RANGE, _OPCODE_BASE)
    header += _OPERAND_COUNTS + b"\0" + names + b"\0"
    body = struct.pack("<HI", 4, len(header)) + header + programs
    return struct.pack("<I", len(body)) + body


def _string(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape").replace(b"\0", b"") + b"\0"


def _debug_info(name: str, low: int, size: int, word: int) -> tuple[bytes, bytes]:
    """.debug_abbrev and .debug_info with one compile unit."""
    address_form, size_form = b"\x01", b"\x07" if word == 8 else b"\x06"
    abbreviation = (
        b"\x01\x11\x00"  # 1: DW_TAG_compile_unit without children
        b"\x10\x17"  # DW_AT_stmt_list, sec_offset
        b"\x11" + address_form + b"\x12" + size_form + b"\x03\x08"  # low_pc, high_pc, name
        b"\x25\x08\x13\x05"  # producer, language
        b"\0\0\0"
    )
    entry = b"\x01" + struct.pack("<I", 0) + low.to_bytes(word, "little")
    entry += size.to_bytes(word, "little") + _string(name) + _string("vtx asm")
    entry += struct.pack("<H", _DW_LANG_ASSEMBLER)
    body = struct.pack("<HIB", 4, 0, word) + entry
    return abbreviation, struct.pack("<I", len(body)) + body


def debug_sections(program: Program, target: ElfTarget, name: str) -> list[SectionHeader]:
    """The debug sections of a linked program; none when it has no code."""
    files: dict[str, int] = {name: 1}
    programs = b""
    code = [s for s in program.sections.values() if s.allocated and s.size]
    ranges = []
    for section in sorted(code, key=lambda s: s.address):
        rows = _rows(section, files)
        if rows:
            end = section.address + section.size
            programs += _program(rows, end, target.word)
            ranges.append((rows[0][0], end))
    if not ranges:
        return []
    low, high = ranges[0][0], ranges[-1][1]
    abbreviations, info = _debug_info(name, low, high - low, target.word)
    parts = {
        ".debug_line": _debug_line(files, programs),
        ".debug_abbrev": abbreviations,
        ".debug_info": info,
    }
    return [SectionHeader(name, SHT_PROGBITS, data=data) for name, data in parts.items()]
