"""A formula computes what the text of known values says."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vtx.engine.native.formulas import OPS, Formula, formula_of

WRAP = (1 << 64) - 1
MEANING = {
    "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "and": lambda a, b: a & b,
    "or": lambda a, b: a | b, "xor": lambda a, b: a ^ b, "shl": lambda a, b: a << b,
    "shr": lambda a, b: a >> b, "eq": lambda a, b: a == b, "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b, "le": lambda a, b: a <= b, "mul": lambda a, b: a * b,
}  # fmt: skip
TEXTS = (
    ("(ip, (ip + 3) & 18446744073709551615,)", (64, 64)),
    ("(ip, (ip + 2) & 4294967295, ((f0) & 4294967295),)", (64, 64, 32)),
    ("(ip, ((f0 + 2 & 4294967295) & 18446744073709551615), ((f1 & 255) & 255),)", (64, 64, 8)),
    (
        "(ip, ((((((ip + ((f0 + 5) & 18446744073709551615)) & 18446744073709551615)"
        " + 140737488355328) & 18446744073709551615) >> 48) != 0),)",
        (64, 1),
    ),
    ("(((((f0 & 255) ^ 128) - 128) & 65535), (((ip & 255) ^ 128) < ((f1 & 255) ^ 128)),)", (16, 1)),
    ("(7, (ip & 31) << 3 & 255, (ip <= f1 & 18446744073709551615),)", (64, 8, 1)),
)


def computed(formula: Formula, ip: int, fields: tuple[int, ...]) -> list[int]:
    registers = [ip, *(field & WRAP for field in fields)]
    for op, first, second, number in formula.steps:
        operand = number if second < 0 else registers[second]
        registers.append(int(MEANING[OPS[op]](registers[first], operand)) & WRAP)
    return [registers[register] for register, _ in formula.values]


@settings(max_examples=60)
@given(
    ip=st.integers(0, WRAP), f0=st.integers(-(1 << 31), (1 << 31) - 1), f1=st.integers(-128, 127)
)
@pytest.mark.parametrize(("text", "widths"), TEXTS)
def test_steps_compute_what_the_text_says(
    text: str, widths: tuple[int, ...], ip: int, f0: int, f1: int
) -> None:
    formula = formula_of(text, widths, "<ib")
    assert formula is not None
    assert formula.fields == (4, 1)
    expected = [int(value) & WRAP for value in eval(text, {"ip": ip, "f0": f0, "f1": f1})]
    assert computed(formula, ip, (f0, f1)) == expected


@pytest.mark.parametrize("text", ["(ip >> (f0 & 3),)", "(PURE_POPCNT(64, ip) & 255,)", "(-ip,)"])
def test_what_has_no_steps_has_no_formula(text: str) -> None:
    assert formula_of(text, (64,), "<i") is None
