"""Every instruction form iced-x86 knows, indexed by mnemonic and mode.

All facts come from OpCodeInfo; no opcode is written here. Knows nothing of source operands.
"""

from __future__ import annotations

import enum
import functools
import re
from collections import defaultdict
from dataclasses import dataclass

from iced_x86 import (
    Code,
    DecoderOptions,
    EncodingKind,
    MemorySizeExt,
    Mnemonic,
    OpCodeInfo,
    OpCodeOperandKind,
    OpKind,
    Register,
)

from asm.registers import RegisterClass


class MemoryShape(enum.Enum):
    """What memory operand a slot takes."""

    ANY = enum.auto()
    MOFFS = enum.auto()  # an absolute address in the instruction, accumulator forms of MOV
    STRING = enum.auto()  # implied by the instruction: [rsi], es:[rdi], [rbx+al]
    VSIB = enum.auto()


@dataclass(frozen=True, slots=True)
class ImmediateShape:
    """`size` bytes in the encoding, sign-extended to `extended` bytes (0: not extended)."""

    op_kind: int
    size: int
    extended: int = 0


@dataclass(frozen=True, slots=True)
class BranchShape:
    """A displacement of `size` bytes; `width` is the operand size in bits (0: the mode's)."""

    size: int
    width: int

    def suits(self, mode: int) -> bool:
        """Whether a branch written in this mode means this shape."""
        return self.width == mode or (self.width == 0 and mode != 16)


@dataclass(frozen=True, slots=True)
class Slot:
    """What one operand position accepts."""

    kind: int
    register_class: RegisterClass | None = None
    fixed_register: int = 0
    memory: MemoryShape | None = None
    index_class: RegisterClass | None = None
    immediate: ImmediateShape | None = None
    branch: BranchShape | None = None
    far_width: int = 0


@dataclass(frozen=True, slots=True)
class Form:
    """One encoding of one instruction. Sizes: operand and address in bits, memory in bytes."""

    code: int
    mnemonic: str
    slots: tuple[Slot, ...]
    memory_size: int
    broadcast_size: int
    operand_size: int
    address_size: int
    default_64: bool
    encoding: int
    wide: bool
    lockable: bool
    obsolete: bool  # only some old or special processor had it
    text: str


_IMMEDIATES = {
    "IMM8": ImmediateShape(OpKind.IMMEDIATE8, 1),
    "IMM8SEX16": ImmediateShape(OpKind.IMMEDIATE8TO16, 1, 2),
    "IMM8SEX32": ImmediateShape(OpKind.IMMEDIATE8TO32, 1, 4),
    "IMM8SEX64": ImmediateShape(OpKind.IMMEDIATE8TO64, 1, 8),
    "IMM16": ImmediateShape(OpKind.IMMEDIATE16, 2),
    "IMM32": ImmediateShape(OpKind.IMMEDIATE32, 4),
    "IMM32SEX64": ImmediateShape(OpKind.IMMEDIATE32TO64, 4, 8),
    "IMM64": ImmediateShape(OpKind.IMMEDIATE64, 8),
    "IMM8_CONST_1": ImmediateShape(OpKind.IMMEDIATE8, 0),
    "IMM4_M2Z": ImmediateShape(OpKind.IMMEDIATE8, 1),
}
_BRANCHES = {
    "BR16_1": BranchShape(1, 16),
    "BR32_1": BranchShape(1, 32),
    "BR64_1": BranchShape(1, 64),
    "BR16_2": BranchShape(2, 16),
    "BR32_4": BranchShape(4, 32),
    "BR64_4": BranchShape(4, 64),
    "XBEGIN_2": BranchShape(2, 16),
    "XBEGIN_4": BranchShape(4, 0),  # 32- and 64-bit code
}
_FAR = {"FARBR2_2": 16, "FARBR4_2": 32}
_FIXED = ["AL", "AX", "EAX", "RAX", "CL", "DX", "CS", "DS", "ES", "FS", "GS", "SS", "ST0"]
_STRINGS = {"SEG_RSI", "ES_RDI", "SEG_RDI", "SEG_RBX_AL"}
_VSIB_INDEX = {"X": RegisterClass.XMM, "Y": RegisterClass.YMM, "Z": RegisterClass.ZMM}


def _slot(kind: int, name: str) -> Slot:
    if name in _IMMEDIATES:
        return Slot(kind, immediate=_IMMEDIATES[name])
    if name in _BRANCHES:
        return Slot(kind, branch=_BRANCHES[name])
    if name in _FAR:
        return Slot(kind, far_width=_FAR[name])
    if name in _FIXED:
        return Slot(kind, fixed_register=getattr(Register, name))
    if name in _STRINGS:
        return Slot(kind, memory=MemoryShape.STRING)
    if name == "MEM_OFFS":
        return Slot(kind, memory=MemoryShape.MOFFS)
    if name.startswith("MEM_VSIB"):
        return Slot(kind, memory=MemoryShape.VSIB, index_class=_VSIB_INDEX[name[-1]])
    if name.startswith(("MEM", "SIBMEM")):
        return Slot(kind, memory=MemoryShape.ANY)
    if name == "STI_OPCODE":
        return Slot(kind, register_class=RegisterClass.ST)
    family = re.sub(r"P[13]$", "", name.split("_")[0])
    if family in RegisterClass.__members__:
        memory = MemoryShape.ANY if "OR_MEM" in name else None
        return Slot(kind, register_class=RegisterClass[family], memory=memory)
    return Slot(kind)  # BRDISP: no instruction of interest uses it


def _names(enumeration: object) -> dict[str, int]:
    return {k: v for k, v in vars(enumeration).items() if type(v) is int and k[0] != "_"}


_KIND_NAMES = {value: name for name, value in _names(OpCodeOperandKind).items()}


@functools.cache
def _slot_of(kind: int) -> Slot:
    return _slot(kind, _KIND_NAMES[kind])


def _form(code: int, info: OpCodeInfo, mnemonic: str) -> Form:
    return Form(
        code=code,
        mnemonic=mnemonic,
        slots=tuple(map(_slot_of, info.op_kinds())),
        memory_size=MemorySizeExt.size(info.memory_size),
        broadcast_size=(
            MemorySizeExt.size(info.broadcast_memory_size) if info.can_broadcast else 0
        ),
        operand_size=info.operand_size,
        address_size=info.address_size,
        default_64=bool(info.default_op_size64 or info.force_op_size64),
        encoding=info.encoding,
        wide=bool(info.w),
        lockable=info.can_use_lock_prefix,
        obsolete=info.decoder_option != DecoderOptions.NONE,
        text=info.instruction_string.lower(),
    )


def _usable(name: str, info: OpCodeInfo) -> bool:
    if not info.is_instruction or info.encoding in (EncodingKind.MVEX, EncodingKind.D3NOW):
        return False
    if name.startswith(("RESERVEDNOP", "SAL_")):
        return False
    return bool(info.intel_decoder64 or info.intel_decoder32 or info.amd_decoder64)


@functools.cache
def _index() -> dict[int, dict[str, list[Form]]]:
    mnemonics = {value: name.lower() for name, value in _names(Mnemonic).items()}
    index: dict[int, dict[str, list[Form]]] = {m: defaultdict(list) for m in (16, 32, 64)}
    for name, code in _names(Code).items():
        info = OpCodeInfo(code)  # type: ignore[arg-type]
        if not _usable(name, info):
            continue
        form = _form(code, info, mnemonics[info.mnemonic])
        names = {form.mnemonic, form.text.split()[0]}
        for mode, available in ((16, info.mode16), (32, info.mode32), (64, info.mode64)):
            if available:
                for mnemonic in names:
                    index[mode][mnemonic].append(form)
    return {mode: dict(forms) for mode, forms in index.items()}


def _condition_aliases() -> dict[str, str]:
    conditions = {
        "e": "z", "ne": "nz", "b": "c nae", "ae": "nc nb", "be": "na", "a": "nbe",
        "p": "pe", "np": "po", "l": "nge", "ge": "nl", "le": "ng", "g": "nle",
    }  # fmt: skip
    return {
        prefix + alias: prefix + condition
        for condition, aliases in conditions.items()
        for alias in aliases.split()
        for prefix in ("j", "set", "cmov")
    }


ALIASES = {
    **_condition_aliases(),
    "movabs": "mov", "sal": "shl", "loopz": "loope", "loopnz": "loopne", "fwait": "wait",
    "ud2a": "ud2", "ud2b": "ud1", "lret": "retf", "ljmp": "jmp", "lcall": "call",
    "xlat": "xlatb", "sysretl": "sysret", "sysretd": "sysret", "iretl": "iretd", "icebp": "int1",
    "pushal": "pushad", "popal": "popad", "sysexitl": "sysexit",
}  # fmt: skip


def forms_of(mnemonic: str, mode: int) -> list[Form]:
    """All forms of a mnemonic (aliases too) that exist in a mode; empty when unknown."""
    forms = _index()[mode]
    found = forms.get(mnemonic)
    if found is None:
        found = forms.get(ALIASES.get(mnemonic, ""), [])
    return found


def mnemonics(mode: int) -> list[str]:
    """Every known mnemonic of a mode, for suggestions."""
    return [*_index()[mode], *ALIASES]
