"""Which bits of its values a program can notice: a backward pass over its ops.

What is found may be too much, never too little. It does not know what the values mean.
"""

from collections.abc import Sequence

from vtx.isa.primitives import COMPARISONS, Prim
from vtx.isa.program import Op

_SAME_BITS = frozenset({Prim.OR, Prim.XOR, Prim.TRUNC, Prim.ZEXT})
"""A bit of the result follows from the same bit of the operands alone."""


def demanded_bits(ops: Sequence[Op]) -> dict[int, int]:
    """Temporary -> the bits of it that anything but pure ops may depend on; absent: none."""
    demanded: dict[int, int] = {}
    numbers = {op.dst[0]: op.attr for op in ops if op.prim is Prim.CONST}
    for op in reversed(ops):
        wanted = demanded.get(op.dst[0], 0) & (1 << op.width) - 1 if op.dst else 0
        for position, temp in enumerate(op.args):
            bits = _of_argument(op, position, wanted, numbers)
            demanded[temp] = demanded.get(temp, 0) | bits
    return demanded


def _of_argument(op: Op, position: int, wanted: int, numbers: dict[int, int]) -> int:
    """The bits of an argument that matter where `wanted` bits of the result do."""
    every = (1 << 64) - 1
    if op.prim in _SAME_BITS:
        return wanted
    if op.prim is Prim.AND:
        other = numbers.get(op.args[1 - position], every)
        return wanted & other
    if op.prim is Prim.SHR and position == 0 and op.args[1] in numbers:
        count = numbers[op.args[1]]
        return wanted << count & every if count < 64 else 0
    if op.prim is Prim.SELECT:
        return int(wanted != 0) if position == 0 else wanted
    if op.prim in COMPARISONS:
        return every if wanted else 0
    return every
