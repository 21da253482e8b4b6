"""The pure primitives of the algebra as straight-line LLVM text IR.

Each result is what vtx.isa.primitives.PURE defines for every operand. LLVM leaves some operands
of its own instructions undefined or gives them poison (shifts by the width or more, divisions
that trap); those are kept away from them here, so no line below makes poison from good operands.
This module knows no state, memory, control flow or calling convention.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from vtx.engine.native.objects import EM_X86_64
from vtx.engine.native.relocate import HOST
from vtx.isa.primitives import Prim
from vtx.isa.program import Op


class Fresh(Protocol):
    """Gives a new local name, such as `%v17`, at every call."""

    def __call__(self) -> str: ...


def pure_lines(op: Op, args: Sequence[str], fresh: Fresh) -> tuple[list[str], str]:
    """IR lines that compute a pure op, and the operand text of its result (type i{op.width}).

    `args` are operand texts: local names or decimal constants of the arguments' widths.
    KeyError when `op` is not pure.
    """
    block = _Block(fresh, op.operand_width or op.width, op.width)
    result = _EMITTERS[op.prim](block, *args)
    return block.lines, result


@dataclass
class _Block:
    """The lines of one op. `w` is the width of its operands, `width` that of its result."""

    fresh: Fresh
    w: int
    width: int
    lines: list[str] = field(default_factory=list)

    def add(self, instruction: str) -> str:
        """Append an instruction; the name of its result."""
        name = self.fresh()
        self.lines.append(f"{name} = {instruction}")
        return name

    def binary(self, opcode: str, a: str, b: str, width: int | None = None) -> str:
        return self.add(f"{opcode} i{width or self.w} {a}, {b}")

    def compare(self, relation: str, a: str, b: str) -> str:
        return self.add(f"icmp {relation} i{self.w} {a}, {b}")

    def select(self, condition: str, a: str, b: str) -> str:
        return self.add(f"select i1 {condition}, i{self.w} {a}, i{self.w} {b}")

    def intrinsic(self, name: str, *operands: str, width: int | None = None) -> str:
        kind = f"i{width or self.w}"
        return self.add(f"call {kind} @llvm.{name}.{kind}({', '.join(operands)})")

    def resize(self, opcode: str, a: str, source: int, target: int) -> str:
        """`a` extended or truncated; nothing to do when the widths are equal."""
        return a if source == target else self.add(f"{opcode} i{source} {a} to i{target}")

    def negate_if(self, condition: str, a: str) -> str:
        return self.select(condition, self.binary("sub", "0", a), a)


Emitter = Callable[..., str]
"""From a block and the operand texts to the text of the result."""


def _count(text: str, w: int) -> int | None:
    """The value of a shift count that is a constant of `w` bits."""
    return None if text.startswith("%") else int(text) & ((1 << w) - 1)


# --- simple ones -----------------------------------------------------------------------------


def _binary(opcode: str, block: _Block, a: str, b: str) -> str:
    return block.binary(opcode, a, b)


def _compare(relation: str, block: _Block, a: str, b: str) -> str:
    return block.compare(relation, a, b)


def _resize(opcode: str, block: _Block, a: str) -> str:
    return block.resize(opcode, a, block.w, block.width)


def _multiply_high(extension: str, block: _Block, a: str, b: str) -> str:
    w = block.w
    wide_a, wide_b = (block.resize(extension, operand, w, 2 * w) for operand in (a, b))
    product = block.binary("mul", wide_a, wide_b, 2 * w)
    high = block.binary("lshr", product, str(w), 2 * w)
    return block.resize("trunc", high, 2 * w, w)


# --- shifts and bits -------------------------------------------------------------------------


def _shift(opcode: str, block: _Block, a: str, b: str) -> str:
    w, count = block.w, _count(b, block.w)
    if count is not None:
        return block.binary(opcode, a, str(count)) if count < w else "0"
    shifted = block.binary(opcode, a, block.binary("and", b, str(w - 1)))
    return block.select(block.compare("ult", b, str(w)), shifted, "0")


def _shift_arithmetic(block: _Block, a: str, b: str) -> str:
    w, count = block.w, _count(b, block.w)
    if count is not None:
        return block.binary("ashr", a, str(min(count, w - 1)))
    return block.binary("ashr", a, block.intrinsic("umin", f"i{w} {b}", f"i{w} {w - 1}"))


def _rotate(direction: str, block: _Block, a: str, b: str) -> str:
    kind = f"i{block.w}"
    return block.intrinsic(direction, f"{kind} {a}", f"{kind} {a}", f"{kind} {b}")


def _bswap(block: _Block, a: str) -> str:
    return a if block.w == 8 else block.intrinsic("bswap", f"i{block.w} {a}")


def _count_zeros(name: str, block: _Block, a: str) -> str:
    return block.intrinsic(name, f"i{block.w} {a}", "i1 false")  # 0 is no poison


def _popcnt(block: _Block, a: str) -> str:
    return block.intrinsic("ctpop", f"i{block.w} {a}")


def _helper(name: str, block: _Block, a: str, b: str) -> str:
    wide_a, wide_b = (block.resize("zext", operand, block.w, 64) for operand in (a, b))
    result = block.add(f"call i64 @{name}(i64 {wide_a}, i64 {wide_b})")
    return block.resize("trunc", result, 64, block.w)


# --- division --------------------------------------------------------------------------------
# A double-width dividend. The quotient's low w bits do not change when the dividend's high half
# is first taken modulo the divisor; after that the quotient fits, which DIV of the host needs.

HAS_DIVQ = HOST == EM_X86_64
_DIVQ = 'asm sideeffect "divq $2", "={ax},={dx},r,0,1,~{dirflag},~{fpsr},~{flags}"'
"""`sideeffect` keeps the code generator from hoisting what may trap over its guard (LLVM marks
its own DIV so); the attributes of the call let quotient and remainder share one."""
_SHARED = "nounwind willreturn memory(none)"


@dataclass(frozen=True)
class _Division:
    quotient: str
    """Its low w bits; 0 when the divisor is 0."""
    remainder: str


def _divide(block: _Block, high: str, low: str, c: str) -> _Division:
    zero = block.compare("eq", c, "0")
    divisor = block.select(zero, "1", c)  # by 1 the remainder is 0, as it has to be
    divide = _divide_128 if block.w == 64 else _divide_wide
    result = divide(block, high, low, divisor)
    return _Division(block.select(zero, "0", result.quotient), result.remainder)


def _divide_wide(block: _Block, high: str, low: str, divisor: str) -> _Division:
    w = block.w
    dividend = _join(block, high, low)
    wide = block.resize("zext", divisor, w, 2 * w)
    quotient = block.binary("udiv", dividend, wide, 2 * w)
    remainder = block.binary("urem", dividend, wide, 2 * w)
    return _Division(
        block.resize("trunc", quotient, 2 * w, w), block.resize("trunc", remainder, 2 * w, w)
    )


def _divide_128(block: _Block, high: str, low: str, divisor: str) -> _Division:
    """LLVM would call a library for 128 bits, and nothing is there to be called."""
    fits = block.compare("ult", high, divisor)
    reduced = block.select(fits, high, block.binary("urem", high, divisor))
    divide = _divide_by_host if HAS_DIVQ else _divide_by_helper
    return divide(block, reduced, low, divisor)


def _divide_by_helper(block: _Block, high: str, low: str, divisor: str) -> _Division:
    quotient = block.add(f"call i64 @vtx_divide(i64 {high}, i64 {low}, i64 {divisor})")
    product = block.binary("mul", quotient, divisor)
    return _Division(quotient, block.binary("sub", low, product))


def _divide_by_host(block: _Block, high: str, low: str, divisor: str) -> _Division:
    operands = f"i64 {divisor}, i64 {low}, i64 {high}"
    both = block.add(f"call {{i64, i64}} {_DIVQ}({operands}) {_SHARED}")
    quotient, remainder = (block.add(f"extractvalue {{i64, i64}} {both}, {n}") for n in (0, 1))
    return _Division(quotient, remainder)


def _join(block: _Block, high: str, low: str) -> str:
    """high:low, 2w bits."""
    w = block.w
    top = block.binary("shl", block.resize("zext", high, w, 2 * w), str(w), 2 * w)
    return block.binary("or", top, block.resize("zext", low, w, 2 * w), 2 * w)


@dataclass(frozen=True)
class _Magnitudes:
    """The operands of a signed division without their signs: unsigned, they cannot overflow."""

    dividend: str
    """2w bits."""
    divisor: str
    negative: str
    """The quotient is (or is 0)."""
    dividend_negative: str


def _magnitudes(block: _Block, a: str, b: str, c: str) -> _Magnitudes:
    w = block.w
    dividend_negative, c_negative = block.compare("slt", a, "0"), block.compare("slt", c, "0")
    dividend = f"i{2 * w} {_join(block, a, b)}"
    return _Magnitudes(
        block.intrinsic("abs", dividend, "i1 false", width=2 * w),
        block.intrinsic("abs", f"i{w} {c}", "i1 false"),
        block.binary("xor", dividend_negative, c_negative, 1),
        dividend_negative,
    )


def _halves(block: _Block, value: str) -> tuple[str, str]:
    """High and low half of 2w bits."""
    w = block.w
    high = block.binary("lshr", value, str(w), 2 * w)
    return block.resize("trunc", high, 2 * w, w), block.resize("trunc", value, 2 * w, w)


def _divide_magnitudes(block: _Block, operands: _Magnitudes) -> _Division:
    high, low = _halves(block, operands.dividend)
    return _divide(block, high, low, operands.divisor)


def _udiv(block: _Block, a: str, b: str, c: str) -> str:
    return _divide(block, a, b, c).quotient


def _urem(block: _Block, a: str, b: str, c: str) -> str:
    return _divide(block, a, b, c).remainder


def _udiv_fits(block: _Block, a: str, b: str, c: str) -> str:
    return block.compare("ult", a, c)


def _sdiv(block: _Block, a: str, b: str, c: str) -> str:
    operands = _magnitudes(block, a, b, c)
    return block.negate_if(operands.negative, _divide_magnitudes(block, operands).quotient)


def _srem(block: _Block, a: str, b: str, c: str) -> str:
    operands = _magnitudes(block, a, b, c)
    remainder = _divide_magnitudes(block, operands).remainder
    return block.negate_if(operands.dividend_negative, remainder)


def _sdiv_fits(block: _Block, a: str, b: str, c: str) -> str:
    """Without dividing: the magnitude of the quotient is at most 2^(w-1) if it is negative and
    less than that if not, so the dividend's is less than 2^(w-1) (+ 1) times the divisor's."""
    w = block.w
    operands = _magnitudes(block, a, b, c)
    divisor = block.resize("zext", operands.divisor, w, 2 * w)
    once_more = block.resize(
        "zext", block.select(operands.negative, operands.divisor, "0"), w, 2 * w
    )
    product = block.binary("shl", divisor, str(w - 1), 2 * w)
    limit = block.binary("add", product, once_more, 2 * w)
    fits = block.add(f"icmp ult i{2 * w} {operands.dividend}, {limit}")
    # Follows from `fits`, but LLVM has to be told: where it holds the division needs no guards.
    high, _ = _halves(block, operands.dividend)
    return block.binary("and", block.compare("ult", high, operands.divisor), fits, 1)


# --- the table -------------------------------------------------------------------------------

_EMITTERS: dict[Prim, Emitter] = {
    Prim.ADD: partial(_binary, "add"),
    Prim.SUB: partial(_binary, "sub"),
    Prim.MUL: partial(_binary, "mul"),
    Prim.UMULH: partial(_multiply_high, "zext"),
    Prim.SMULH: partial(_multiply_high, "sext"),
    Prim.UDIV: _udiv,
    Prim.UREM: _urem,
    Prim.SDIV: _sdiv,
    Prim.SREM: _srem,
    Prim.UDIVFITS: _udiv_fits,
    Prim.SDIVFITS: _sdiv_fits,
    Prim.AND: partial(_binary, "and"),
    Prim.OR: partial(_binary, "or"),
    Prim.XOR: partial(_binary, "xor"),
    Prim.SHL: partial(_shift, "shl"),
    Prim.SHR: partial(_shift, "lshr"),
    Prim.SAR: _shift_arithmetic,
    Prim.ROL: partial(_rotate, "fshl"),
    Prim.ROR: partial(_rotate, "fshr"),
    Prim.BSWAP: _bswap,
    Prim.CLZ: partial(_count_zeros, "ctlz"),
    Prim.CTZ: partial(_count_zeros, "cttz"),
    Prim.POPCNT: _popcnt,
    Prim.PDEP: partial(_helper, "vtx_pdep"),
    Prim.PEXT: partial(_helper, "vtx_pext"),
    Prim.EQ: partial(_compare, "eq"),
    Prim.NE: partial(_compare, "ne"),
    Prim.ULT: partial(_compare, "ult"),
    Prim.ULE: partial(_compare, "ule"),
    Prim.SLT: partial(_compare, "slt"),
    Prim.SLE: partial(_compare, "sle"),
    Prim.SELECT: lambda block, a, b, c: block.select(a, b, c),
    Prim.TRUNC: partial(_resize, "trunc"),
    Prim.ZEXT: partial(_resize, "zext"),
    Prim.SEXT: partial(_resize, "sext"),
}

HANDLED = frozenset(_EMITTERS)
"""The primitives that `pure_lines` takes."""
