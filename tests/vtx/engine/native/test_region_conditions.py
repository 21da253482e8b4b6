"""Short conditions and derived operands say what the definitions of the flags say."""

import random
import re
from collections.abc import Callable

import pytest

from vtx.engine.native.flag_values import (
    FLAG_NAMES,
    KEEPS_CARRY,
    LAZY,
    condition_of,
    flags_of,
    operand_widths,
)
from vtx.engine.native.region_conditions import DERIVED, comparison, derivation
from vtx.isa.flags import CONDITIONS, POSITIVE_OF
from vtx.isa.primitives import Prim, apply
from vtx.isa.program import Op

CODES = (*CONDITIONS, *POSITIVE_OF)
RELATIONS: dict[str, Callable[[int, int, int], bool]] = {
    "eq": lambda a, b, w: a == b, "ne": lambda a, b, w: a != b,
    "ult": lambda a, b, w: a < b, "ule": lambda a, b, w: a <= b,
    "ugt": lambda a, b, w: a > b, "uge": lambda a, b, w: a >= b,
    "slt": lambda a, b, w: signed(a, w) < signed(b, w),
    "sle": lambda a, b, w: signed(a, w) <= signed(b, w),
    "sgt": lambda a, b, w: signed(a, w) > signed(b, w),
    "sge": lambda a, b, w: signed(a, w) >= signed(b, w),
}  # fmt: skip


def signed(value: int, width: int) -> int:
    return value - (1 << width) if value >> width - 1 else value


def run(ops: tuple[Op, ...], values: dict[int, int]) -> dict[int, int]:
    for op in ops:
        if op.prim is Prim.CONST:
            values[op.dst[0]] = op.attr
        else:
            arguments = [values[temp] for temp in op.args]
            values[op.dst[0]] = apply(op.prim, op.width, op.operand_width or op.width, *arguments)
    return values


def operands_like(kind: int, rng: random.Random) -> list[int]:
    """Operands that an instruction of this kind could leave."""
    name, width = LAZY[kind - 1]
    mask = (1 << width) - 1
    edges = (0, 1, mask, mask >> 1, (mask >> 1) + 1, (mask >> 1) + 2, mask - 1)
    x, y = (rng.choice((*edges, rng.getrandbits(width))) for _ in range(2))
    carry = rng.getrandbits(1)
    match name:
        case "add" | "adc":
            return [x, y, x + y + (carry if name == "adc" else 0) & mask]
        case "sub" | "sbb":
            return [x, y, x - y - (carry if name == "sbb" else 0) & mask]
        case "inc" | "dec":
            return [x, x + (1 if name == "inc" else -1) & mask, carry]
        case "logic":
            return [x]
    return [x, carry, rng.getrandbits(1)]


@pytest.mark.parametrize("kind", range(1, len(LAZY) + 1))
def test_a_short_condition_is_the_condition(kind: int) -> None:
    rng = random.Random(kind)
    _, width = LAZY[kind - 1]
    found = 0
    for _ in range(60):
        operands = operands_like(kind, rng)
        fragment = flags_of(kind)
        values = run(fragment.ops, dict(enumerate(operands)))
        flags = [values[fragment.results[name]] for name in FLAG_NAMES]
        for code in CODES:
            if LAZY[kind - 1][0] in KEEPS_CARRY and code in ("b", "ae", "be", "a"):
                continue  # CF stands by itself: nobody asks for these
            text = comparison(code, kind, lambda n, known=operands: str(known[n]))  # type: ignore[misc]
            if text is None:
                continue
            condition = condition_of(code)
            expected = run(condition.ops, dict(enumerate(flags)))[condition.results[""]]
            match = re.fullmatch(r"icmp (\w+) i(\d+) (-?\d+), (-?\d+)", text)
            assert match is not None and int(match[2]) == width, text
            a, b = (int(match[n]) & (1 << width) - 1 for n in (3, 4))
            assert RELATIONS[match[1]](a, b, width) == bool(expected), (code, operands, text)
            found += 1
    assert found


@pytest.mark.parametrize("kind", [n + 1 for n, (name, _) in enumerate(LAZY) if name in DERIVED])
def test_a_derived_operand_is_what_was_left_out(kind: int) -> None:
    rng = random.Random(kind)
    name, width = LAZY[kind - 1]
    left_out = DERIVED[name]
    assert left_out < len(operand_widths(kind))
    for _ in range(30):
        operands = operands_like(kind, rng)

        def operand(n: int, known: list[int] = operands) -> str:
            assert n != left_out
            return str(known[n])

        match = re.fullmatch(r"(sub|add) i(\d+) (\d+), (\d+)", derivation(kind, operand))
        assert match is not None and int(match[2]) == width
        a, b = int(match[3]), int(match[4])
        result = (a - b if match[1] == "sub" else a + b) & (1 << width) - 1
        assert result == operands[left_out]
