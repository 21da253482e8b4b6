"""The six arithmetic flags: what each kind of result does to them, and the conditions.

An instruction records *how* its flags come about (`FLAGS kind operands`), so an executor may
compute them when they are asked for. `lower` replaces FLAGS and COND by plain operations;
it is the only definition of what the kinds and conditions mean.
"""

from collections.abc import Callable

from vtx.isa.builder import Builder, Value
from vtx.isa.primitives import Prim
from vtx.isa.program import Op, Program


def _put_result_flags(b: Builder, result: Value) -> None:
    """PF, ZF, SF from a result (SDM 1, Status Flags)."""
    parity = result.trunc(8).unary(Prim.POPCNT) if result.width > 8 else result.unary(Prim.POPCNT)
    b.put("pf", ~parity.trunc(1))
    b.put("zf", result == 0)
    b.put("sf", result.msb())


def _put_adjust(b: Builder, x: Value, y: Value, result: Value) -> None:
    b.put("af", (x ^ y ^ result).bit(4))


def _add(b: Builder, x: Value, y: Value, result: Value) -> None:
    b.put("cf", result.ult(x))
    b.put("of", ((x ^ result) & (y ^ result)).msb())
    _put_adjust(b, x, y, result)
    _put_result_flags(b, result)


def _adc(b: Builder, x: Value, y: Value, result: Value) -> None:
    b.put("cf", ((x & y) | ((x | y) & ~result)).msb())
    b.put("of", ((x ^ result) & (y ^ result)).msb())
    _put_adjust(b, x, y, result)
    _put_result_flags(b, result)


def _sub(b: Builder, x: Value, y: Value, result: Value) -> None:
    b.put("cf", x.ult(y))
    b.put("of", ((x ^ y) & (x ^ result)).msb())
    _put_adjust(b, x, y, result)
    _put_result_flags(b, result)


def _sbb(b: Builder, x: Value, y: Value, result: Value) -> None:
    b.put("cf", ((~x & y) | ((~x | y) & result)).msb())
    b.put("of", ((x ^ y) & (x ^ result)).msb())
    _put_adjust(b, x, y, result)
    _put_result_flags(b, result)


def _logic(b: Builder, result: Value) -> None:
    zero = b.const(1, 0)
    b.put("cf", zero)
    b.put("of", zero)
    b.put("af", zero)  # undefined; cleared, as processors do
    _put_result_flags(b, result)


def _inc(b: Builder, x: Value, result: Value) -> None:
    b.put("of", result == 1 << (result.width - 1))
    b.put("af", (x ^ result).bit(4))
    _put_result_flags(b, result)


def _dec(b: Builder, x: Value, result: Value) -> None:
    b.put("of", x == 1 << (x.width - 1))
    b.put("af", (x ^ result).bit(4))
    _put_result_flags(b, result)


def _shift(b: Builder, result: Value, carry: Value, overflow: Value) -> None:
    b.put("cf", carry)
    b.put("of", overflow)
    b.put("af", b.const(1, 0))  # undefined; cleared, as processors do
    _put_result_flags(b, result)


KINDS: dict[str, Callable[..., None]] = {
    "add": _add,
    "adc": _adc,
    "sub": _sub,
    "sbb": _sbb,
    "logic": _logic,
    "inc": _inc,
    "dec": _dec,
    "shift": _shift,
}
"""Flag kind -> the operations that set the flags from the kind's operands."""


def _below_or_equal(b: Builder) -> Value:
    return b.get("cf", 1) | b.get("zf", 1)


def _less(b: Builder) -> Value:
    return b.get("sf", 1) ^ b.get("of", 1)


def _less_or_equal(b: Builder) -> Value:
    return b.get("zf", 1) | _less(b)


CONDITIONS: dict[str, Callable[[Builder], Value]] = {
    "o": lambda b: b.get("of", 1),
    "b": lambda b: b.get("cf", 1),
    "e": lambda b: b.get("zf", 1),
    "be": _below_or_equal,
    "s": lambda b: b.get("sf", 1),
    "p": lambda b: b.get("pf", 1),
    "l": _less,
    "le": _less_or_equal,
}
"""Condition code -> its value; a leading `n` negates (SDM 2A, condition codes)."""

POSITIVE_OF = {"no": "o", "ae": "b", "ne": "e", "a": "be", "ns": "s", "np": "p",
               "ge": "l", "g": "le"}  # fmt: skip
"""Condition code -> the one it negates."""


def _condition(b: Builder, code: str) -> Value:
    positive = POSITIVE_OF.get(code)
    return ~CONDITIONS[positive](b) if positive else CONDITIONS[code](b)


class Flags:
    """Writes and reads the arithmetic flags in the program of one instruction."""

    def __init__(self, builder: Builder) -> None:
        self._builder = builder

    def _record(self, kind: str, *operands: Value) -> None:
        widths = tuple(o.width for o in operands)
        self._builder.emit(Prim.FLAGS, width=widths[0], args=operands, attr=(kind, widths))

    def add(self, x: Value, y: Value, result: Value) -> None:
        """All six from result = x + y."""
        self._record("add", x, y, result)

    def adc(self, x: Value, y: Value, result: Value) -> None:
        """All six from result = x + y + carry in."""
        self._record("adc", x, y, result)

    def sub(self, x: Value, y: Value, result: Value) -> None:
        """All six from result = x - y."""
        self._record("sub", x, y, result)

    def sbb(self, x: Value, y: Value, result: Value) -> None:
        """All six from result = x - y - borrow in."""
        self._record("sbb", x, y, result)

    def logic(self, result: Value) -> None:
        """CF and OF cleared, PF ZF SF from the result, AF undefined."""
        self._record("logic", result)

    def inc(self, x: Value, result: Value) -> None:
        """All but CF from result = x + 1."""
        self._record("inc", x, result)

    def dec(self, x: Value, result: Value) -> None:
        """All but CF from result = x - 1."""
        self._record("dec", x, result)

    def shift(self, result: Value, carry: Value, overflow: Value) -> None:
        """A shift by a count that is not zero; AF undefined."""
        self._record("shift", result, carry, overflow)

    def condition(self, code: str) -> Value:
        """Value (1 bit) of a condition code such as `ne` or `le`."""
        return self._builder.emit1(Prim.COND, 1, attr=code)

    def set(self, **flags: Value | int) -> None:
        """Write single flags by name: `set(cf=carry, of=0)`."""
        for name, value in flags.items():
            self._builder.put(name, value, 1)

    def get(self, name: str) -> Value:
        return self._builder.get(name, 1)


def lower(program: Program) -> Program:
    """`program` with every FLAGS and COND replaced by plain operations."""
    if not any(op.prim in (Prim.FLAGS, Prim.COND) for op in program.ops):
        return program
    builder = Builder(program.name, program.params)
    builder._next = program.temps
    for op in program.ops:
        if op.prim is Prim.FLAGS:
            kind, widths = op.attr
            operands = (Value(builder, t, w) for t, w in zip(op.args, widths, strict=True))
            KINDS[kind](builder, *operands)
        elif op.prim is Prim.COND:
            value = _condition(builder, op.attr)
            # The name the rest of the program knows the condition by.
            zero = builder.const(1, 0)
            builder.ops.append(Op(Prim.OR, op.dst, 1, (value.temp, zero.temp)))
        else:
            builder.ops.append(Op(*op))
    return Program(
        program.name, tuple(builder.ops), program.params, program.results, program.variables,
        builder._next, program.alone, program.resync, program.falls_through, program.specialised,
    )  # fmt: skip
