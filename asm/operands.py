"""Operand trees to operands: registers, immediates, memory references, branch targets.

Knows Intel operand syntax as GNU as reads it; knows nothing of instruction forms.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TypeAlias

from iced_x86 import Register

from asm import syntax
from asm.errors import SourceError
from asm.expressions import (
    Linear,
    Scope,
    Value,
    combine,
    combine_scaled,
    evaluate,
)
from asm.parse import SIZES
from asm.registers import REGISTER_CLASS, REGISTER_NAME, RegisterClass


@dataclass(frozen=True, slots=True)
class RegisterOperand:
    register: int


@dataclass(frozen=True, slots=True)
class Immediate:
    value: Value

    @property
    def constant(self) -> int | None:
        """The number, or None when it depends on symbols."""
        value = self.value
        return value.constant if isinstance(value, Linear) and not value.terms else None


@dataclass(frozen=True, slots=True)
class Memory:
    """[segment: base + index * scale + displacement]; size in bytes, 0 when not given."""

    size: int
    segment: int
    base: int
    index: int
    scale: int
    displacement: Value

    @property
    def constant(self) -> int | None:
        value = self.displacement
        return value.constant if isinstance(value, Linear) and not value.terms else None


@dataclass(frozen=True, slots=True)
class Target:
    """Where a relative branch goes."""

    value: Value


@dataclass(frozen=True, slots=True)
class FarPointer:
    selector: Value
    offset: Value


Operand: TypeAlias = RegisterOperand | Immediate | Memory | Target | FarPointer


@dataclass(frozen=True, slots=True)
class Decoration:
    """AVX-512 extras of the whole instruction."""

    mask: int = 0
    zeroing: bool = False
    broadcast: int = 0
    rounding: str = ""


PLAIN = Decoration()

_ADDRESS_CLASSES = {RegisterClass.R16, RegisterClass.R32, RegisterClass.R64, RegisterClass.IP}
_VECTOR_CLASSES = {RegisterClass.XMM, RegisterClass.YMM, RegisterClass.ZMM}


@dataclass(slots=True)
class _Reading:
    """What walking one operand tree has seen so far."""

    size: int | None = None
    segment: int = 0
    bracketed: bool = False
    offset: bool = False
    far: FarPointer | None = None
    registers: list[tuple[int, int, bool]] = field(default_factory=list)


def _walk(tree: syntax.Expression, reading: _Reading, scope: Scope) -> Value:
    match tree:
        case syntax.RegisterName(register):
            reading.registers.append((register, 1, False))
            return Linear(0)
        case syntax.Bracket(inner):
            reading.bracketed = True
            return _walk(inner, reading, scope)
        case syntax.Sized(size, operand, _):
            reading.size = size
            return _walk(operand, reading, scope)
        case syntax.Offset(operand):
            reading.offset = True
            return _walk(operand, reading, scope)
        case syntax.Pair(left, right):
            return _walk_pair(left, right, reading, scope)
        case syntax.Binary("+", syntax.Name(name, _), syntax.Bracket()) if name.lower() in SIZES:
            raise SourceError(f"'{name}' needs 'ptr': write '{name} ptr [...]'", name=name)
        case syntax.Binary("+", left, right):
            return combine("+", _walk(left, reading, scope), _walk(right, reading, scope))
        case syntax.Binary("-", left, right):
            value = _walk(left, reading, scope)
            before = len(reading.registers)
            subtracted = _walk(right, reading, scope)
            if len(reading.registers) > before:
                name = REGISTER_NAME[reading.registers[before][0]]
                raise SourceError(f"register '{name}' cannot be subtracted", name=name)
            return combine("-", value, subtracted)
        case syntax.Binary("*", left, right):
            return _walk_product(left, right, reading, scope)
        case syntax.Binary(operator, left, right):
            if _has_register(left) or _has_register(right):
                raise SourceError(f"operator '{operator}' cannot be applied to a register")
            left_value, right_value = _walk(left, reading, scope), _walk(right, reading, scope)
            return combine(operator, left_value, right_value)
        case _:
            return evaluate(tree, scope)


def _walk_pair(
    left: syntax.Expression, right: syntax.Expression, reading: _Reading, scope: Scope
) -> Value:
    if isinstance(left, syntax.RegisterName):
        name = REGISTER_NAME[left.register]
        if REGISTER_CLASS[left.register] is not RegisterClass.SEG:
            raise SourceError(f"'{name}' is not a segment register", name=name)
        reading.segment = left.register
        return _walk(right, reading, scope)
    reading.far = FarPointer(evaluate(left, scope), evaluate(right, scope))
    return Linear(0)


def _has_register(tree: syntax.Expression) -> bool:
    match tree:
        case syntax.RegisterName():
            return True
        case syntax.Binary(_, left, right) | syntax.Pair(left, right):
            return _has_register(left) or _has_register(right)
        case syntax.Unary(_, inner) | syntax.Bracket(inner) | syntax.Offset(inner):
            return _has_register(inner)
        case syntax.Sized(_, inner, _):
            return _has_register(inner)
        case _:
            return False


def _walk_product(
    left: syntax.Expression, right: syntax.Expression, reading: _Reading, scope: Scope
) -> Value:
    if _has_register(right):
        left, right = right, left
    if not _has_register(left):
        return combine("*", _walk(left, reading, scope), _walk(right, reading, scope))
    factor = _walk(right, reading, scope)
    if not isinstance(factor, Linear) or factor.terms:
        raise SourceError("a scale factor must be a number known here")
    scale = factor.constant
    inner = _Reading()
    value = combine_scaled(_walk(left, inner, scope), scale)
    reading.bracketed |= inner.bracketed
    for register, multiple, _ in inner.registers:
        if multiple * scale not in (1, 2, 4, 8):
            raise SourceError(f"scale factor must be 1, 2, 4 or 8, not {multiple * scale}")
        reading.registers.append((register, multiple * scale, True))
    return value


def _base_and_index(registers: list[tuple[int, int, bool]]) -> tuple[int, int, int]:
    base = index = 0
    scale = 1
    for register, multiple, explicit in registers:
        register_class = REGISTER_CLASS[register]
        name = REGISTER_NAME[register]
        if register_class not in _ADDRESS_CLASSES and register_class not in _VECTOR_CLASSES:
            raise SourceError(f"'{name}' cannot be used in an address", name=name)
        if not explicit and not base and register_class not in _VECTOR_CLASSES:
            base = register
        elif not index:
            index, scale = register, multiple
        elif multiple == 1 and not base and register_class not in _VECTOR_CLASSES:
            base = register
        else:
            raise SourceError(f"'{name}' is one register too many in this address", name=name)
    return _legal_pair(base, index, scale)


_STACK_POINTERS = (Register.RSP, Register.ESP)


def _legal_pair(base: int, index: int, scale: int) -> tuple[int, int, int]:
    if index in _STACK_POINTERS:
        if scale != 1 or base in _STACK_POINTERS:
            name = REGISTER_NAME[index]
            raise SourceError(f"'{name}' cannot be an index register", name=name)
        base, index = index, base
    if base and index:
        base_class, index_class = REGISTER_CLASS[base], REGISTER_CLASS[index]
        if base_class is not index_class and index_class not in _VECTOR_CLASSES:
            name = REGISTER_NAME[index]
            raise SourceError(f"'{name}' and the base register differ in width", name=name)
        if RegisterClass.IP in (base_class, index_class):
            raise SourceError("an instruction-pointer address takes no other register")
        if index in (Register.BX, Register.BP) and scale == 1:
            base, index = index, base
    _check_16_bit(base, index, scale)
    return base, index, scale


_LEGAL_16 = {
    (Register.BX, Register.SI), (Register.BX, Register.DI), (Register.BP, Register.SI),
    (Register.BP, Register.DI), (Register.SI, 0), (Register.DI, 0), (Register.BP, 0),
    (Register.BX, 0),
}  # fmt: skip


def _check_16_bit(base: int, index: int, scale: int) -> None:
    first = base or index
    if first and REGISTER_CLASS[first] is RegisterClass.R16:
        pair = (base, index) if base else (index, 0)
        if pair not in _LEGAL_16 or scale != 1:
            name = REGISTER_NAME[first]
            raise SourceError(f"'{name}' does not form a 16-bit address", name=name)


def read_operand(tree: syntax.Expression, scope: Scope, *, is_branch: bool) -> Operand:
    """The operand a tree denotes. A bare symbol is memory, except as a branch target."""
    if isinstance(tree, syntax.RegisterName):
        return RegisterOperand(tree.register)
    reading = _Reading()
    value = _walk(tree, reading, scope)
    if reading.far is not None:
        if reading.registers:
            raise SourceError("a far pointer takes no registers")
        return FarPointer(reading.far.selector, combine("+", reading.far.offset, value))
    if reading.offset and not reading.registers:
        return Immediate(value)
    size = reading.size
    is_jump_hint = size == 0 or size == -1
    names_place = isinstance(value, Linear) and [c for _, c in value.terms] == [1]
    is_plain = not reading.bracketed and not reading.registers and not reading.segment
    if is_branch and is_plain and (size is None or is_jump_hint):
        if size == -1:
            raise SourceError("a far target needs its segment: write selector:offset")
        return Target(value)
    is_memory = reading.bracketed or reading.registers or reading.segment or names_place
    if not is_memory:
        return Immediate(value)
    if (
        len(reading.registers) == 1
        and not reading.bracketed
        and not reading.segment
        and isinstance(tree, syntax.Sized)
        and isinstance(tree.operand, syntax.RegisterName)
    ):
        return RegisterOperand(tree.operand.register)
    if reading.registers and not reading.bracketed:
        name = REGISTER_NAME[reading.registers[0][0]]
        raise SourceError(f"register '{name}' needs brackets to form an address", name=name)
    base, index, scale = _base_and_index(reading.registers)
    return Memory(-1 if size == -1 else size or 0, reading.segment, base, index, scale, value)


_BROADCAST = re.compile(r"1to([0-9]{1,2})")
_ROUNDING = {"rn-sae": "rn", "rd-sae": "rd", "ru-sae": "ru", "rz-sae": "rz", "sae": "sae"}


def read_decorations(words: list[tuple[str, int]]) -> Decoration:
    """The braces of an instruction; `words` pairs each with its operand's index."""
    mask, zeroing, broadcast, rounding = 0, False, 0, ""
    for word, operand in words:
        match = _BROADCAST.fullmatch(word)
        if re.fullmatch(r"k[1-7]", word):
            mask = int(word[1])
        elif word == "z":
            zeroing = True
        elif match:
            broadcast = int(match[1])
        elif word in _ROUNDING:
            rounding = _ROUNDING[word]
        else:
            raise SourceError(f"'{{{word}}}' is not a known decoration", operand=operand)
    return Decoration(mask, zeroing, broadcast, rounding)
