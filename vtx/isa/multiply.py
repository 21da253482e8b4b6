"""Multiplication, division and decimal adjustment.

MUL IMUL MULX DIV IDIV ADCX ADOX; AAA AAS AAD AAM DAA DAS. Sources: SDM 2A/2B/2C, the
instruction's own page. What each leaves undefined is declared in `vtx.isa.undefined`.
"""

from vtx.isa.builder import Value
from vtx.isa.instruction import DE, Instruction, semantics
from vtx.isa.logic import require_vex
from vtx.isa.primitives import Prim


@semantics("MUL")
def mul(i: Instruction) -> None:
    a, b = i.get("rax", i.dst.width), i.dst.read()
    high = i.pure(Prim.UMULH, a.width, a, b)
    _write_pair(i, high, a * b)
    overflow = high != 0
    i.flags.set(cf=overflow, of=overflow)


@semantics("IMUL")
def imul(i: Instruction) -> None:
    """One operand: the whole product; two or three: its low half."""
    if i.decoded.op_count == 1:
        a, b = i.get("rax", i.dst.width), i.dst.read()
    elif i.decoded.op_count == 2:
        a, b = i.dst.read(), i.src.read()
    else:
        a, b = i.src.read(), i.op(2).read()
    high, low = i.pure(Prim.SMULH, a.width, a, b), a * b
    if i.decoded.op_count == 1:
        _write_pair(i, high, low)
    else:
        i.dst.write(low)
    overflow = high != low.sar(a.width - 1)
    i.flags.set(cf=overflow, of=overflow)


@semantics("MULX")
def mulx(i: Instruction) -> None:
    """RDX times the third operand, without flags; the high half wins a shared destination."""
    require_vex(i)
    b = i.op(2).read()
    a = i.get("rdx", b.width)
    high, low = i.pure(Prim.UMULH, a.width, a, b), a * b
    i.src.write(low)
    i.dst.write(high)


@semantics("DIV")
def div(i: Instruction) -> None:
    _divide(i, Prim.UDIVFITS, Prim.UDIV, Prim.UREM)


@semantics("IDIV")
def idiv(i: Instruction) -> None:
    _divide(i, Prim.SDIVFITS, Prim.SDIV, Prim.SREM)


def _divide(i: Instruction, fits: Prim, quotient: Prim, remainder: Prim) -> None:
    """Divide the double-width accumulator; #DE where the quotient does not fit."""
    divisor = i.dst.read()
    high, low = _read_pair(i, divisor.width)
    i.fault_if(~i.divide(fits, high, low, divisor), DE)
    whole = i.divide(quotient, high, low, divisor)
    rest = i.divide(remainder, high, low, divisor)
    _write_pair(i, rest, whole)


def _read_pair(i: Instruction, width: int) -> tuple[Value, Value]:
    """High and low half of the double-width accumulator: AH:AL, DX:AX and so on."""
    if width == 8:
        return (i.get("rax", 16) >> 8).trunc(8), i.get("rax", 8)
    return i.get("rdx", width), i.get("rax", width)


def _write_pair(i: Instruction, high: Value, low: Value) -> None:
    if low.width == 8:
        i.write_gpr("rax", (high.zext(16) << 8) | low.zext(16))
    else:
        i.write_gpr("rax", low)
        i.write_gpr("rdx", high)


# --- ADX: two independent carry chains -------------------------------------------------------


@semantics("ADCX")
def adcx(i: Instruction) -> None:
    i.flags.set(cf=_add_with(i, i.flags.get("cf")))


@semantics("ADOX")
def adox(i: Instruction) -> None:
    i.flags.set(of=_add_with(i, i.flags.get("of")))


def _add_with(i: Instruction, carry: Value) -> Value:
    """Destination += source + carry; the carry out."""
    a, b = i.dst.read(), i.src.read()
    result = a + b + carry.zext(a.width)
    i.dst.write(result)
    return ((a & b) | ((a | b) & ~result)).msb()


# --- unpacked decimal ------------------------------------------------------------------------


@semantics("AAA")
def aaa(i: Instruction) -> None:
    _adjust_unpacked(i, 0x106)


@semantics("AAS")
def aas(i: Instruction) -> None:
    _adjust_unpacked(i, -0x106)


def _adjust_unpacked(i: Instruction, correction: int) -> None:
    """Carry a decimal digit between AL and AH."""
    ax = i.get("rax", 16)
    adjust = _digit_overflows(i, ax)
    corrected = adjust.select(ax + correction, ax) & 0xFF0F
    i.write_gpr("rax", corrected)
    _put_result_flags(i, corrected.trunc(8))
    i.flags.set(cf=adjust, af=adjust)


def _digit_overflows(i: Instruction, accumulator: Value) -> Value:
    """The low digit is above 9 or was carried out of (AF)."""
    return ~(accumulator & 0xF).ult(10) | i.flags.get("af")


def _put_result_flags(i: Instruction, result: Value) -> None:
    """SF, ZF and PF from the result; the caller sets what else it defines."""
    i.flags.logic(result)


@semantics("AAM")
def aam(i: Instruction) -> None:
    """AH = AL / base, AL = AL % base."""
    base, zero = i.op(0, 8).read(), i.const(8, 0)
    if base.const == 0:
        i.fault(DE)
        return
    al = i.get("rax", 8)
    digits = i.divide(Prim.UDIV, zero, al, base)
    rest = i.divide(Prim.UREM, zero, al, base)
    _write_pair(i, digits, rest)
    _put_result_flags(i, rest)


@semantics("AAD")
def aad(i: Instruction) -> None:
    """AL = AL + AH * base, AH = 0."""
    high, low = _read_pair(i, 8)
    result = low + high * i.op(0, 8).read()
    i.write_gpr("rax", result.zext(16))
    _put_result_flags(i, result)


# --- packed decimal --------------------------------------------------------------------------


@semantics("DAA")
def daa(i: Instruction) -> None:
    _adjust_packed(i, 1)


@semantics("DAS")
def das(i: Instruction) -> None:
    _adjust_packed(i, -1)


def _adjust_packed(i: Instruction, sign: int) -> None:
    """Correct both decimal digits of AL after an addition or subtraction."""
    al, carry = i.get("rax", 8), i.flags.get("cf")
    low = _digit_overflows(i, al)
    high = ~al.ult(0x9A) | carry
    first = low.select(al + 6 * sign, al)
    result = high.select(first + 0x60 * sign, first)
    i.write_gpr("rax", result)
    _put_result_flags(i, result)
    borrow = low & al.ult(6) if sign < 0 else i.const(1, 0)
    i.flags.set(cf=high | borrow, af=low)
