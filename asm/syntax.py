"""The syntax tree of operands and expressions: plain values, no meaning yet.

Nothing here knows symbols' values, sections or encodings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Number:
    value: int


@dataclass(frozen=True, slots=True)
class Name:
    """A symbol, with the relocation modifier of `name@PLT` if there was one."""

    name: str
    modifier: str = ""


@dataclass(frozen=True, slots=True)
class LocalReference:
    """`1b` or `1f`: the nearest numeric label before or after this point."""

    number: int
    forward: bool


@dataclass(frozen=True, slots=True)
class Here:
    """The location counter, `.`."""


@dataclass(frozen=True, slots=True)
class RegisterName:
    register: int


@dataclass(frozen=True, slots=True)
class Unary:
    operator: str
    operand: Expression


@dataclass(frozen=True, slots=True)
class Binary:
    operator: str
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Bracket:
    """`[inner]`, which makes the operand a memory reference."""

    inner: Expression


@dataclass(frozen=True, slots=True)
class Sized:
    """`dword ptr operand`; `size` in bytes, 0 for `near ptr` and `short`, -1 for `far ptr`."""

    size: int
    operand: Expression
    keyword: str


@dataclass(frozen=True, slots=True)
class Offset:
    """`offset operand`: the address itself, as an immediate."""

    operand: Expression


@dataclass(frozen=True, slots=True)
class Pair:
    """`left:right`, a segment override or a far pointer."""

    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Text:
    """A string argument of a directive, escapes already replaced."""

    data: bytes


Expression: TypeAlias = (
    Number | Name | LocalReference | Here | RegisterName | Unary | Binary | Bracket | Sized
    | Offset | Pair
)  # fmt: skip
Argument: TypeAlias = Expression | Text | None


@dataclass(frozen=True, slots=True)
class Operand:
    """One operand; `decorations` are the words in braces, as in `{k1}{z}`.

    A rounding operand such as `{rn-sae}` has no expression.
    """

    expression: Expression | None
    decorations: tuple[str, ...] = ()
