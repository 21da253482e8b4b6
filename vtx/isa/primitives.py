"""The primitives of the algebra: one sectioned enum, and the meaning of the pure ones.

Every primitive is total: whatever bits come in, the result is defined here (a shift by the
width or more gives what the table says, a division by zero gives zero), so a code generator
must implement exactly this and may rely on nothing else. Values are unsigned integers of an
op's width; bool results have width 1. This module knows no instruction and no executor.
"""

from collections.abc import Callable
from enum import Enum, auto

WIDTHS = (1, 8, 16, 32, 64)


class Prim(Enum):
    """What one operation does. `a`, `b`, `c` are its arguments, `w` its width."""

    # --- constants and state
    CONST = auto()  # attr: the value
    IP = auto()  # address of the instruction being executed, before CS.base is added
    GET = auto()  # attr: slot; the low w bits of a state word
    PUT = auto()  # attr: slot; a zero-extended into the whole word
    GETVAR = auto()  # attr: variable index; local to one program
    SETVAR = auto()  # attr: variable index; a
    # --- integer arithmetic
    ADD = auto()
    SUB = auto()
    MUL = auto()  # low half
    UMULH = auto()  # high half, unsigned
    SMULH = auto()  # high half, signed
    UDIV = auto()  # (a:b) / c, low w bits of the quotient; 0 when c is 0
    UREM = auto()  # (a:b) % c; 0 when c is 0
    SDIV = auto()  # signed (a:b) / c, truncated towards zero; 0 when c is 0
    SREM = auto()  # remainder with the sign of the dividend; 0 when c is 0
    UDIVFITS = auto()  # width 1: c is not 0 and the quotient fits w bits; attr: w
    SDIVFITS = auto()
    # --- bits
    AND = auto()
    OR = auto()
    XOR = auto()
    SHL = auto()  # 0 when b >= w
    SHR = auto()  # 0 when b >= w
    SAR = auto()  # the sign everywhere when b >= w
    ROL = auto()  # b modulo w
    ROR = auto()
    BSWAP = auto()  # whole bytes reversed
    CLZ = auto()  # w when a is 0
    CTZ = auto()  # w when a is 0
    POPCNT = auto()
    PDEP = auto()
    PEXT = auto()
    # --- comparisons and choice (result width 1)
    EQ = auto()
    NE = auto()
    ULT = auto()
    ULE = auto()
    SLT = auto()
    SLE = auto()
    SELECT = auto()  # b when a (width 1) else c
    # --- width changes
    TRUNC = auto()
    ZEXT = auto()
    SEXT = auto()
    # --- flags: lowered by isa.flags, or kept lazy by an executor that knows how
    FLAGS = auto()  # attr: (kind, operand width); args: kind's operands
    COND = auto()  # attr: condition code name; result width 1
    # --- memory
    LOAD = auto()  # linear address a; attr: Access
    STORE = auto()  # linear address a, value b; attr: Access
    PROBE = auto()  # linear address a may be accessed for attr.size bytes, or fault
    PLOAD = auto()  # physical address a
    PSTORE = auto()  # physical address a, value b
    WALK_LOAD = auto()  # physical load of a paging-structure entry; attr: its level's name
    LOOKUP = auto()  # attr: (table name, default); constant table at index a
    # --- structure
    IF = auto()  # a (width 1); up to the matching ELSE or END
    ELSE = auto()
    END = auto()
    CALL = auto()  # attr: routine name; args -> results
    SERVICE = auto()  # attr: Service; args -> results, outside the CPU core
    # --- ends: the program is over
    NEXT = auto()  # the instruction is complete, go on behind it
    JUMP = auto()  # complete, go on at a
    RETURN = auto()  # a routine's results
    FAULT = auto()  # attr: vector; a error code (if given): deliver, nothing has happened
    RAISED = auto()  # a fault or event whose slots are already filled
    EXIT = auto()  # attr: basic exit reason; VM exit, the exit_* slots are filled


def signed(value: int, width: int) -> int:
    """`value` of `width` bits read as a two's complement number."""
    return value - (1 << width) if value >> (width - 1) else value


def _dividend(a: int, b: int, w: int) -> int:
    return (a << w) | b


def _sdivide(a: int, b: int, c: int, w: int) -> tuple[int, int]:
    dividend, divisor = signed(_dividend(a, b, w), 2 * w), signed(c, w)
    if divisor == 0:
        return 0, 0
    quotient = abs(dividend) // abs(divisor)
    if (dividend < 0) != (divisor < 0):
        quotient = -quotient
    return quotient, dividend - quotient * divisor


def _sdiv_fits(a: int, b: int, c: int, w: int) -> int:
    return int(c != 0 and -(1 << (w - 1)) <= _sdivide(a, b, c, w)[0] < 1 << (w - 1))


def _deposit(source: int, mask: int) -> int:
    result = 0
    while mask:
        low = mask & -mask
        if source & 1:
            result |= low
        source >>= 1
        mask ^= low
    return result


def _extract(source: int, mask: int) -> int:
    result, place = 0, 0
    while mask:
        low = mask & -mask
        if source & low:
            result |= 1 << place
        place += 1
        mask ^= low
    return result


def _rol(a: int, b: int, w: int) -> int:
    b %= w
    return (a << b) | (a >> (w - b))


PURE: dict[Prim, Callable[..., int]] = {
    Prim.ADD: lambda w, a, b: a + b,
    Prim.SUB: lambda w, a, b: a - b,
    Prim.MUL: lambda w, a, b: a * b,
    Prim.UMULH: lambda w, a, b: (a * b) >> w,
    Prim.SMULH: lambda w, a, b: (signed(a, w) * signed(b, w)) >> w,
    Prim.UDIV: lambda w, a, b, c: _dividend(a, b, w) // c if c else 0,
    Prim.UREM: lambda w, a, b, c: _dividend(a, b, w) % c if c else 0,
    Prim.SDIV: lambda w, a, b, c: _sdivide(a, b, c, w)[0],
    Prim.SREM: lambda w, a, b, c: _sdivide(a, b, c, w)[1],
    Prim.UDIVFITS: lambda w, a, b, c: int(a < c),
    Prim.SDIVFITS: lambda w, a, b, c: _sdiv_fits(a, b, c, w),
    Prim.AND: lambda w, a, b: a & b,
    Prim.OR: lambda w, a, b: a | b,
    Prim.XOR: lambda w, a, b: a ^ b,
    Prim.SHL: lambda w, a, b: a << b if b < w else 0,
    Prim.SHR: lambda w, a, b: a >> b if b < w else 0,
    Prim.SAR: lambda w, a, b: signed(a, w) >> min(b, w),
    Prim.ROL: lambda w, a, b: _rol(a, b, w),
    Prim.ROR: lambda w, a, b: _rol(a, w - b % w, w),
    Prim.BSWAP: lambda w, a: int.from_bytes(a.to_bytes(w // 8, "little"), "big"),
    Prim.CLZ: lambda w, a: w - a.bit_length(),
    Prim.CTZ: lambda w, a: (a & -a).bit_length() - 1 if a else w,
    Prim.POPCNT: lambda w, a: a.bit_count(),
    Prim.PDEP: lambda w, a, b: _deposit(a, b),
    Prim.PEXT: lambda w, a, b: _extract(a, b),
    Prim.EQ: lambda w, a, b: int(a == b),
    Prim.NE: lambda w, a, b: int(a != b),
    Prim.ULT: lambda w, a, b: int(a < b),
    Prim.ULE: lambda w, a, b: int(a <= b),
    Prim.SLT: lambda w, a, b: int(signed(a, w) < signed(b, w)),
    Prim.SLE: lambda w, a, b: int(signed(a, w) <= signed(b, w)),
    Prim.SELECT: lambda w, a, b, c: b if a else c,
    Prim.TRUNC: lambda w, a: a,
    Prim.ZEXT: lambda w, a: a,
    Prim.SEXT: lambda w, a: signed(a, w),
}
"""Pure primitive -> its meaning. `w` is the width of the operands (comparisons, divisions-fit,
SEXT: of the source); the caller masks the result to the op's own width."""

COMPARISONS = frozenset({Prim.EQ, Prim.NE, Prim.ULT, Prim.ULE, Prim.SLT, Prim.SLE})
DIVIDES_FIT = frozenset({Prim.UDIVFITS, Prim.SDIVFITS})
ENDS = frozenset({Prim.NEXT, Prim.JUMP, Prim.RETURN, Prim.FAULT, Prim.RAISED, Prim.EXIT})
"""Primitives after which nothing of the same branch runs."""


def apply(prim: Prim, width: int, operand_width: int, *args: int) -> int:
    """Result of a pure primitive, masked to `width` bits."""
    return PURE[prim](operand_width, *args) & ((1 << width) - 1)
