"""Expression values: constants, symbols with coefficients, and what must wait for layout.

Arithmetic is GNU as's: 64-bit two's complement, comparisons give -1 for true. Knows nothing
of text; a `Scope` says what names mean.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from asm import syntax
from asm.errors import SourceError
from asm.fragments import Fill, Fragment, Symbol
from asm.registers import REGISTER_NAME

_MASK = (1 << 64) - 1
_SIGN = 1 << 63


def wrap(value: int) -> int:
    """Reduce to a signed 64-bit value."""
    return ((value + _SIGN) & _MASK) - _SIGN


@dataclass(frozen=True, slots=True)
class Linear:
    """constant + the sum of coefficient * symbol. `modifier` is a relocation name like PLT."""

    constant: int
    terms: tuple[tuple[Symbol, int], ...] = ()
    modifier: str = ""


@dataclass(frozen=True, slots=True)
class Deferred:
    """An operation on values that layout has yet to make constant."""

    operator: str
    left: Value
    right: Value | None


Value: TypeAlias = Linear | Deferred


class Scope(Protocol):
    """What names in an expression refer to."""

    def symbol(self, name: str) -> Symbol: ...

    def local(self, number: int, forward: bool) -> Symbol: ...

    def here(self) -> Symbol: ...


def _divide(a: int, b: int) -> int:
    if b == 0:
        raise SourceError("division by zero")
    quotient = abs(a) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient


def _shift_left(a: int, b: int) -> int:
    return a << b if 0 <= b < 64 else 0


def _shift_right(a: int, b: int) -> int:
    return (a & _MASK) >> b if 0 <= b < 64 else 0


_BINARY: dict[str, Callable[[int, int], int]] = {
    "*": operator.mul,
    "/": _divide,
    "%": lambda a, b: a - b * _divide(a, b),
    "<<": _shift_left,
    ">>": _shift_right,
    "|": operator.or_,
    "&": operator.and_,
    "^": operator.xor,
    "!": lambda a, b: a | ~b,
    "+": operator.add,
    "-": operator.sub,
    "==": lambda a, b: -(a == b),
    "!=": lambda a, b: -(a != b),
    "<": lambda a, b: -(a < b),
    "<=": lambda a, b: -(a <= b),
    ">": lambda a, b: -(a > b),
    ">=": lambda a, b: -(a >= b),
    "&&": lambda a, b: int(bool(a and b)),
    "||": lambda a, b: int(bool(a or b)),
}
_UNARY: dict[str, Callable[[int], int]] = {
    "-": operator.neg,
    "+": operator.pos,
    "~": operator.invert,
    "!": lambda a: int(not a),
}


def _fixed_distance(a: Fragment, b: Fragment) -> int | None:
    """Bytes from the start of `a` to the start of `b`, if layout cannot change them."""
    if a is b:
        return 0
    if a.section is not b.section:
        return None
    if a.index > b.index:
        distance = _fixed_distance(b, a)
        return None if distance is None else -distance
    for fragments in a.section.subsections.values():
        if a.index < len(fragments) and fragments[a.index] is a:
            break
    else:
        return None
    if b.index >= len(fragments) or fragments[b.index] is not b:
        return None
    total = 0
    for fragment in fragments[a.index : b.index]:
        tail, size = fragment.tail, 0
        if isinstance(tail, Fill) and isinstance(tail.count, Linear) and not tail.count.terms:
            size = max(tail.count.constant, 0) * len(tail.pattern)
        elif tail is not None:
            return None
        total += len(fragment.data) + size
    return total


def simplify(value: Linear) -> Linear:
    """Merge terms and replace differences of labels at a fixed distance by that distance."""
    if len(value.terms) < 2:
        return value
    coefficients: dict[Symbol, int] = {}
    for symbol, coefficient in value.terms:
        coefficients[symbol] = coefficients.get(symbol, 0) + coefficient
    terms = [(s, c) for s, c in coefficients.items() if c]
    constant = value.constant
    if len(terms) == 2 and terms[0][1] == -terms[1][1]:
        (a, scale), (b, _) = terms
        if a.fragment is not None and b.fragment is not None:
            distance = _fixed_distance(b.fragment, a.fragment)
            if distance is not None:
                constant += scale * (distance + a.offset - b.offset)
                terms = []
    return Linear(wrap(constant), tuple(terms), value.modifier)


def combine(symbol: str, left: Value, right: Value) -> Value:
    """Apply a binary operator, deferring it when it needs layout."""
    if isinstance(left, Linear) and isinstance(right, Linear):
        if symbol == "+":
            return simplify(
                Linear(
                    wrap(left.constant + right.constant),
                    left.terms + right.terms,
                    left.modifier or right.modifier,
                )
            )
        if symbol == "-":
            negated = tuple((s, -c) for s, c in right.terms)
            return simplify(
                Linear(wrap(left.constant - right.constant), left.terms + negated, left.modifier)
            )
        if not left.terms and not right.terms:
            return Linear(wrap(_BINARY[symbol](left.constant, right.constant)))
        difference = combine("-", left, right)
        if symbol in _COMPARISONS and isinstance(difference, Linear) and not difference.terms:
            return Linear(_BINARY[symbol](difference.constant, 0))
    return Deferred(symbol, left, right)


_COMPARISONS = frozenset({"==", "!=", "<", "<=", ">", ">="})


def apply_unary(symbol: str, operand: Value) -> Value:
    """Apply a unary operator, deferring it when it needs layout."""
    if isinstance(operand, Linear):
        if not operand.terms:
            return Linear(wrap(_UNARY[symbol](operand.constant)))
        if symbol == "-":
            return Linear(wrap(-operand.constant), tuple((s, -c) for s, c in operand.terms))
        if symbol == "+":
            return operand
    return Deferred(symbol, operand, None)


def symbol_value(symbol: Symbol) -> Value:
    """The value a reference to `symbol` has now."""
    if symbol.value is not None and not symbol.preemptible:
        return symbol.value
    if isinstance(symbol.value, Linear) and not symbol.value.terms:
        return symbol.value
    return Linear(0, ((symbol, 1),))


def evaluate(tree: syntax.Expression, scope: Scope) -> Value:
    """The value of an expression without registers. Raises SourceError."""
    match tree:
        case syntax.Number(value):
            if not -_SIGN <= value <= _MASK:
                raise SourceError(f"number {value:#x} does not fit 64 bits")
            return Linear(wrap(value))
        case syntax.Name(name, modifier):
            meaning = symbol_value(scope.symbol(name))
            if modifier:
                if not isinstance(meaning, Linear) or not meaning.terms:
                    raise SourceError(f"'@{modifier}' needs a symbol", name=name)
                return Linear(meaning.constant, meaning.terms, modifier)
            return meaning
        case syntax.LocalReference(number, forward):
            return Linear(0, ((scope.local(number, forward), 1),))
        case syntax.Here():
            return Linear(0, ((scope.here(), 1),))
        case syntax.Unary(symbol, operand):
            return apply_unary(symbol, evaluate(operand, scope))
        case syntax.Binary(symbol, left, right):
            return combine(symbol, evaluate(left, scope), evaluate(right, scope))
        case syntax.Sized(_, operand, _) | syntax.Offset(operand):
            return evaluate(operand, scope)
        case syntax.RegisterName(register):
            name = REGISTER_NAME[register]
            raise SourceError(f"register '{name}' cannot stand in this expression", name=name)
        case syntax.Bracket():
            raise SourceError("brackets cannot stand in this expression")
        case syntax.Pair():
            raise SourceError("':' cannot stand in this expression")


def constant(value: Value) -> int:
    """The value as a number. Raises SourceError when it is not known yet."""
    if isinstance(value, Linear) and not value.terms:
        return value.constant
    name = next(iter(symbols_of(value))).name
    raise SourceError(f"this must be a number known here, but it depends on '{name}'", name=name)


def symbols_of(value: Value) -> list[Symbol]:
    """Every symbol a value mentions."""
    if isinstance(value, Linear):
        return [symbol for symbol, _ in value.terms]
    right = symbols_of(value.right) if value.right is not None else []
    return symbols_of(value.left) + right


def resolve(value: Value, place: Callable[[Symbol], Value]) -> Value:
    """Re-evaluate a value, asking `place` for the meaning of each symbol."""
    if isinstance(value, Linear):
        result: Value = Linear(value.constant, (), value.modifier)
        for symbol, coefficient in value.terms:
            meaning = place(symbol)
            scaled = meaning if coefficient == 1 else combine_scaled(meaning, coefficient)
            result = combine("+", result, scaled)
        return result
    left = resolve(value.left, place)
    if value.right is None:
        return apply_unary(value.operator, left)
    return combine(value.operator, left, resolve(value.right, place))


def combine_scaled(value: Value, coefficient: int) -> Value:
    """coefficient * value."""
    if isinstance(value, Linear):
        return Linear(
            wrap(value.constant * coefficient),
            tuple((s, c * coefficient) for s, c in value.terms),
            value.modifier,
        )
    return Deferred("*", value, Linear(coefficient))


def fits_in(value: int, size: int) -> bool:
    """Whether a number can be written in `size` bytes, signed or unsigned."""
    return -(1 << (8 * size - 1)) <= value < (1 << (8 * size))
