"""VMCS fields: their names, encodings, widths and what makes them exist.

Must not know how a VMCS region stores a field or which fields this machine implements.
"""

from collections.abc import Container
from dataclasses import dataclass
from functools import cache
from typing import Literal

from vtx.spec.tables import Names, SpecError, lookup, number_in, rows

WIDTH_CODE = {0: "16", 1: "64", 2: "32", 3: "natural"}
GROUP_CODE = {0: "control", 1: "read-only", 2: "guest", 3: "host"}


@dataclass(frozen=True, slots=True)
class VmcsField:
    """One VMCS field (SDM 3D, Field Encoding in VMCS). `encoding` names all of the field."""

    name: str
    encoding: int
    width: Literal["16", "32", "64", "natural"]
    access: Literal["full", "full+high"]
    group: Literal["control", "read-only", "guest", "host"]
    index: int
    exists_if: tuple[str, ...] = ()
    meaning: str = ""
    see: str = ""

    @property
    def bits(self) -> int:
        """Width in bits on a processor with Intel 64, where natural width is 64."""
        return 64 if self.width == "natural" else int(self.width)

    @property
    def mask(self) -> int:
        """All ones in the field's width."""
        return (1 << self.bits) - 1

    @property
    def high_encoding(self) -> int | None:
        """The encoding that reads and writes bits 63:32 alone; None unless the width is 64."""
        return self.encoding | 1 if self.access == "full+high" else None

    @property
    def read_only(self) -> bool:
        """Whether the field holds exit information (writable only with IA32_VMX_MISC[29])."""
        return self.group == "read-only"

    def exists(self, allowed: Container[str]) -> bool:
        """Whether the field exists where `allowed` has the controls (word.NAME) that may be 1."""
        return not self.exists_if or any(control in allowed for control in self.exists_if)


@cache
def fields() -> tuple[VmcsField, ...]:
    """All VMCS fields in order of encoding."""
    return rows("vmcs_fields", "fields", VmcsField)


@cache
def _by_name() -> dict[str, VmcsField]:
    return {row.name: row for row in fields()}


@cache
def _by_encoding() -> dict[int, VmcsField]:
    index = {row.encoding: row for row in fields()}
    index |= {row.high_encoding: row for row in fields() if row.high_encoding is not None}
    return index


@cache
def _encodings() -> dict[str, int]:
    return {row.name: row.encoding for row in fields()}


def field(name_or_encoding: str | int) -> VmcsField:
    """The field with this name or encoding (also as text, "0x681e"); SpecError if there is none.

    Both encodings of a 64-bit field, full and high, find the same row.
    """
    number = number_in(name_or_encoding) if isinstance(name_or_encoding, str) else name_or_encoding
    if number is None:
        return lookup("VMCS field", _by_name(), str(name_or_encoding))
    if number not in _by_encoding():
        raise SpecError(_no_encoding(number))
    return _by_encoding()[number]


def _no_encoding(encoding: int) -> str:
    """Why `encoding` names no field, read from the encoding's own bit fields."""
    if not 0 <= encoding < 1 << 32 or encoding & ~0x6FFF:
        return f"no VMCS field has encoding {encoding:#x}: reserved bits are set"
    width = WIDTH_CODE[encoding >> 13 & 3]
    if encoding & 1 and width != "64":
        return f"no VMCS field has encoding {encoding:#x}: high access to a {width}-bit field"
    group, index = GROUP_CODE[encoding >> 10 & 3], encoding >> 1 & 0x1FF
    return f"no VMCS field has encoding {encoding:#06x} ({group}, width {width}, index {index})"


FIELDS: Names[int] = Names("VMCS field", _encodings)
"""Encodings by name: `FIELDS.GUEST_RIP == 0x681E`."""
