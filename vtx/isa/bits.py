"""Single bits and bit counts: BT BTS BTR BTC, BSF BSR TZCNT LZCNT POPCNT, BSWAP MOVBE, PDEP PEXT.

Sources: SDM 2A/2B, the instruction's own page; SDM 1, Bit and Byte Instructions. What each
leaves undefined is declared in `vtx.isa.undefined`.
"""

from collections.abc import Callable

from vtx.isa.builder import Value
from vtx.isa.instruction import Instruction, MemoryOperand, Operand, semantics
from vtx.isa.logic import require_vex
from vtx.isa.primitives import Prim

# --- bit test --------------------------------------------------------------------------------


@semantics("BT")
def bt(i: Instruction) -> None:
    operand, place = _bit_string(i)
    i.flags.set(cf=(operand.read() >> place).bit(0))


@semantics("BTS")
def bts(i: Instruction) -> None:
    _change_bit(i, lambda value, bit: value | bit)


@semantics("BTR")
def btr(i: Instruction) -> None:
    _change_bit(i, lambda value, bit: value & ~bit)


@semantics("BTC")
def btc(i: Instruction) -> None:
    _change_bit(i, lambda value, bit: value ^ bit)


def _change_bit(i: Instruction, change: Callable[[Value, Value], Value]) -> None:
    operand, place = _bit_string(i)
    value = operand.read_for_write()
    operand.write(change(value, i.const(value.width, 1) << place))
    i.flags.set(cf=(value >> place).bit(0))


def _bit_string(i: Instruction) -> tuple[Operand, Value]:
    """The operand that holds the bit and the bit's place in it.

    A register index into memory is signed and reaches any distance from the operand.
    """
    operand, index = i.dst, i.src.read()
    width = operand.width
    place = index & (width - 1)
    if isinstance(operand, MemoryOperand) and index.const is None:
        step = width.bit_length() - 1
        element = index.sar(step) << (step - 3)
        distance = element if width == 64 else element.sext(64)
        offset = i.wrap_offset(operand.offset + distance)
        operand = MemoryOperand(i, operand.segment, offset, width)
    return operand, place


# --- scans and counts ------------------------------------------------------------------------


@semantics("BSF")
def bsf(i: Instruction) -> None:
    a = i.src.read()
    _scan(i, a, a.unary(Prim.CTZ))


@semantics("BSR")
def bsr(i: Instruction) -> None:
    a = i.src.read()
    _scan(i, a, -a.unary(Prim.CLZ) + (a.width - 1))


def _scan(i: Instruction, a: Value, position: Value) -> None:
    """A source of zero only sets ZF: the destination stays, as on every processor made."""
    zero = a == 0
    with i.if_(~zero):
        i.dst.write(position)
    i.flags.set(zf=zero)


@semantics("TZCNT")
def tzcnt(i: Instruction) -> None:
    _count_zeros(i, Prim.CTZ)


@semantics("LZCNT")
def lzcnt(i: Instruction) -> None:
    _count_zeros(i, Prim.CLZ)


def _count_zeros(i: Instruction, prim: Prim) -> None:
    a = i.src.read()
    count = a.unary(prim)
    i.dst.write(count)
    i.flags.set(cf=a == 0, zf=count == 0)


@semantics("POPCNT")
def popcnt(i: Instruction) -> None:
    a = i.src.read()
    i.dst.write(a.unary(Prim.POPCNT))
    i.flags.set(cf=0, pf=0, af=0, zf=a == 0, sf=0, of=0)


# --- bytes and fields ------------------------------------------------------------------------


@semantics("BSWAP")
def bswap(i: Instruction) -> None:
    """The result for 16-bit registers is undefined: zero, as processors give."""
    a = i.dst.read()
    i.dst.write(a.unary(Prim.BSWAP) if a.width > 16 else i.const(16, 0))


@semantics("MOVBE")
def movbe(i: Instruction) -> None:
    i.dst.write(i.src.read().unary(Prim.BSWAP))


@semantics("PDEP")
def pdep(i: Instruction) -> None:
    """Deposit low bits at the places of a mask."""
    _by_mask(i, Prim.PDEP)


@semantics("PEXT")
def pext(i: Instruction) -> None:
    """Extract the bits at the places of a mask."""
    _by_mask(i, Prim.PEXT)


def _by_mask(i: Instruction, prim: Prim) -> None:
    require_vex(i)
    i.dst.write(i.pure(prim, i.dst.width, i.src.read(), i.op(2).read()))
