"""Writing programs: typed values with operators, guards, calls and ends.

A `Value` stands for a temporary of a known width. Python's `if` must never test one: what
depends on run-time values is written with `if_`/`else_` or `select`. Constants are folded
here, through the one table of the primitives. This module knows no instruction.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn, cast

from vtx.isa.layout import SLOTS
from vtx.isa.primitives import COMPARISONS, DIVIDES_FIT, ENDS, PURE, Prim, apply
from vtx.isa.program import (
    Access,
    Op,
    Origin,
    Program,
    Service,
    register_routine,
    routine,
    verify,
)


class Value:
    """A number of `width` bits computed at run time by the program being written."""

    __slots__ = ("builder", "literal", "number", "temp", "width")

    def __init__(
        self,
        builder: "Builder",
        temp: int,
        width: int,
        number: int | None = None,
        literal: bool = False,
    ):
        self.builder = builder
        self.temp = temp
        self.width = width
        self.number = number
        """The value, where it is known while the program is written."""
        self.literal = literal
        """It comes from the instruction's own bytes, so another instruction has another one."""

    @property
    def const(self) -> int | None:
        """The value, for semantics that write another program for another constant."""
        if self.literal:
            self.builder.specialised = True
        return self.number

    def __bool__(self) -> NoReturn:
        raise TypeError("a Python `if` tests only the translation key; use if_() or select()")

    def __repr__(self) -> str:
        return f"t{self.temp}:{self.width}"

    def _binary(self, prim: Prim, other: "Value | int") -> "Value":
        return self.builder.pure(prim, self.width, self, other)

    def _compare(self, prim: Prim, other: "Value | int") -> "Value":
        return self.builder.pure(prim, 1, self, other, operand_width=self.width)

    def __add__(self, other: "Value | int") -> "Value":
        return self._binary(Prim.ADD, other)

    def __sub__(self, other: "Value | int") -> "Value":
        return self._binary(Prim.SUB, other)

    def __mul__(self, other: "Value | int") -> "Value":
        return self._binary(Prim.MUL, other)

    def __and__(self, other: "Value | int") -> "Value":
        return self._binary(Prim.AND, other)

    def __or__(self, other: "Value | int") -> "Value":
        return self._binary(Prim.OR, other)

    def __xor__(self, other: "Value | int") -> "Value":
        return self._binary(Prim.XOR, other)

    def __invert__(self) -> "Value":
        return self._binary(Prim.XOR, (1 << self.width) - 1)

    def __neg__(self) -> "Value":
        return self.builder.const(self.width, 0)._binary(Prim.SUB, self)

    def __lshift__(self, count: "Value | int") -> "Value":
        return self._binary(Prim.SHL, count)

    def __rshift__(self, count: "Value | int") -> "Value":
        return self._binary(Prim.SHR, count)

    def sar(self, count: "Value | int") -> "Value":
        """Arithmetic shift right."""
        return self._binary(Prim.SAR, count)

    def rol(self, count: "Value | int") -> "Value":
        return self._binary(Prim.ROL, count)

    def ror(self, count: "Value | int") -> "Value":
        return self._binary(Prim.ROR, count)

    def unary(self, prim: Prim) -> "Value":
        """BSWAP, CLZ, CTZ or POPCNT of this value."""
        return self.builder.pure(prim, self.width, self)

    def __eq__(self, other: object) -> "Value":  # type: ignore[override]
        return self._compare(Prim.EQ, cast("Value | int", other))

    def __ne__(self, other: object) -> "Value":  # type: ignore[override]
        return self._compare(Prim.NE, cast("Value | int", other))

    __hash__ = None  # type: ignore[assignment]

    def ult(self, other: "Value | int") -> "Value":
        """Unsigned less than (1 bit)."""
        return self._compare(Prim.ULT, other)

    def ule(self, other: "Value | int") -> "Value":
        return self._compare(Prim.ULE, other)

    def slt(self, other: "Value | int") -> "Value":
        return self._compare(Prim.SLT, other)

    def sle(self, other: "Value | int") -> "Value":
        return self._compare(Prim.SLE, other)

    def trunc(self, width: int) -> "Value":
        """The low `width` bits."""
        return self.builder.resize(Prim.TRUNC, self, width)

    def zext(self, width: int) -> "Value":
        return self.builder.resize(Prim.ZEXT, self, width)

    def sext(self, width: int) -> "Value":
        return self.builder.resize(Prim.SEXT, self, width)

    def to(self, width: int) -> "Value":
        """Zero-extended or truncated to `width` bits."""
        return self.trunc(width) if width < self.width else self.zext(width)

    def bit(self, index: int) -> "Value":
        """Bit `index` as a 1-bit value."""
        return (self >> index).trunc(1)

    def bits(self, high: int, low: int) -> "Value":
        """Bits high:low at the bottom of a value of unchanged width."""
        return (self >> low) & ((1 << (high - low + 1)) - 1)

    def msb(self) -> "Value":
        """The sign bit (1 bit)."""
        return self.bit(self.width - 1)

    def select(self, then: "Value | int", otherwise: "Value | int") -> "Value":
        """`then` where this 1-bit value is 1, else `otherwise` (both already computed)."""
        return self.builder.select(self, then, otherwise)


class Variable:
    """A local variable, for values that branches assign."""

    def __init__(self, builder: "Builder", index: int, width: int) -> None:
        self._builder, self._index, self.width = builder, index, width

    def get(self) -> Value:
        return self._builder.emit1(Prim.GETVAR, self.width, attr=self._index)

    def set(self, value: Value | int) -> None:
        value = self._builder.value(value, self.width)
        self._builder.emit(Prim.SETVAR, width=self.width, args=(value,), attr=self._index)


class Builder:
    """Collects the ops of one program."""

    def __init__(self, name: str, params: tuple[int, ...] = ()) -> None:
        self.name = name
        self.ops: list[Op] = []
        self.params = params
        self._next = len(params)
        self._constants: dict[int, int] = {}
        self._variables: list[int] = []
        self.alone = False
        self.is_resync = False
        self.specialised = False

    # --- values ------------------------------------------------------------------------------
    def param(self, index: int) -> Value:
        """The routine's argument `index`."""
        return Value(self, index, self.params[index])

    def const(self, width: int, number: int) -> Value:
        number &= (1 << width) - 1
        temp = self._new()
        self.ops.append(Op(Prim.CONST, (temp,), width, (), number))
        return Value(self, temp, width, number)

    def literal(self, width: int, number: int, origin: Origin) -> Value:
        """A constant that stands in the instruction at `origin`."""
        number &= (1 << width) - 1
        temp = self._new()
        self.ops.append(Op(Prim.CONST, (temp,), width, (), number, origin))
        return Value(self, temp, width, number, literal=True)

    def value(self, thing: Value | int, width: int) -> Value:
        """`thing` as a Value of `width` bits; an int becomes a constant."""
        if isinstance(thing, int):
            return self.const(width, thing)
        if thing.width != width:
            raise TypeError(f"{self.name}: {thing} where {width} bits are needed")
        return thing

    def pure(self, prim: Prim, width: int, *args: Value | int, operand_width: int = 0) -> Value:
        """A pure operation; folded when every operand is constant."""
        source = operand_width or width
        values = [self.value(argument, source) for argument in args]
        if all(v.number is not None for v in values):
            numbers = [cast(int, v.number) for v in values]
            number = apply(prim, width, source, *numbers)
            if any(v.literal for v in values):
                return self.literal(width, number, Origin.COMPUTED)
            return self.const(width, number)
        last = values[-1]
        if len(values) == 2 and last.number == 0 and prim in _ZERO_IS_NEUTRAL and not last.literal:
            return values[0]
        return self.emit1(prim, width, tuple(values), operand_width=operand_width)

    def select(self, condition: Value, then: Value | int, otherwise: Value | int) -> Value:
        width = then.width if isinstance(then, Value) else cast(Value, otherwise).width
        yes, no = self.value(then, width), self.value(otherwise, width)
        if condition.number is not None:
            return yes if condition.const else no
        return self.emit1(Prim.SELECT, width, (self.value(condition, 1), yes, no))

    def resize(self, prim: Prim, value: Value, width: int) -> Value:
        if value.width == width:
            return value
        if (width < value.width) != (prim is Prim.TRUNC):
            raise TypeError(f"{self.name}: {prim.name} of {value} to {width} bits")
        return self.pure(prim, width, value, operand_width=value.width)

    def divide(self, prim: Prim, high: Value, low: Value, divisor: Value) -> Value:
        """UDIV, UREM, SDIV, SREM or the *FITS test of (high:low) by divisor."""
        if prim in DIVIDES_FIT:
            return self.pure(prim, 1, high, low, divisor, operand_width=low.width)
        return self.pure(prim, low.width, high, low, divisor)

    def any_of(self, *conditions: Value) -> Value:
        """1 when at least one 1-bit condition holds."""
        result = conditions[0]
        for condition in conditions[1:]:
            result = result | condition
        return result

    def all_of(self, *conditions: Value) -> Value:
        result = conditions[0]
        for condition in conditions[1:]:
            result = result & condition
        return result

    def var(self, width: int, initial: Value | int) -> Variable:
        """A new local variable."""
        self._variables.append(width)
        variable = Variable(self, len(self._variables) - 1, width)
        variable.set(initial)
        return variable

    # --- state -------------------------------------------------------------------------------
    def get(self, slot: str, width: int = 64) -> Value:
        """The low `width` bits of a state word."""
        return self.emit1(Prim.GET, width, attr=SLOTS[slot])

    def put(self, slot: str, value: Value | int, width: int = 64) -> None:
        """Replace a whole state word by `value`, zero-extended."""
        stored = self.value(value, width) if isinstance(value, int) else value
        self.emit(Prim.PUT, width=stored.width, args=(stored,), attr=SLOTS[slot])

    @property
    def ip(self) -> Value:
        """Offset in CS of the instruction being executed (64 bits)."""
        return self.emit1(Prim.IP, 64)

    # --- memory ------------------------------------------------------------------------------
    def load(self, width: int, gva: Value, access: Access) -> Value:
        return self.emit1(Prim.LOAD, width, (gva,), attr=access)

    def store(self, gva: Value, value: Value, access: Access) -> None:
        self.emit(Prim.STORE, width=value.width, args=(gva, value), attr=access)

    def probe(self, gva: Value, size: int, access: Access) -> None:
        """Fault unless `size` bytes at `gva` allow `access`."""
        self.emit(Prim.PROBE, args=(gva,), attr=access._replace(size=size))

    def load_physical(self, width: int, hpa: Value) -> Value:
        return self.emit1(Prim.PLOAD, width, (hpa,))

    def store_physical(self, hpa: Value, value: Value) -> None:
        self.emit(Prim.PSTORE, width=value.width, args=(hpa, value))

    def walk_load(self, width: int, hpa: Value, level: str) -> Value:
        """A physical load of a paging-structure entry; observable as a walk's reference."""
        return self.emit1(Prim.WALK_LOAD, width, (hpa,), attr=level)

    def lookup(self, width: int, table: str, index: Value, default: int) -> Value:
        """Entry of a registered constant table; `default` where it has none."""
        return self.emit1(Prim.LOOKUP, width, (index,), attr=(table, default))

    # --- structure ---------------------------------------------------------------------------
    @contextmanager
    def if_(self, condition: Value) -> Iterator[None]:
        """Ops written inside run only where the 1-bit `condition` is 1."""
        self.emit(Prim.IF, args=(self.value(condition, 1),))
        yield
        self.emit(Prim.END)

    @contextmanager
    def else_(self) -> Iterator[None]:
        """Right behind an `if_` block: the other branch."""
        if not self.ops or self.ops[-1].prim is not Prim.END:
            raise TypeError(f"{self.name}: else_ without if_")
        self.ops.pop()
        self.emit(Prim.ELSE)
        yield
        self.emit(Prim.END)

    def call(self, name: str, *args: Value | int) -> tuple[Value, ...]:
        """Run a routine; its faults and exits end this program too."""
        callee = routine(name)
        values = tuple(self.value(a, w) for a, w in zip(args, callee.params, strict=True))
        if callee.alone:
            self.alone = True
        if callee.resync:
            self.is_resync = True
        temps = tuple(self._new() for _ in callee.results)
        self.emit(Prim.CALL, dst=temps, args=values, attr=name)
        return tuple(Value(self, t, w) for t, w in zip(temps, callee.results, strict=True))

    def service(self, service: Service, *args: Value | int) -> tuple[Value, ...]:
        """Ask the surroundings; the program then runs as a block of its own."""
        self.alone = True
        values = tuple(self.value(a, w) for a, w in zip(args, service.params, strict=True))
        temps = tuple(self._new() for _ in service.results)
        self.emit(Prim.SERVICE, dst=temps, args=values, attr=service)
        return tuple(Value(self, t, w) for t, w in zip(temps, service.results, strict=True))

    def resync(self) -> None:
        """The translation key may change: whatever follows must be looked up anew."""
        self.is_resync = True

    # --- ends --------------------------------------------------------------------------------
    def next(self) -> None:
        self.emit(Prim.NEXT)

    def jump(self, target: Value) -> None:
        """Complete the instruction and go on at `target` (64 bits, an offset in CS)."""
        self.emit(Prim.JUMP, args=(self.value(target, 64),))

    def return_(self, *values: Value) -> None:
        self.emit(Prim.RETURN, args=values)

    def fault(self, vector: int, error_code: Value | int | None = None) -> None:
        """Raise exception `vector`; nothing of the instruction has happened."""
        args = () if error_code is None else (self.value(error_code, 32),)
        self.emit(Prim.FAULT, args=args, attr=vector)

    def fault_if(
        self, condition: Value, vector: int, error_code: Value | int | None = None
    ) -> None:
        with self.if_(condition):
            self.fault(vector, error_code)

    def raised(self) -> None:
        """End with the event whose slots are already filled."""
        self.emit(Prim.RAISED)

    def exit(self, reason: int) -> None:
        """VM exit with a basic reason; the exit_* slots are already filled."""
        self.emit(Prim.EXIT, attr=reason)

    # --- ops ---------------------------------------------------------------------------------
    def emit(
        self,
        prim: Prim,
        *,
        dst: tuple[int, ...] = (),
        width: int = 0,
        args: tuple[Value, ...] = (),
        attr: object = None,
    ) -> None:
        self.ops.append(Op(prim, dst, width, tuple(a.temp for a in args), attr))

    def emit1(
        self,
        prim: Prim,
        width: int,
        args: tuple[Value, ...] = (),
        *,
        attr: object = None,
        operand_width: int = 0,
    ) -> Value:
        temp = self._new()
        temps = tuple(a.temp for a in args)
        self.ops.append(Op(prim, (temp,), width, temps, attr, operand_width))
        return Value(self, temp, width)

    def _new(self) -> int:
        self._next += 1
        return self._next - 1

    def ended(self) -> bool:
        """Whether the last op at the top level is an end."""
        return bool(self.ops) and self.ops[-1].prim in ENDS

    def program(self, results: tuple[int, ...] = ()) -> Program:
        """The finished program."""
        return Program(
            name=self.name,
            ops=tuple(self.ops),
            params=self.params,
            results=results,
            variables=tuple(self._variables),
            temps=self._next,
            alone=self.alone,
            resync=self.is_resync,
            falls_through=any(op.prim is Prim.NEXT for op in self.ops),
            specialised=self.specialised,
        )


_ZERO_IS_NEUTRAL = frozenset(
    {Prim.ADD, Prim.SUB, Prim.OR, Prim.XOR, Prim.SHL, Prim.SHR, Prim.SAR, Prim.ROL, Prim.ROR}
)
assert set(PURE) >= COMPARISONS

RoutineBody = Callable[..., None]


def routine_(
    *params: int, results: tuple[int, ...] = (), name: str = ""
) -> Callable[[RoutineBody], RoutineBody]:
    """Decorate a function (builder, *arguments) that writes a routine of the algebra.

    `params` and `results` are widths in bits. The routine is called by the function's name
    (or `name`) and must end every path with `return_`, a fault or an exit.
    """

    def decorate(body: RoutineBody) -> RoutineBody:
        label = name or body.__name__

        def build() -> Program:
            builder = Builder(label, params)
            body(builder, *(builder.param(n) for n in range(len(params))))
            program = builder.program(results)
            verify(program)
            return program

        register_routine(label, build, results)
        return body

    return decorate
