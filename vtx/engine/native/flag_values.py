"""Lazy flags: an instruction leaves its operands, the flags are computed when someone asks.

A *kind* says what the operands are. What the flags are for each kind is computed from the
definitions in `vtx.isa.flags`; nothing is defined here.
"""

from dataclasses import dataclass
from functools import cache

from vtx.isa.builder import Builder, Value
from vtx.isa.flags import CONDITIONS, KINDS, POSITIVE_OF
from vtx.isa.layout import ARITHMETIC_FLAGS, SLOTS
from vtx.isa.primitives import Prim
from vtx.isa.program import Op

IN_SLOTS = 0
"""The kind of flags that stand in their slots; every other kind keeps them in operands."""
_SIGNATURES = {
    "add": 3, "adc": 3, "sub": 3, "sbb": 3, "logic": 1, "inc": 2, "dec": 2, "shift": 3,
}  # fmt: skip
assert set(_SIGNATURES) == set(KINDS)
KEEPS_CARRY = frozenset({"inc", "dec"})
"""Kinds that leave CF alone: their third operand is CF as it was."""
_WIDTHS = (8, 16, 32, 64)
LAZY: tuple[tuple[str, int], ...] = tuple((kind, w) for kind in _SIGNATURES for w in _WIDTHS)
"""(name of the kind, operand width); kind number n + 1 is LAZY[n]."""
KIND_NUMBERS = {entry: n + 1 for n, entry in enumerate(LAZY)}
FLAG_NAMES = tuple(ARITHMETIC_FLAGS)


def operand_widths(kind: int) -> tuple[int, ...]:
    """Widths in bits of the operands a kind keeps."""
    name, width = LAZY[kind - 1]
    if name == "shift":
        return (width, 1, 1)
    widths = (width,) * _SIGNATURES[name]
    return (*widths, 1) if name in KEEPS_CARRY else widths


@dataclass(frozen=True)
class Fragment:
    """Ops over the operands of a kind (temporaries 0, 1, ...) and where results stand."""

    ops: tuple[Op, ...]
    results: dict[str, int]


@cache
def flags_of(kind: int) -> Fragment:
    """The six flags of a lazy kind, each a temporary of width 1."""
    name, _ = LAZY[kind - 1]
    widths = operand_widths(kind)
    builder = Builder(f"flags {name}", widths)
    operands = [builder.param(n) for n in range(_SIGNATURES[name])]
    KINDS[name](builder, *operands)
    results = {}
    ops = []
    for op in builder.ops:
        if op.prim is Prim.PUT:
            results[_FLAG_OF_SLOT[op.attr]] = op.args[0]
        else:
            ops.append(op)
    if name in KEEPS_CARRY:
        results["cf"] = len(widths) - 1
    return Fragment(tuple(ops), results)


@cache
def condition_of(code: str) -> Fragment:
    """A condition over the six flags, which are temporaries in the order of FLAG_NAMES."""
    builder = _FlagReader()
    positive = POSITIVE_OF.get(code)
    value = ~CONDITIONS[positive](builder) if positive else CONDITIONS[code](builder)
    return Fragment(tuple(builder.ops), {"": value.temp})


class _FlagReader(Builder):
    """A builder whose flags are its parameters."""

    def __init__(self) -> None:
        super().__init__("condition", (1,) * len(FLAG_NAMES))

    def get(self, slot: str, width: int = 64) -> Value:
        return self.param(FLAG_NAMES.index(slot))


_FLAG_OF_SLOT = {SLOTS[name]: name for name in FLAG_NAMES}
