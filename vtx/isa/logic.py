"""Bitwise logic: AND OR XOR TEST NOT, and the VEX-encoded logic of BMI1 and BMI2.

Sources: SDM 2A/2B/2C/2D, the instruction's own page. What each leaves undefined is declared
in `vtx.isa.undefined`; this module knows no executor.
"""

from vtx.isa.builder import Value
from vtx.isa.instruction import Instruction, semantics


@semantics("AND")
def and_(i: Instruction) -> None:
    _store_logic(i, i.dst.read_for_write() & i.src.read())


@semantics("OR")
def or_(i: Instruction) -> None:
    _store_logic(i, i.dst.read_for_write() | i.src.read())


@semantics("XOR")
def xor(i: Instruction) -> None:
    _store_logic(i, i.dst.read_for_write() ^ i.src.read())


@semantics("TEST")
def test(i: Instruction) -> None:
    i.flags.logic(i.dst.read() & i.src.read())


@semantics("NOT")
def not_(i: Instruction) -> None:
    i.dst.write(~i.dst.read_for_write())


def _store_logic(i: Instruction, result: Value) -> None:
    i.dst.write(result)
    i.flags.logic(result)


# --- BMI -------------------------------------------------------------------------------------


@semantics("ANDN")
def andn(i: Instruction) -> None:
    require_vex(i)
    _store_logic(i, ~i.src.read() & i.op(2).read())


@semantics("BLSI")
def blsi(i: Instruction) -> None:
    """Isolate the lowest set bit; CF says that there is one."""
    require_vex(i)
    a = i.src.read()
    _store_logic(i, -a & a)
    i.flags.set(cf=a != 0)


@semantics("BLSMSK")
def blsmsk(i: Instruction) -> None:
    """Ones up to and including the lowest set bit."""
    require_vex(i)
    a = i.src.read()
    _store_logic(i, (a - 1) ^ a)
    i.flags.set(cf=a == 0)


@semantics("BLSR")
def blsr(i: Instruction) -> None:
    """Reset the lowest set bit."""
    require_vex(i)
    a = i.src.read()
    _store_logic(i, (a - 1) & a)
    i.flags.set(cf=a == 0)


@semantics("BEXTR")
def bextr(i: Instruction) -> None:
    """Extract a field: bits 7:0 of the third operand are its start, 15:8 its length."""
    require_vex(i)
    a, control = i.src.read(), i.op(2).read()
    start, length = control.bits(7, 0), control.bits(15, 8)
    _store_logic(i, (a >> start) & low_ones(i, length))


@semantics("BZHI")
def bzhi(i: Instruction) -> None:
    """Zero the bits from an index on; CF says that the index is past the operand."""
    require_vex(i)
    a, index = i.src.read(), i.op(2).read().bits(7, 0)
    _store_logic(i, a & low_ones(i, index))
    i.flags.set(cf=~index.ult(a.width))


def low_ones(i: Instruction, count: Value) -> Value:
    """A mask of `count` ones at the bottom; all ones from the width on."""
    return (i.const(count.width, 1) << count) - 1


def require_vex(i: Instruction) -> None:
    """VEX encodings do not exist in real-address and virtual-8086 mode."""
    if not i.key.protected or i.key.v86:
        i.undefined()
