"""Register names and classes, taken from iced-x86's own register list.

Knows nothing of instructions.
"""

from __future__ import annotations

import enum
import re

from iced_x86 import Register


class RegisterClass(enum.Enum):
    """What kind of operand a register can be."""

    R8 = "8-bit register"
    R16 = "16-bit register"
    R32 = "32-bit register"
    R64 = "64-bit register"
    SEG = "segment register"
    CR = "control register"
    DR = "debug register"
    TR = "test register"
    ST = "x87 register"
    MM = "MMX register"
    XMM = "XMM register"
    YMM = "YMM register"
    ZMM = "ZMM register"
    TMM = "tile register"
    K = "mask register"
    BND = "bound register"
    IP = "instruction pointer"


_FAMILIES = ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"]
_PATTERNS = [
    (RegisterClass.R8, r"[abcd][lh]|(sp|bp|si|di)l|r\d+l"),
    (RegisterClass.R16, r"[abcd]x|sp|bp|si|di|r\d+w"),
    (RegisterClass.R32, r"e([abcd]x|sp|bp|si|di)|r\d+d"),
    (RegisterClass.R64, r"r([abcd]x|sp|bp|si|di)|r\d+"),
    (RegisterClass.SEG, r"[cdefgs]s"),
    (RegisterClass.IP, r"[er]ip"),
    *(
        (RegisterClass[p.upper()], rf"{p}\d+")
        for p in ["cr", "dr", "tr", "st", "mm", "xmm", "ymm", "zmm", "tmm", "k", "bnd"]
    ),
]


def _class_of(name: str) -> RegisterClass | None:
    for register_class, pattern in _PATTERNS:
        if re.fullmatch(pattern, name):
            return register_class
    return None


def _named_values(enumeration: object) -> dict[str, int]:
    return {k.lower(): v for k, v in vars(enumeration).items() if type(v) is int}


REGISTER_CLASS: dict[int, RegisterClass] = {}
REGISTERS: dict[str, int] = {}
for _name, _value in _named_values(Register).items():
    _register_class = _class_of(_name)
    if _register_class is not None:
        REGISTERS[_name] = _value
        REGISTER_CLASS[_value] = _register_class

REGISTER_NAME: dict[int, str] = {value: name for name, value in REGISTERS.items()}
for _i in range(8, 16):  # GNU as writes r8b where iced writes r8l
    REGISTERS[f"r{_i}b"] = REGISTERS.pop(f"r{_i}l")
    REGISTER_NAME[REGISTERS[f"r{_i}b"]] = f"r{_i}b"
for _i in range(8):
    REGISTERS[f"db{_i}"] = REGISTERS[f"dr{_i}"]
    REGISTERS[f"st({_i})"] = REGISTERS.pop(f"st{_i}")
    REGISTER_NAME[REGISTERS[f"st({_i})"]] = f"st({_i})"
REGISTERS["st"] = REGISTERS["st(0)"]
for _i in range(8, 16):  # names that would swallow ordinary symbols and name no real register
    for _prefix in ("tr",):
        REGISTERS.pop(f"{_prefix}{_i}", None)

WIDTH = {RegisterClass.R8: 1, RegisterClass.R16: 2, RegisterClass.R32: 4, RegisterClass.R64: 8}

_BY_NUMBER = {
    RegisterClass.R16: [n[1:] for n in _FAMILIES] + [f"r{i}w" for i in range(8, 16)],
    RegisterClass.R32: ["e" + n[1:] for n in _FAMILIES] + [f"r{i}d" for i in range(8, 16)],
    RegisterClass.R64: _FAMILIES + [f"r{i}" for i in range(8, 16)],
}
RESIZABLE = frozenset(_BY_NUMBER)
_NUMBER = {
    REGISTERS[name]: number for names in _BY_NUMBER.values() for number, name in enumerate(names)
}


def needs_64_bit_code(register: int) -> bool:
    """Whether only 64-bit code can name the register."""
    name = REGISTER_NAME[register]
    if REGISTER_CLASS[register] in (RegisterClass.CR, RegisterClass.DR):
        return False  # LOCK MOV reaches CR8 from 32-bit code on some processors
    if REGISTER_CLASS[register] is RegisterClass.R64 or name in ("spl", "bpl", "sil", "dil", "rip"):
        return True
    number = re.fullmatch(r"[a-z]+?(\d+)[bwd]?", name)
    return number is not None and int(number[1]) > 7


def general_width(register: int) -> int | None:
    """Width in bytes of a general-purpose register, or None for any other register."""
    return WIDTH.get(REGISTER_CLASS[register])


def resized(register: int, register_class: RegisterClass) -> int:
    """The same general-purpose register (16 bits or wider) under another width's name."""
    return REGISTERS[_BY_NUMBER[register_class][_NUMBER[register]]]
