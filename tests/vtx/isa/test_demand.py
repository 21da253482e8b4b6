"""Which bits of values a program can notice."""

from vtx.isa.builder import Builder, Value
from vtx.isa.demand import demanded_bits


def _demanded(b: Builder, value: Value, result: Value) -> int:
    b.return_(result)
    return demanded_bits(b.ops).get(value.temp, 0)


def test_one_bit_that_is_taken_out() -> None:
    b = Builder("one")
    value = b.get("rflags")
    assert _demanded(b, value, value.bit(17)) == 1 << 17


def test_a_mask_and_both_sides_of_a_choice() -> None:
    b = Builder("choice")
    value = b.get("rflags")
    result = (value & 0xF0).trunc(8) == b.get("rax", 8)
    chosen = result.select(value.trunc(8), value.bits(15, 8).trunc(8))
    assert _demanded(b, value, chosen) & ~0xFF == 0xFF00


def test_a_comparison_looks_at_everything() -> None:
    b = Builder("compare")
    value = b.get("rip")
    assert _demanded(b, value, value == 5) == (1 << 64) - 1


def test_what_only_moves_down_is_not_looked_at_below() -> None:
    b = Builder("shift")
    value = b.get("rip")
    assert _demanded(b, value, value >> 32) == 0xFFFF_FFFF << 32


def test_a_value_that_goes_nowhere() -> None:
    b = Builder("dead")
    value = b.get("rip")
    _ = value + 1
    assert _demanded(b, value, b.const(64, 0)) in (0, (1 << 64) - 1)
