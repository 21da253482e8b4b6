"""GNU as's habits: operands it supplies, swaps or narrows before a form is chosen.

Each rule rewrites (mnemonic, operands) into another such pair that the form tables know.
Knows nothing of encodings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

from iced_x86 import Register

from asm.errors import SourceError
from asm.expressions import Linear
from asm.operands import FarPointer, Immediate, Memory, Operand, RegisterOperand, Target
from asm.registers import REGISTER_CLASS, RESIZABLE, RegisterClass, general_width, resized

Line: TypeAlias = tuple[str, list[Operand]]
Rule: TypeAlias = Callable[[str, list[Operand], int], Line]

_RULES: dict[str, Rule] = {}
_ACCUMULATOR = {1: Register.AL, 2: Register.AX, 4: Register.EAX, 8: Register.RAX}
_STRING_ADDRESS = {
    16: (Register.DI, Register.SI),
    32: (Register.EDI, Register.ESI),
    64: (Register.RDI, Register.RSI),
}
_STRING_OPERANDS = {
    "movs": "ds", "stos": "da", "lods": "as", "scas": "ad", "cmps": "sd", "ins": "dx", "outs": "xs",
}  # fmt: skip
_SUFFIX_SIZE = {"b": 1, "w": 2, "d": 4, "q": 8}
_SIZE_SUFFIX = {size: suffix for suffix, size in _SUFFIX_SIZE.items()}


def _rule(names: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        for name in names.split():
            _RULES[name] = rule
        return rule

    return register


def apply_idioms(mnemonic: str, operands: list[Operand], mode: int) -> Line:
    """Rewrite one instruction as GNU as would before matching."""
    rule = _RULES.get(mnemonic)
    return rule(mnemonic, operands, mode) if rule else (mnemonic, operands)


def _is(operand: Operand, register_class: RegisterClass) -> bool:
    return isinstance(operand, RegisterOperand) and (
        REGISTER_CLASS[operand.register] is register_class
    )


def _unprefixed(operand: Operand, mode: int) -> Operand:
    """The register at the width that needs no operand-size prefix in this mode."""
    if isinstance(operand, RegisterOperand) and general_width(operand.register) in (2, 4, 8):
        width = RegisterClass.R16 if mode == 16 else RegisterClass.R32
        return RegisterOperand(resized(operand.register, width))
    return operand


@_rule("pushf popf iret pusha popa pushad popad")
def _default_size(mnemonic: str, operands: list[Operand], mode: int) -> Line:
    if mnemonic == "iret":
        return ("iret" if mode == 16 else "iretd"), operands
    if mnemonic in ("pushad", "popad"):
        return mnemonic, operands
    suffix = {16: "", 32: "d", 64: "q"}[mode]
    return mnemonic + suffix, operands


@_rule("pushfw popfw iretw pushaw popaw")
def _sixteen_bit(mnemonic: str, operands: list[Operand], mode: int) -> Line:
    return mnemonic[:-1], operands


@_rule("shl shr sar sal rol ror rcl rcr")
def _shift_by_one(mnemonic: str, operands: list[Operand], mode: int) -> Line:
    if len(operands) == 1:
        operands = [*operands, Immediate(Linear(1))]
    return mnemonic, operands


@_rule("ljmp lcall")
def _far_transfer(mnemonic: str, operands: list[Operand], mode: int) -> Line:
    """A far jump or call: a pointer in memory, or selector and offset as one or two operands."""
    name = mnemonic[1:]
    match operands:
        case [Memory(size=0) as pointer]:
            return name, [replace(pointer, size=-1)]
        case [Target() | Immediate() as selector, Target() | Immediate() as offset]:
            return name, [FarPointer(selector.value, offset.value)]
    return name, operands


@_rule("aam aad")
def _decimal_base(mnemonic: str, operands: list[Operand], mode: int) -> Line:
    return mnemonic, operands or [Immediate(Linear(10))]


@_rule("shld shrd")
def _double_shift(mnemonic: str, operands: list[Operand], mode: int) -> Line:
    if len(operands) == 2:
        operands = [*operands, RegisterOperand(Register.CL)]
    return mnemonic, operands


@_rule("imul")
def _two_operand_imul(mnemonic: str, operands: list[Operand], mode: int) -> Line:
    if len(operands) == 2 and isinstance(operands[1], Immediate):
        operands = [operands[0], *operands]
    return mnemonic, operands


@_rule("int")
def _breakpoint(mnemonic: str, operands: list[Operand], mode: int) -> Line:
    if len(operands) == 1 and isinstance(operands[0], Immediate) and operands[0].constant == 3:
        return "int3", []
    return mnemonic, operands


@_rule("test xadd cmpxchg")
def _memory_first(mnemonic: str, operands: list[Operand], mode: int) -> Line:
    if mnemonic == "test" and len(operands) == 2 and isinstance(operands[1], Memory):
        operands = operands[::-1]
    return mnemonic, operands


@_rule("xchg")
def _exchange(mnemonic: str, operands: list[Operand], mode: int) -> Line:
    if len(operands) != 2:
        return mnemonic, operands
    first, second = operands
    if isinstance(second, Memory):
        return mnemonic, [second, first]
    if isinstance(first, RegisterOperand) and isinstance(second, RegisterOperand):
        accumulators = (Register.AX, Register.EAX, Register.RAX)
        if first.register in accumulators and second.register not in accumulators:
            return mnemonic, [second, first]
        if first.register == second.register == Register.RAX:
            return "nop", []
    return mnemonic, operands


@_rule("mov")
def _segment_move(mnemonic: str, operands: list[Operand], mode: int) -> Line:
    if len(operands) == 2:
        if _is(operands[0], RegisterClass.SEG):
            return mnemonic, [operands[0], _unprefixed(operands[1], mode)]
        if _is(operands[1], RegisterClass.SEG) and _is(operands[0], RegisterClass.R64):
            return mnemonic, [_unprefixed(operands[0], mode), operands[1]]
    return mnemonic, operands


@_rule("ltr lldt lmsw verr verw")
def _selector_source(mnemonic: str, operands: list[Operand], mode: int) -> Line:
    return mnemonic, [_unprefixed(operand, mode) for operand in operands]


@_rule("str sldt")
def _store_selector(mnemonic: str, operands: list[Operand], mode: int) -> Line:
    if operands and _is(operands[0], RegisterClass.R64):
        operands = [_unprefixed(operands[0], mode)]
    return mnemonic, operands


@_rule("lar lsl")
def _load_rights(mnemonic: str, operands: list[Operand], mode: int) -> Line:
    """The source is a selector: its register may be named at any width."""
    if len(operands) == 2 and all(isinstance(o, RegisterOperand) for o in operands):
        destination, source = operands
        assert isinstance(destination, RegisterOperand) and isinstance(source, RegisterOperand)
        if general_width(source.register) in (2, 4, 8):
            register_class = REGISTER_CLASS[destination.register]
            if register_class in RESIZABLE:
                operands = [destination, RegisterOperand(resized(source.register, register_class))]
    return mnemonic, operands


@_rule("arpl")
def _adjust_rpl(mnemonic: str, operands: list[Operand], mode: int) -> Line:
    return mnemonic, [_unprefixed(operand, mode) for operand in operands]


@_rule("movsx")
def _sign_extend(mnemonic: str, operands: list[Operand], mode: int) -> Line:
    if len(operands) == 2:
        source = operands[1]
        if _is(source, RegisterClass.R32) or (isinstance(source, Memory) and source.size == 4):
            return "movsxd", operands
    return mnemonic, operands


@_rule(
    "movmskps movmskpd pmovmskb pextrb pextrw extractps pinsrb pinsrw "
    "vmovmskps vmovmskpd vpmovmskb vpextrb vpextrw vextractps vpinsrb vpinsrw"
)
def _narrow_general_register(mnemonic: str, operands: list[Operand], mode: int) -> Line:
    """The upper half is zero or unused either way, so GNU as saves the REX.W prefix."""
    narrowed = [_unprefixed(o, 32) if _is(o, RegisterClass.R64) else o for o in operands]
    return mnemonic, narrowed


@_rule("xlat xlatb")
def _translate(mnemonic: str, operands: list[Operand], mode: int) -> Line:
    if not operands:
        base = {16: Register.BX, 32: Register.EBX, 64: Register.RBX}[mode]
        operands = [Memory(0, 0, base, 0, 1, Linear(0))]
    return "xlatb", operands


@_rule("monitor mwait monitorx mwaitx vmrun vmload vmsave invlpga skinit clzero")
def _implied_registers(mnemonic: str, operands: list[Operand], mode: int) -> Line:
    """The registers are fixed; only the width of an address register could say something."""
    if mnemonic.startswith("monitor") and operands and isinstance(operands[0], RegisterOperand):
        bits = 8 * (general_width(operands[0].register) or 0)
        if bits != mode:
            raise SourceError(f"for a {bits}-bit address write 'addr{bits} {mnemonic}'", operand=0)
    return mnemonic, []


@_rule("faddp fmulp fsubp fsubrp fdivp fdivrp")
def _x87_pop(mnemonic: str, operands: list[Operand], mode: int) -> Line:
    top, below = RegisterOperand(Register.ST0), RegisterOperand(Register.ST1)
    if not operands:
        return mnemonic, [below, top]
    return mnemonic, [operands[0], top] if len(operands) == 1 else operands


@_rule("fadd fmul fsub fsubr fdiv fdivr")
def _x87_arithmetic(mnemonic: str, operands: list[Operand], mode: int) -> Line:
    top, below = RegisterOperand(Register.ST0), RegisterOperand(Register.ST1)
    if not operands:
        return mnemonic + "p", [below, top]
    if len(operands) == 1 and isinstance(operands[0], RegisterOperand):
        return mnemonic, [top, operands[0]]
    return mnemonic, operands


@_rule("fcom fcomp fucom fucomp fxch fcomi fcomip fucomi fucomip fcmovb fcmove fcmovbe fcmovu")
def _x87_compare(mnemonic: str, operands: list[Operand], mode: int) -> Line:
    if (operands and isinstance(operands[0], Memory)) or len(operands) == 2:
        return mnemonic, operands
    top = RegisterOperand(Register.ST0)
    return mnemonic, [top, *(operands or [RegisterOperand(Register.ST1)])]


@_rule("sha256rnds2 blendvps blendvpd pblendvb")
def _implied_xmm0(mnemonic: str, operands: list[Operand], mode: int) -> Line:
    return mnemonic, operands[:2]


def _string_rule(base: str, suffix: str) -> Rule:
    def rule(mnemonic: str, operands: list[Operand], mode: int) -> Line:
        if any(_is(operand, RegisterClass.XMM) for operand in operands):
            return mnemonic, operands
        if not suffix and not operands:
            raise SourceError(f"'{mnemonic}' needs a size: write {base}b, {base}w or {base}d")
        return _string_instruction(base, suffix, operands, mode)

    return rule


def _string_instruction(base: str, suffix: str, operands: list[Operand], mode: int) -> Line:
    """Replace what the source says by the operands the instruction really has."""
    size = _SUFFIX_SIZE.get(suffix, 0)
    destination, source = _STRING_ADDRESS[mode]
    segment = 0
    for index, operand in enumerate(operands):
        if isinstance(operand, Memory):
            size = size or operand.size
            if operand.base:
                width = {RegisterClass.R16: 16, RegisterClass.R32: 32}.get(
                    REGISTER_CLASS[operand.base], 64
                )
                destination, source = _STRING_ADDRESS[width]
            if operand.base == source:
                segment = operand.segment
            elif operand.base not in (destination, 0):
                raise SourceError("a string instruction addresses [rsi] or [rdi]", operand=index)
        elif isinstance(operand, RegisterOperand) and operand.register != Register.DX:
            size = size or general_width(operand.register) or 0
    if size not in _SIZE_SUFFIX:
        raise SourceError(f"the size of '{base}' is ambiguous; write {base}b, {base}w or {base}d")
    _check_string_operands(base, operands, _ACCUMULATOR[size])
    parts: dict[str, Operand] = {
        "d": Memory(0, 0, destination, 0, 1, Linear(0)),
        "s": Memory(0, segment, source, 0, 1, Linear(0)),
        "a": RegisterOperand(_ACCUMULATOR[size]),
        "x": RegisterOperand(Register.DX),
    }
    return base + _SIZE_SUFFIX[size], [parts[part] for part in _STRING_OPERANDS[base]]


def _check_string_operands(base: str, operands: list[Operand], accumulator: int) -> None:
    """What is written must be what the instruction has: memory, the accumulator, DX."""
    has = _STRING_OPERANDS[base]
    registers: set[int] = set()
    if "a" in has:
        registers.add(accumulator)
    if "x" in has:
        registers.add(Register.DX)
    if len(operands) > len(has):
        raise SourceError(f"'{base}' has {len(has)} operands, not {len(operands)}")
    for index, operand in enumerate(operands):
        fits = isinstance(operand, Memory) or (
            isinstance(operand, RegisterOperand) and operand.register in registers
        )
        if not fits:
            raise SourceError(f"'{base}' has no such operand", operand=index)


for _base in _STRING_OPERANDS:
    for _suffix in ("", *_SUFFIX_SIZE):
        _RULES[_base + _suffix] = _string_rule(_base, _suffix)


# --- mnemonics that carry an immediate in their name

_COMPARE = (
    "eq lt le unord neq nlt nle ord eq_uq nge ngt false neq_oq ge gt true eq_os lt_oq le_oq "
    "unord_s neq_us nlt_uq nle_uq ord_s eq_us nge_uq ngt_uq false_os neq_os ge_oq gt_oq true_us"
)


def _pseudo_mnemonics() -> dict[str, tuple[str, int]]:
    table: dict[str, tuple[str, int]] = {}
    for predicate, name in enumerate(_COMPARE.split()):
        for suffix in ("ps", "pd", "ss", "sd"):
            if predicate < 8:
                table[f"cmp{name}{suffix}"] = (f"cmp{suffix}", predicate)
            table[f"vcmp{name}{suffix}"] = (f"vcmp{suffix}", predicate)
    for name, value in (("lqlq", 0), ("hqlq", 1), ("lqhq", 16), ("hqhq", 17)):
        table[f"pclmul{name}dq"] = ("pclmulqdq", value)
        table[f"vpclmul{name}dq"] = ("vpclmulqdq", value)
    for predicate, name in enumerate(["eq", "lt", "le", "false", "neq", "nlt", "nle", "true"]):
        for suffix in ["b", "ub", "w", "uw", "d", "ud", "q", "uq"]:
            table[f"vpcmp{name}{suffix}"] = (f"vpcmp{suffix}", predicate)
    return table


# Names that only a rule above turns into an instruction the tables know.
RENAMED = frozenset({"pushf", "popf", "pushfw", "popfw", "iretw", "pushaw", "popaw"})
STRING_BASES = frozenset(_STRING_OPERANDS)
PSEUDO_MNEMONICS = _pseudo_mnemonics()
