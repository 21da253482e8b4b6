"""Shifts and rotates: SHL SHR SAR ROL ROR RCL RCR SHLD SHRD, and SHLX SHRX SARX RORX.

Counts are masked to 5 bits (6 for 64-bit operands); a masked count of zero leaves every flag.
Sources: SDM 2B/2C, the instruction's own page. What each leaves undefined is declared in
`vtx.isa.undefined`; this module knows no executor.
"""

from collections.abc import Callable

from vtx.isa.builder import Value
from vtx.isa.instruction import Instruction, semantics
from vtx.isa.logic import require_vex
from vtx.isa.primitives import Prim


@semantics("SHL", "SAL")
def shl(i: Instruction) -> None:
    a, count = i.dst.read_for_write(), masked_count(i, 1)
    result = a << count
    i.dst.write(result)
    carry = last_out_left(a, count)
    when_counted(i, count, lambda: i.flags.shift(result, carry, result.msb() ^ carry))


@semantics("SHR")
def shr(i: Instruction) -> None:
    a, count = i.dst.read_for_write(), masked_count(i, 1)
    result = a >> count
    i.dst.write(result)
    carry = last_out_right(a, count)
    when_counted(i, count, lambda: i.flags.shift(result, carry, a.msb()))


@semantics("SAR")
def sar(i: Instruction) -> None:
    a, count = i.dst.read_for_write(), masked_count(i, 1)
    result = a.sar(count)
    i.dst.write(result)
    carry = a.sar(count - 1).bit(0)
    when_counted(i, count, lambda: i.flags.shift(result, carry, i.const(1, 0)))


@semantics("SHLD")
def shld(i: Instruction) -> None:
    """Shift left, filling from the top of the second operand."""
    a, b, count = i.dst.read_for_write(), i.src.read(), masked_count(i, 2)
    result = (a << count) | (b >> (-count + a.width))
    i.dst.write(result)
    carry = last_out_left(a, count)
    when_counted(i, count, lambda: i.flags.shift(result, carry, result.msb() ^ a.msb()))


@semantics("SHRD")
def shrd(i: Instruction) -> None:
    """Shift right, filling from the bottom of the second operand."""
    a, b, count = i.dst.read_for_write(), i.src.read(), masked_count(i, 2)
    result = (a >> count) | (b << (-count + a.width))
    i.dst.write(result)
    carry = last_out_right(a, count)
    when_counted(i, count, lambda: i.flags.shift(result, carry, result.msb() ^ a.msb()))


# --- rotates ---------------------------------------------------------------------------------


@semantics("ROL")
def rol(i: Instruction) -> None:
    a, count = i.dst.read_for_write(), masked_count(i, 1)
    result = a.rol(count)
    i.dst.write(result)
    carry = result.bit(0)
    when_counted(i, count, lambda: i.flags.set(cf=carry, of=result.msb() ^ carry))


@semantics("ROR")
def ror(i: Instruction) -> None:
    a, count = i.dst.read_for_write(), masked_count(i, 1)
    result = a.ror(count)
    i.dst.write(result)
    carry, below = result.msb(), result.bit(a.width - 2)
    when_counted(i, count, lambda: i.flags.set(cf=carry, of=carry ^ below))


@semantics("RCL")
def rcl(i: Instruction) -> None:
    """Rotate left through CF: a rotation of width + 1 bits."""
    a, count, carry_in = i.dst.read_for_write(), _count_through_carry(i), i.flags.get("cf")
    carried = carry_in.zext(a.width) << (count - 1)
    result = (a << count) | carried | (a >> (-count + (a.width + 1)))
    i.dst.write(result)
    carry = last_out_left(a, count)
    when_counted(i, count, lambda: i.flags.set(cf=carry, of=result.msb() ^ carry))


@semantics("RCR")
def rcr(i: Instruction) -> None:
    """Rotate right through CF."""
    a, count, carry_in = i.dst.read_for_write(), _count_through_carry(i), i.flags.get("cf")
    carried = carry_in.zext(a.width) << (-count + a.width)
    result = (a >> count) | carried | (a << (-count + (a.width + 1)))
    i.dst.write(result)
    carry = last_out_right(a, count)
    overflow = result.msb() ^ result.bit(a.width - 2)
    when_counted(i, count, lambda: i.flags.set(cf=carry, of=overflow))


# --- BMI2: no flags --------------------------------------------------------------------------


@semantics("SHLX")
def shlx(i: Instruction) -> None:
    require_vex(i)
    i.dst.write(i.src.read() << masked_count(i, 2))


@semantics("SHRX")
def shrx(i: Instruction) -> None:
    require_vex(i)
    i.dst.write(i.src.read() >> masked_count(i, 2))


@semantics("SARX")
def sarx(i: Instruction) -> None:
    require_vex(i)
    i.dst.write(i.src.read().sar(masked_count(i, 2)))


@semantics("RORX")
def rorx(i: Instruction) -> None:
    require_vex(i)
    i.dst.write(i.src.read().ror(masked_count(i, 2)))


# --- counts ----------------------------------------------------------------------------------


def masked_count(i: Instruction, index: int) -> Value:
    """Operand `index` as a shift count, as wide as the destination."""
    width = i.dst.width
    return i.op(index).read().to(width) & (63 if width == 64 else 31)


def _count_through_carry(i: Instruction) -> Value:
    """The count of RCL and RCR: taken modulo width + 1 where it can reach that far."""
    count, width = masked_count(i, 1), i.dst.width
    if width > 16:
        return count
    return i.divide(Prim.UREM, i.const(width, 0), count, i.const(width, width + 1))


def when_counted(i: Instruction, count: Value, write_flags: Callable[[], None]) -> None:
    """Write the flags unless the count is zero; a constant count needs no test."""
    if count.const is None:
        with i.if_(count != 0):
            write_flags()
    elif count.const:
        write_flags()


def last_out_left(a: Value, count: Value) -> Value:
    """The bit that a left shift by `count` (not 0) moves out last."""
    return (a << (count - 1)).msb()


def last_out_right(a: Value, count: Value) -> Value:
    return (a >> (count - 1)).bit(0)
