"""A condition straight from the operands of a flag kind, without computing flags.

`cmp` and `jl` become one comparison. Every line here follows from `vtx.isa.flags`; what is not
listed is left to the general way, which computes the flags. It knows no text but LLVM's.
"""

from collections.abc import Callable

from vtx.engine.native.flag_values import LAZY
from vtx.isa.flags import POSITIVE_OF

_SUB = {"e": "eq", "b": "ult", "be": "ule", "l": "slt", "le": "sle"}
"""After x - y the condition compares x with y."""
_LOGIC = {"e": "eq", "be": "eq", "l": "slt", "le": "sle", "s": "slt"}
"""After a logical operation, whose CF and OF are 0, it compares the result with 0."""
_LESS_THAN = {"inc": {"l": -1, "le": -1}, "dec": {"l": 1, "le": 1}}
"""x + 1 < 0 without overflow is x < -1, and x - 1 < 0 is x < 1: the number to compare x with."""
_RESULT = {"add": 2, "adc": 2, "sub": 2, "sbb": 2, "logic": 0, "inc": 1, "dec": 1, "shift": 0}
"""Which operand of a kind is the result."""
_NEGATED = {"eq": "ne", "ult": "uge", "ule": "ugt", "slt": "sge", "sle": "sgt"}


Operand = Callable[[int], str]
"""Gives the text of an operand of the kind, by its number."""


def comparison(code: str, kind: int, operand: Operand) -> str | None:
    """The LLVM instruction (an i1) that is condition `code`, or None if there is no short one."""
    name, width = LAZY[kind - 1]
    positive = POSITIVE_OF.get(code, code)
    found = _positive(positive, name, operand)
    if found is None:
        return None
    relation, a, b = found
    if positive != code:
        relation = _NEGATED[relation]
    return f"icmp {relation} i{width} {a}, {b}"


def _positive(code: str, name: str, operand: Operand) -> tuple[str, str, str] | None:
    result = _RESULT[name]
    if name == "sub" and code in _SUB:
        return _SUB[code], operand(0), operand(1)
    if name == "logic":
        relation = _LOGIC.get(code)
        return None if relation is None else (relation, operand(result), "0")
    if name == "add" and code == "b":
        return "ult", operand(result), operand(1)
    if name in _LESS_THAN and code in ("l", "le"):
        return _SUB[code], operand(0), str(_LESS_THAN[name][code])
    if code == "e":
        return "eq", operand(result), "0"
    if code == "s":
        return "slt", operand(result), "0"
    return None


DERIVED = {"sub": 2, "add": 0, "inc": 0, "dec": 0}
"""Kind -> the operand that follows from the others. It is computed where it is asked for, mostly
on a cold way out, and takes no register until then."""


def derivation(kind: int, operand: Operand) -> str:
    """The LLVM instruction that is the derived operand, from the others."""
    name, width = LAZY[kind - 1]
    if name == "sub":
        return f"sub i{width} {operand(0)}, {operand(1)}"
    if name == "add":
        return f"sub i{width} {operand(2)}, {operand(1)}"
    return f"{'sub' if name == 'inc' else 'add'} i{width} {operand(1)}, 1"
