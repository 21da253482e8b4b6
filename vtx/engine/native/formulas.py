"""How the known values of an instruction are computed, as steps that native code can take.

The text of the values (see `forms`) is over the instruction's place and the numbers in its
bytes. A formula is the same without Python: steps over numbered registers of 64 bits. Register
0 is the place, then come the numbers, sign-extended, then the result of each step.
"""

import ast
from typing import Any, NamedTuple

_WRAP = (1 << 64) - 1
_MOST_STEPS = 40
_MOST_VALUES = 14
"""For what `ahead` has room."""

OPS = ("add", "sub", "and", "or", "xor", "shl", "shr", "eq", "ne", "lt", "le", "mul")
"""A step's operation is an index into this; of numbers without sign."""
WIDE, BIT = 1, 2
"""Kinds of values: of 64 bits, which need a wide hole or not; of one bit, which is part of the
form."""


class Formula(NamedTuple):
    """Plain tuples, fit for a cache."""

    fields: tuple[int, ...]
    """Sizes of the numbers in the instruction's bytes, which are its last ones."""
    steps: tuple[tuple[int, int, int, int], ...]
    """(operation, register, second register or -1, the number instead of it)"""
    values: tuple[tuple[int, int], ...]
    """(register, kind)"""


class _BeyondError(Exception):
    """The values need something that has no steps."""


def formula_of(values: str, widths: tuple[int, ...], fields: str) -> Formula | None:
    """The steps that compute `values`; None where they cannot."""
    sizes = tuple({"b": 1, "h": 2, "i": 4, "q": 8}[code] for code in fields[1:])
    tree = ast.parse(values, mode="eval").body
    assert isinstance(tree, ast.Tuple), "the text is that of a tuple"
    steps = _Steps(1 + len(sizes))
    try:
        registers = [steps.register(one) for one in tree.elts]
    except _BeyondError:
        return None
    if len(steps.steps) > _MOST_STEPS or len(registers) > _MOST_VALUES or len(sizes) > 4:
        return None
    kinds = [WIDE if width == 64 else BIT if width == 1 else 0 for width in widths]
    return Formula(sizes, tuple(steps.steps), tuple(zip(registers, kinds, strict=True)))


_BINARY: dict[type[ast.operator], str] = {
    ast.Add: "add", ast.Sub: "sub", ast.BitAnd: "and", ast.BitOr: "or", ast.BitXor: "xor",
    ast.LShift: "shl", ast.RShift: "shr", ast.Mult: "mul",
}  # fmt: skip
_COMPARE: dict[type[ast.cmpop], str] = {
    ast.Eq: "eq", ast.NotEq: "ne", ast.Lt: "lt", ast.LtE: "le",
}  # fmt: skip


class _Steps:
    """Steps while they are collected; equal ones are taken once."""

    def __init__(self, first: int) -> None:
        self.steps: list[tuple[int, int, int, int]] = []
        self._first = first
        self._known: dict[tuple[int, int, int, int], int] = {}

    def register(self, node: ast.expr) -> int:
        """The register that will hold the value."""
        found = self._operand(node)
        if isinstance(found, int):
            return found
        return self._step("or", self._step("xor", 0, 0, 0), -1, found[0])

    def _operand(self, node: ast.expr) -> int | tuple[int]:
        """A register, or a number."""
        match node:
            case ast.Constant(value=int() as number):
                return (int(number) & _WRAP,)
            case ast.Name(id="ip"):
                return 0
            case ast.Name(id=name) if name[0] == "f" and name[1:].isdigit():
                return 1 + int(name[1:])
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
                return self._binary(_BINARY[type(op)], left, right)
            case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARE:
                return self._binary(_COMPARE[type(op)], left, right)
        raise _BeyondError

    def _binary(self, op: str, left: ast.expr, right: ast.expr) -> int:
        a, b = self.register(left), self._operand(right)
        if not isinstance(b, int):
            (number,) = b
            if op == "and" and number == _WRAP:
                return a  # what registers hold is that already
            return self._step(op, a, -1, number)
        if op in ("shl", "shr"):
            raise _BeyondError  # by 64 or more it means something else
        return self._step(op, a, b, 0)

    def _step(self, *step: Any) -> int:
        one = (OPS.index(step[0]), *step[1:])
        known = self._known.get(one)
        if known is None:
            known = self._known[one] = self._first + len(self.steps)
            self.steps.append(one)
        return known
