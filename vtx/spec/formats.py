"""Layouts of VMX values and areas by name, exit qualifications by reason, EPT entry bits.

Must not know how a value comes about; it only takes one apart.
"""

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from vtx.spec.exits import exit_reason
from vtx.spec.layouts import Bits, decode, in_words
from vtx.spec.tables import lookup, read_table, rows, typed


@dataclass(frozen=True, slots=True)
class Layout:
    """A value's bit layout. For an exit qualification, `exits` are the basic reasons that use it.

    `vector` tells apart qualifications of EXCEPTION_OR_NMI.
    """

    name: str
    title: str
    see: str
    bits: tuple[Bits, ...]
    exits: tuple[int, ...] = ()
    vector: int | None = None

    def decode(self, value: int) -> dict[str, int]:
        """The setting of every range in `value`."""
        return decode(self.bits, value)

    def in_words(self, value: int) -> str:
        """`value` in words, ranges separated by commas."""
        return in_words(self.bits, value)


@dataclass(frozen=True, slots=True)
class AreaPart:
    """A part of a structure in memory: `size` bytes at `offset`; size None: to its end."""

    structure: str
    offset: int
    meaning: str
    size: int | None = None


@dataclass(frozen=True, slots=True)
class EptBits:
    """Bits of an EPT entry of the kinds in `where`, or of the EPTP; `failure` when set wrongly.

    from_maxphyaddr: the range begins at the CPU's MAXPHYADDR instead of at `lo`.
    """

    where: tuple[str, ...]
    lo: int
    hi: int
    name: str
    meaning: str
    failure: str = ""
    from_maxphyaddr: bool = False

    def mask(self, maxphyaddr: int) -> int:
        """The range as a mask, on a CPU with `maxphyaddr` physical-address bits."""
        lo = maxphyaddr if self.from_maxphyaddr else self.lo
        return ((1 << max(self.hi + 1 - lo, 0)) - 1) << lo


def _layouts(table: str, key: str) -> tuple[Layout, ...]:
    """Layout rows with their shared lists of setting names filled in."""
    shared: dict[str, dict[str, str]] = read_table("vmx_formats")["values"]
    raw: list[dict[str, Any]] = read_table(table)[key]
    return tuple(
        _resolved(typed(row, Layout, f"{table}.toml, {row.get('name')}"), shared) for row in raw
    )


def _resolved(layout: Layout, shared: dict[str, dict[str, str]]) -> Layout:
    bits = (
        replace(part, values=shared[part.values_of]) if part.values_of else part
        for part in layout.bits
    )
    return replace(layout, bits=tuple(bits))


@cache
def layouts() -> tuple[Layout, ...]:
    """All bit layouts but exit qualifications."""
    return _layouts("vmx_formats", "layouts")


@cache
def _by_name() -> dict[str, Layout]:
    return {row.name: row for row in layouts()}


def layout(name: str) -> Layout:
    """The layout called `name`, e.g. "idt-vectoring" or "vmread"; SpecError if there is none."""
    return lookup("layout", _by_name(), name)


@cache
def qualifications() -> tuple[Layout, ...]:
    """All exit-qualification layouts."""
    return _layouts("exit_qualifications", "qualifications")


@cache
def _by_reason() -> dict[tuple[int, int | None], Layout]:
    return {(number, row.vector): row for row in qualifications() for number in row.exits}


def qualification(reason: str | int, vector: int | None = None) -> Layout | None:
    """The qualification layout of an exit reason; None where the qualification says nothing.

    `vector` is the exception's, for EXCEPTION_OR_NMI. SpecError for an unknown reason.
    """
    number = exit_reason(reason).number
    return _by_reason().get((number, vector if number == 0 else None))


def decode_qualification(
    reason: str | int, value: int, vector: int | None = None
) -> dict[str, int]:
    """The exit qualification `value` taken apart; {} where the reason defines none."""
    found = qualification(reason, vector)
    return found.decode(value) if found else {}


def format_qualification(reason: str | int, value: int, vector: int | None = None) -> str:
    """The exit qualification in words ("write, readable, gva valid"); "" where there is none."""
    found = qualification(reason, vector)
    return found.in_words(value) if found else ""


def decode_layout(name: str, value: int) -> dict[str, int]:
    """`value` taken apart along the layout called `name`; SpecError if there is none."""
    return layout(name).decode(value)


def format_layout(name: str, value: int) -> str:
    """`value` in words along the layout called `name`; SpecError if there is none."""
    return layout(name).in_words(value)


def decode_instruction_info(reason: str | int, value: int) -> dict[str, int]:
    """EXIT_INSTRUCTION_INFO taken apart; {} where the exit reason leaves it undefined."""
    name = exit_reason(reason).info_layout
    return decode_layout(name, value) if name else {}


def format_instruction_info(reason: str | int, value: int) -> str:
    """EXIT_INSTRUCTION_INFO in words; "" where the exit reason leaves it undefined."""
    name = exit_reason(reason).info_layout
    return format_layout(name, value) if name else ""


@cache
def area_parts(structure: str | None = None) -> tuple[AreaPart, ...]:
    """The parts of one memory structure ("msr-bitmap"), or of all."""
    parts = rows("vmx_formats", "areas", AreaPart)
    return tuple(part for part in parts if structure in (None, part.structure))


@cache
def ept_bits(where: str | None = None) -> tuple[EptBits, ...]:
    """The bits of one kind of EPT entry ("pte", "pde-page", "eptp"), or of all kinds."""
    return tuple(
        row for row in rows("ept_bits", "bits", EptBits) if where is None or where in row.where
    )
