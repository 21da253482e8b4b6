"""Listings: address and bytes beside the source line that made them."""

from __future__ import annotations

from asm.executable import Executable
from asm.fragments import Section
from asm.program import Program

_BYTES_PER_ROW = 8
_MAX_ROWS = 4


def _rows(address: int, data: bytes, text: str) -> list[str]:
    pieces = [data[i : i + _BYTES_PER_ROW] for i in range(0, len(data), _BYTES_PER_ROW)]
    rows = []
    for number, piece in enumerate(pieces[:_MAX_ROWS]):
        shown = text if number == 0 else ""
        offset = address + number * _BYTES_PER_ROW
        rows.append(f"{offset:016x}  {piece.hex(' '):<23}  {shown}".rstrip())
    if len(pieces) > _MAX_ROWS:
        rows.append(f"{'':16}  ... {len(data)} bytes in all")
    return rows or [f"{address:016x}  {'':<23}  {text}".rstrip()]


def _section_listing(section: Section) -> list[str]:
    lines = [f"section {section.name} at {section.address:#x}, {section.size} bytes"]
    marks = sorted(section.marks, key=lambda mark: mark.position)
    ends = [mark.position for mark in marks[1:]] + [section.size]
    for mark, end in zip(marks, ends, strict=True):
        start = mark.position
        text = f"{mark.line.file}:{mark.line.number}: {mark.line.text.strip()}"
        if section.is_nobits:
            note = f"  {end - start} zero bytes" if end > start else ""
            lines.append(f"{section.address + start:016x}{note}  {text}")
        elif end > start:
            lines += _rows(section.address + start, section.image[start:end], text)
    return lines


def render_listing(program: Program, executable: Executable) -> str:
    """Every loaded section in address order, then the symbols."""
    lines: list[str] = []
    for segment in executable.segments:
        for section in segment.sections:
            lines += [*_section_listing(section), ""]
    lines.append("symbols")
    for name, address in sorted(executable.addresses.items(), key=lambda item: item[1]):
        if not name.startswith(".L"):
            lines.append(f"{address & ((1 << 64) - 1):016x}  {name}")
    return "\n".join(lines) + "\n"
