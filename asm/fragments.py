"""Sections, fragments and symbols: the assembled program before addresses are known.

A section is a list of fragments; a fragment is fixed bytes followed by at most one tail whose
size is decided by layout. Knows nothing of syntax or of ELF.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from asm.source import SourceLine, Statement

if TYPE_CHECKING:
    from asm.expressions import Value


@dataclass(slots=True, eq=False)
class Symbol:
    """A label (fragment and offset), an equated value, or neither yet (undefined)."""

    name: str
    fragment: Fragment | None = None
    offset: int = 0
    value: Value | None = None
    is_global: bool = False
    is_weak: bool = False
    hidden: bool = False
    internal: bool = False  # numeric local labels and `.`: never in a symbol table
    kind: str = ""  # function, object, tls_object, notype, common
    size: Value | None = None
    common_alignment: int = 0
    first_use: Statement | None = None
    definition: Statement | None = None
    redefinable: bool = False

    @property
    def section(self) -> Section | None:
        return self.fragment.section if self.fragment else None

    @property
    def is_defined(self) -> bool:
        return self.fragment is not None or self.value is not None

    @property
    def preemptible(self) -> bool:
        """A reference keeps its relocation: the linker decides what the name means."""
        return self.is_global or self.is_weak or not self.is_defined


@dataclass(slots=True)
class Fixup:
    """Bytes to fill in once addresses are known: `size` bytes at `offset` in a fragment.

    A PC-relative value is measured from the field's own address plus `pc_bias` (the distance
    from the field to the next instruction). `signed` limits absolute values to the signed
    range; `branch` marks call and jump targets in 64-bit code,
    `can_grow` jumps that started short.
    """

    offset: int
    size: int
    value: Value
    statement: Statement
    pc_relative: bool = False
    pc_bias: int = 0
    signed: bool = False
    branch: bool = False
    can_grow: bool = False


@dataclass(slots=True)
class Branch:
    """A jump that starts short (`short` ends in a displacement byte) and may grow to `near`."""

    short: bytes
    near: bytes
    near_width: int
    is_64_bit: bool
    target: Value
    statement: Statement
    grown: bool = False

    @property
    def encoding(self) -> bytes:
        return self.near if self.grown else self.short

    @property
    def width(self) -> int:
        return self.near_width if self.grown else 1


@dataclass(slots=True)
class Align:
    """Padding up to a multiple of `alignment`; code padding uses no-operations of `mode`."""

    alignment: int
    fill: bytes | None
    limit: int
    mode: int
    statement: Statement


@dataclass(slots=True)
class Origin:
    """Padding up to a section offset."""

    target: Value
    fill: int
    statement: Statement


@dataclass(slots=True)
class Fill:
    """`count` copies of `pattern`; the count may depend on layout."""

    count: Value
    pattern: bytes
    statement: Statement


@dataclass(slots=True)
class Leb128:
    """A LEB128 number whose value depends on layout."""

    value: Value
    signed: bool
    statement: Statement


Tail = Branch | Align | Origin | Fill | Leb128


@dataclass(slots=True, eq=False)
class Fragment:
    section: Section
    index: int
    data: bytearray = field(default_factory=bytearray)
    fixups: list[Fixup] = field(default_factory=list)
    tail: Tail | None = None
    start: int = 0
    tail_size: int = 0


@dataclass(slots=True)
class Mark:
    """A source line that put something at this place of a section."""

    line: SourceLine
    fragment: Fragment
    offset: int
    is_code: bool

    @property
    def position(self) -> int:
        return self.fragment.start + self.offset


@dataclass(slots=True, eq=False)
class Section:
    """A section; `flags` are GNU as's letters, `kind` is progbits, nobits, note or an array."""

    name: str
    flags: str
    kind: str = "progbits"
    entry_size: int = 0
    alignment: int = 1
    subsections: dict[int, list[Fragment]] = field(default_factory=dict)
    marks: list[Mark] = field(default_factory=list)
    address: int = 0
    size: int = 0
    image: bytes = b""
    symbol: Symbol = field(init=False)

    def __post_init__(self) -> None:
        self.symbol = Symbol(self.name, fragment=self.open_subsection(0)[0], kind="section")

    @property
    def is_code(self) -> bool:
        return "x" in self.flags

    @property
    def is_nobits(self) -> bool:
        return self.kind == "nobits"

    @property
    def allocated(self) -> bool:
        return "a" in self.flags

    def open_subsection(self, number: int) -> list[Fragment]:
        """The fragments of a numbered subsection, created on first use."""
        fragments = self.subsections.get(number)
        if fragments is None:
            fragments = self.subsections[number] = [Fragment(self, 0)]
        return fragments

    @property
    def fragments(self) -> list[Fragment]:
        """All fragments in layout order (subsections by number)."""
        return [f for _, group in sorted(self.subsections.items()) for f in group]
