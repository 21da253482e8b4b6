"""Choosing the form GNU as would choose for a mnemonic and its operands.

Candidates are forms whose slots accept the operands; the winner has the least
(penalty, length, immediate preference, code number). Choices are cached on what the
candidates can depend on. Knows nothing of sections or symbols.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from iced_x86 import EncodingKind, Register

from asm import forms
from asm.encode import encode
from asm.errors import SourceError
from asm.expressions import Linear, fits_in
from asm.forms import Form, ImmediateShape, MemoryShape, Slot
from asm.operands import (
    PLAIN,
    Decoration,
    FarPointer,
    Immediate,
    Memory,
    Operand,
    RegisterOperand,
    Target,
)
from asm.registers import REGISTER_CLASS, RegisterClass, general_width

_VECTORS = {RegisterClass.XMM: Register.XMM0, RegisterClass.YMM: Register.YMM0}


@dataclass(frozen=True, slots=True)
class Request:
    """One instruction to match. `suffix` is the operand size in bits a suffix asked for."""

    mnemonic: str
    operands: tuple[Operand, ...]
    mode: int
    decoration: Decoration = PLAIN
    suffix: int = 0
    absolute: bool = False  # movabs


# --- does a slot accept an operand?


def _accepts_extended(value: int, size: int, extended: int) -> bool:
    if extended < 8 and not fits_in(value, extended):
        return False
    modulus = 1 << (8 * extended)
    low = value & ((1 << (8 * size)) - 1)
    if low >> (8 * size - 1):
        low -= 1 << (8 * size)
    return (value - low) % modulus == 0


def _accepts_immediate(shape: ImmediateShape, value: int | None, request: Request) -> bool:
    if request.absolute:
        return shape.size == 8
    if value is None:
        return shape.size != 0 and not (shape.size == 1 and shape.extended)
    if shape.size == 0:
        return value == 1
    if shape.extended:
        return _accepts_extended(value, shape.size, shape.extended)
    return shape.size == 8 or fits_in(value, shape.size)


def _accepts_register(slot: Slot, register: int, form: Form) -> bool:
    if slot.fixed_register:
        return register == slot.fixed_register
    register_class = REGISTER_CLASS[register]
    if slot.register_class is not register_class:
        return False
    if form.encoding != EncodingKind.EVEX and register_class in _VECTORS:
        return register - _VECTORS[register_class] < 16
    return True


def _accepts_memory(slot: Slot, memory: Memory, form: Form, request: Request) -> bool:
    shape = slot.memory
    if shape is None:
        return False
    if shape is MemoryShape.MOFFS:
        if memory.base or memory.index:
            return False
        if request.mode == 64 and not request.absolute:
            value = memory.constant
            if value is None or -(1 << 31) <= value < 1 << 31:
                return False
    elif request.absolute:
        return False
    if shape is MemoryShape.STRING and not memory.base:
        return False
    index_class = REGISTER_CLASS[memory.index] if memory.index else None
    if (shape is MemoryShape.VSIB) != (index_class in _VECTOR_INDEX):
        return False
    if slot.index_class and slot.index_class is not index_class:
        return False
    return _accepts_size(memory.size, form, request.decoration)


_VECTOR_INDEX = {RegisterClass.XMM, RegisterClass.YMM, RegisterClass.ZMM}


def _accepts_size(size: int, form: Form, decoration: Decoration) -> bool:
    if decoration.broadcast:
        if not form.broadcast_size or size not in (0, form.broadcast_size):
            return False
        return form.memory_size == form.broadcast_size * decoration.broadcast
    if size == -1:  # far ptr
        return ":" in form.text
    if size and form.memory_size and size != form.memory_size:
        return form.memory_size == 10 and size == 6
    return True


def _branch_width(request: Request) -> int:
    """The operand size of a branch in bits; the suffix of LOOP is an address size instead."""
    return request.mode if request.mnemonic.startswith("loop") else request.suffix or request.mode


def _accepts(form: Form, request: Request) -> bool:
    if len(form.slots) != len(request.operands):
        return False
    for slot, operand in zip(form.slots, request.operands, strict=True):
        match operand:
            case RegisterOperand(register):
                ok = _accepts_register(slot, register, form)
            case Memory():
                ok = _accepts_memory(slot, operand, form, request)
            case Immediate():
                shape = slot.immediate
                ok = shape is not None and _accepts_immediate(shape, operand.constant, request)
            case Target():
                ok = slot.branch is not None and slot.branch.suits(_branch_width(request))
            case FarPointer():
                ok = slot.far_width != 0
        if not ok:
            return False
    return True


# --- which acceptable form does GNU as prefer?

_MODE_SIZED = frozenset(["ret", "leave", "enter", "lgdt", "lidt", "sgdt", "sidt"])
_PROTECTED_SIZED = frozenset(["retf", "fldenv", "fstenv", "fnstenv", "frstor", "fsave", "fnsave"])
_ADDRESS_SIZED = frozenset(["loop", "loope", "loopne", "monitor", "mwait", "monitorx"])
_SHORT_FORM_ONLY_EVEX = ("vpmadd52", "vpdpb", "vpdpw")


def _penalty(form: Form, request: Request, length: int) -> int:
    name, operands, mode = form.mnemonic, request.operands, request.mode
    penalty = 300 * form.obsolete
    if form.encoding == EncodingKind.EVEX:
        penalty += 100
    elif form.encoding == EncodingKind.VEX:
        penalty += 200 if form.text.startswith(_SHORT_FORM_ONLY_EVEX) else 0
        penalty += 500 if request.decoration != PLAIN else 0
    first = operands[0] if operands else None
    size = request.suffix
    if not size and form.operand_size:
        penalty += 50 * (form.operand_size != _default_operand_size(form, first, mode))
    if name in ("call", "jmp") and isinstance(first, Memory) and first.size == 0:
        penalty += 50 * _far(form)
    if isinstance(first, FarPointer):
        penalty += 50 * (form.slots[0].far_width != min(mode, 32))
    if name in _ADDRESS_SIZED and form.address_size:
        penalty += 50 * (form.address_size != mode)
    if name in ("ltr", "lldt", "lmsw", "verr", "verw") and isinstance(first, RegisterOperand):
        penalty += 50 * (form.operand_size == 16 and mode != 16)
    if name == "xchg" and mode == 64 and length == 1 and _both(operands, Register.EAX):
        penalty += 50
    return penalty


def _default_operand_size(form: Form, first: Operand | None, mode: int) -> int:
    """The operand size GNU as assumes where nothing in the source tells it."""
    name = form.mnemonic
    if name in ("push", "pop", "call", "jmp") and _unsized(first) and not _far(form):
        return mode
    if name in _MODE_SIZED:
        return max(mode, 32) if isinstance(first, Memory) and first.size == 6 else mode
    if name in _PROTECTED_SIZED:
        return min(mode, 32)
    return form.operand_size


def _far(form: Form) -> bool:
    return ":" in form.text


def _unsized(operand: Operand | None) -> bool:
    if isinstance(operand, RegisterOperand):
        return REGISTER_CLASS[operand.register] is RegisterClass.SEG
    return isinstance(operand, Immediate) or (isinstance(operand, Memory) and operand.size <= 0)


def _both(operands: Sequence[Operand], register: int) -> bool:
    return all(isinstance(o, RegisterOperand) and o.register == register for o in operands)


def _tie(form: Form, request: Request) -> int:
    """Prefer 83 /n ib over the accumulator form, and movq without REX.W."""
    tie = 1
    for slot, operand in zip(form.slots, request.operands, strict=True):
        shape = slot.immediate
        if shape is None:
            continue
        if shape.size == 1 and shape.extended:
            tie = 0
        if isinstance(operand, Immediate) and operand.constant is None:
            tie += 4 * (shape.size != 4) + 4 * (shape.size == 1)
    if form.mnemonic in ("movq", "vmovq"):
        tie += 2 * (form.operand_size == 64) + 2 * form.wide
    return tie


def _symbolic_penalty(form: Form, request: Request) -> int:
    """A symbol wants the widest ordinary field, not 8 bits and not a 64-bit immediate."""
    penalty = 0
    for slot, operand in zip(form.slots, request.operands, strict=True):
        if slot.immediate and isinstance(operand, Immediate) and operand.constant is None:
            penalty += 40 * (slot.immediate.size == 1) + 20 * (slot.immediate.size == 8)
    return penalty


# --- ambiguity and failure

_SIZE_FREE = frozenset(
    ("push", "pop", "call", "jmp", "lgdt", "sgdt", "lidt", "sidt", "fxsave", "fxrstor",
     "fldenv", "fstenv", "fnstenv", "frstor", "fsave", "fnsave", "ltr", "lldt", "lmsw", "verr",
     "verw", "str", "sldt", "smsw", "invlpg")
)  # fmt: skip


def _check_ambiguity(found: list[Form], request: Request) -> None:
    has_register = any(isinstance(operand, RegisterOperand) for operand in request.operands)
    if has_register and request.mnemonic not in ("movsx", "movzx"):
        return
    for index, operand in enumerate(request.operands):
        if isinstance(operand, Memory) and operand.size == 0 and not request.suffix:
            sizes = {form.memory_size for form in found if form.memory_size}
            if len(sizes) > 1 and found[0].mnemonic not in _SIZE_FREE:
                raise SourceError(
                    f"the operand size of '{request.mnemonic}' is ambiguous; "
                    "add 'byte ptr', 'word ptr', 'dword ptr' or 'qword ptr'",
                    operand=index,
                )


def _refusal(candidates: list[Form], request: Request) -> SourceError:
    counts = {len(form.slots) for form in candidates}
    name = request.mnemonic
    if len(request.operands) not in counts:
        expected = " or ".join(str(count) for count in sorted(counts))
        return SourceError(
            f"'{name}' takes {expected} operand(s), not {len(request.operands)}",
            operand=min(counts) if len(request.operands) > max(counts) else None,
        )
    same_count = [form for form in candidates if len(form.slots) == len(request.operands)]
    bad, closest = _first_bad(same_count, request)
    operand = request.operands[bad] if bad is not None else None
    if isinstance(operand, Immediate) and any(f.slots[bad or 0].immediate for f in closest):
        value = operand.constant
        return SourceError(f"value {value or 0:#x} does not fit this operand", operand=bad)
    if isinstance(operand, Memory) and _bare_symbol(operand):
        symbol = _bare_symbol(operand)
        return SourceError(
            f"'{symbol}' names memory here, which '{name}' does not take; write 'offset {symbol}' "
            "for its address, or define it before this line if it is a number",
            operand=bad,
        )
    shown = list(dict.fromkeys(form.text for form in closest))
    more = "; ..." if len(shown) > 5 else ""
    return SourceError(
        f"no form of '{name}' takes these operands; it takes: {'; '.join(shown[:5])}{more}",
        operand=bad,
    )


def _bare_symbol(memory: Memory) -> str:
    if memory.base or memory.index or not isinstance(memory.displacement, Linear):
        return ""
    return next((symbol.name for symbol, _ in memory.displacement.terms), "")


def _first_bad(candidates: list[Form], request: Request) -> tuple[int | None, list[Form]]:
    """The operand at which the last surviving forms give up, and those forms."""
    survivors = candidates
    for index, operand in enumerate(request.operands):
        alone = replace(request, operands=(operand,))
        accepting = [form for form in survivors if _accepts(_only(form, index), alone)]
        if not accepting:
            return index, survivors
        survivors = accepting
    return None, survivors


def _only(form: Form, index: int) -> Form:
    return replace(form, slots=(form.slots[index],))


# --- the choice and its cache

_choices: dict[tuple[object, ...], Form] = {}
_LIMITS = (-(1 << 31), -(1 << 15), -128, 1, 2, 128, 256, 0xFF80, 1 << 15, 1 << 16,
           0xFFFFFF80, 1 << 31, 1 << 32)  # fmt: skip


def _immediate_key(value: int | None) -> object:
    return None if value is None else tuple(value >= limit for limit in _LIMITS)


def _key(request: Request) -> tuple[object, ...]:
    parts: list[object] = [
        request.mnemonic, request.mode, request.decoration, request.suffix, request.absolute,
    ]  # fmt: skip
    for operand in request.operands:
        match operand:
            case RegisterOperand(register):
                parts.append(register)
            case Memory(size, _, base, index, _, _):
                value = operand.constant
                parts += [
                    "m", size, base and REGISTER_CLASS[base], index and REGISTER_CLASS[index],
                    value is not None and -(1 << 31) <= value < 1 << 31,
                    value is None,
                ]  # fmt: skip
            case Immediate():
                parts += ["i", _immediate_key(operand.constant)]
            case _:
                parts.append(type(operand))
    return tuple(parts)


def choose(request: Request) -> Form:
    """The form GNU as uses. Raises SourceError when there is none or the size is unclear."""
    key = _key(request)
    found = _choices.get(key)
    if found is None:
        found = _choices[key] = _choose(request)
    return found


def _choose(request: Request) -> Form:
    candidates = forms.forms_of(request.mnemonic, request.mode)
    accepted = [form for form in candidates if _accepts(form, request)]
    if request.suffix:
        accepted = [form for form in accepted if _has_suffix(form, request)]
    elif request.mnemonic == "push" and _is_immediate(request.operands):
        accepted = [form for form in accepted if form.operand_size == request.mode]
        if not accepted:
            raise SourceError(f"value does not fit this operand in {request.mode}-bit code")
    if not accepted:
        raise _refusal(candidates, request)
    _check_ambiguity(accepted, request)
    best: tuple[tuple[int, int, int, int], Form] | None = None
    failure = ""
    for form in accepted:
        try:
            length = len(encode(form, request.operands, request.mode, request.decoration).data)
        except SourceError as error:
            failure = error.message
            continue
        penalty = _penalty(form, request, length) + _symbolic_penalty(form, request)
        rank = (penalty, length, _tie(form, request), form.code)
        if best is None or rank < best[0]:
            best = rank, form
    if best is None:
        raise SourceError(f"'{request.mnemonic}' cannot be encoded so: {failure}")
    return best[1]


def _is_immediate(operands: Sequence[Operand]) -> bool:
    return len(operands) == 1 and isinstance(operands[0], Immediate)


def _has_suffix(form: Form, request: Request) -> bool:
    if form.mnemonic.startswith("loop"):
        return form.address_size == request.suffix
    if request.suffix == 8:
        return form.memory_size == 1 or _byte_registers(request)
    if form.operand_size:
        return form.operand_size == request.suffix
    return form.memory_size * 8 == request.suffix


def _byte_registers(request: Request) -> bool:
    return any(
        isinstance(o, RegisterOperand) and general_width(o.register) == 1 for o in request.operands
    )
