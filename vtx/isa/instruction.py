"""The object semantics are written against: one decoded instruction under one translation key.

It offers operands that read and write themselves, effective and linear addresses with the
segment checks of the mode, the stack, flags, faults and VM-exit conditions. Semantics register
with `@semantics(MNEMONIC, ...)`. This module knows no particular instruction.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING

from iced_x86 import Instruction as Decoded
from iced_x86 import OpKind, Register, RegisterExt

from vtx.isa import memory
from vtx.isa.builder import Builder, Value
from vtx.isa.flags import Flags
from vtx.isa.key import VMX_NON_ROOT, Key
from vtx.isa.layout import GPR_NAMES
from vtx.isa.program import Access, Origin, Program, Service

if TYPE_CHECKING:
    from iced_x86._iced_x86_py import Register as RegisterId

UD, NM, GP, SS, DE, AC, NP, TS, BR, OF, BP, DB, PF, DF = (
    6,
    7,
    13,
    12,
    0,
    17,
    11,
    10,
    5,
    4,
    3,
    1,
    14,
    8,
)
"""Exception vectors (SDM 3A, Exception and Interrupt Reference)."""

_HIGH_BYTES = {Register.AH: 0, Register.CH: 1, Register.DH: 2, Register.BH: 3}
_SEGMENTS = {
    Register.ES: "es", Register.CS: "cs", Register.SS: "ss",
    Register.DS: "ds", Register.FS: "fs", Register.GS: "gs",
}  # fmt: skip
_IMMEDIATES = frozenset(
    {
        OpKind.IMMEDIATE8, OpKind.IMMEDIATE8_2ND, OpKind.IMMEDIATE16, OpKind.IMMEDIATE32,
        OpKind.IMMEDIATE64, OpKind.IMMEDIATE8TO16, OpKind.IMMEDIATE8TO32,
        OpKind.IMMEDIATE8TO64, OpKind.IMMEDIATE32TO64,
    }
)  # fmt: skip
_STRING_SOURCES = {
    OpKind.MEMORY_SEG_SI: 16, OpKind.MEMORY_SEG_ESI: 32, OpKind.MEMORY_SEG_RSI: 64,
}  # fmt: skip
_STRING_DESTINATIONS = {
    OpKind.MEMORY_ESDI: 16, OpKind.MEMORY_ESEDI: 32, OpKind.MEMORY_ESRDI: 64,
}  # fmt: skip

Semantics = Callable[["Instruction"], None]
SEMANTICS: dict[str, Semantics] = {}
"""Mnemonic (iced's upper-case name) -> its semantics."""


def semantics(*mnemonics: str) -> Callable[[Semantics], Semantics]:
    """Register a function as the meaning of the given mnemonics."""

    def decorate(function: Semantics) -> Semantics:
        for mnemonic in mnemonics:
            if mnemonic in SEMANTICS:
                raise ValueError(f"{mnemonic} has two meanings")
            SEMANTICS[mnemonic] = function
        return function

    return decorate


def gpr_index(register: "RegisterId") -> int:
    """Architectural number (0 RAX ... 15 R15) of a general register of any width."""
    high = _HIGH_BYTES.get(register)
    return high if high is not None else RegisterExt.number(RegisterExt.full_register(register))


class RegisterOperand:
    """A general register, or its part."""

    is_memory = False

    def __init__(self, i: "Instruction", register: "RegisterId") -> None:
        self._i = i
        self.width = RegisterExt.size(register) * 8
        self._high = register in _HIGH_BYTES
        self.slot = GPR_NAMES[gpr_index(register)]

    def read(self) -> Value:
        if self._high:
            return (self._i.get(self.slot, 16) >> 8).trunc(8)
        return self._i.get(self.slot, self.width)

    def read_for_write(self) -> Value:
        return self.read()

    def write(self, value: Value) -> None:
        if value.width != self.width:
            raise TypeError(f"{self._i.name}: {value.width} bits into {self.width}")
        if self.width >= 32:
            self._i.put(self.slot, value)
            return
        shift = 8 if self._high else 0
        keep = self._i.get(self.slot) & ~(((1 << self.width) - 1) << shift)
        self._i.put(self.slot, keep | (value.zext(64) << shift))


class ImmediateOperand:
    """A constant of the instruction, already sign-extended to the operand's width."""

    is_memory = False

    def __init__(self, i: "Instruction", index: int, width: int) -> None:
        self._i, self._index, self.width = i, index, width

    def read(self) -> Value:
        number = self._i.decoded.immediate(self._index)
        return self._i.literal(self.width, number, Origin(Origin.IMMEDIATE0 + self._index))

    def read_for_write(self) -> Value:
        raise TypeError(f"{self._i.name}: an immediate is not a destination")

    def write(self, value: Value) -> None:
        raise TypeError(f"{self._i.name}: an immediate is not a destination")


class MemoryOperand:
    """A memory operand; its effective address is computed once."""

    is_memory = True

    def __init__(self, i: "Instruction", segment: str, offset: Value, width: int) -> None:
        self._i, self.segment, self.offset, self.width = i, segment, offset, width
        self._gva: dict[bool, Value] = {}

    def linear(self, *, write: bool = False, size: int = 0) -> Value:
        """Linear address of `size` bytes here, with the segment checks of the mode."""
        if write not in self._gva:
            size = size or self.width // 8
            self._gva[write] = self._i.linear(self.segment, self.offset, size, write=write)
        return self._gva[write]

    def read(self) -> Value:
        return self._i.load(self.width, self.linear(), self._i.access(self.segment))

    def read_for_write(self) -> Value:
        """Read with write rights required: the read half of a read-modify-write."""
        access = self._i.access(self.segment, write=True)
        return self._i.load(self.width, self.linear(write=True), access)

    def write(self, value: Value) -> None:
        access = self._i.access(self.segment, write=True)
        self._i.store(self.linear(write=True), self._i.value(value, self.width), access)

    def probe_write(self) -> None:
        """Make sure that a later write cannot fault."""
        access = self._i.access(self.segment, write=True)
        self._i.probe(self.linear(write=True), self.width // 8, access)

    def part(self, byte_offset: int, width: int) -> "MemoryOperand":
        """Another piece of the same operand, at `byte_offset` behind its start."""
        offset = self._i.wrap_offset(self.offset + byte_offset)
        return MemoryOperand(self._i, self.segment, offset, width)


Operand = RegisterOperand | ImmediateOperand | MemoryOperand


class Instruction(Builder):
    """One decoded instruction being translated."""

    def __init__(self, decoded: Decoded, key: Key, mnemonic: str) -> None:
        super().__init__(mnemonic)
        self.decoded = decoded
        self.key = key
        self.mnemonic = mnemonic
        self.flags = Flags(self)
        self._operands: dict[int, Operand] = {}

    # --- shape -------------------------------------------------------------------------------
    @property
    def length(self) -> int:
        """Bytes of the instruction."""
        return int(self.decoded.len)

    @property
    def next_ip(self) -> Value:
        """Offset in CS of the instruction behind this one."""
        return self.wrap_ip(self.ip + self.length)

    def wrap_ip(self, target: Value) -> Value:
        """`target` as an instruction pointer of this code's width (64-bit value)."""
        return target if self.key.bits == 64 else target & 0xFFFF_FFFF

    def wrap_linear(self, gva: Value) -> Value:
        """A linear address cut to what the mode has."""
        return gva if self.key.bits == 64 else gva & 0xFFFF_FFFF

    @property
    def address_width(self) -> int:
        """Width of effective addresses (16, 32 or 64)."""
        return memory.address_width(self.decoded, self.key)

    def wrap_offset(self, offset: Value) -> Value:
        """A 64-bit effective address cut to the address width."""
        width = self.address_width
        return offset if width == 64 else offset & ((1 << width) - 1)

    def immediate(self, index: int) -> int:
        """Operand `index`, for semantics that write another program for another immediate."""
        self.specialised = True
        return int(self.decoded.immediate(index))

    # --- operands ----------------------------------------------------------------------------
    def op(self, index: int, width: int = 0) -> Operand:
        """Operand `index`; `width` (bits) only where the encoding does not tell."""
        if index not in self._operands:
            self._operands[index] = self._operand(index, width)
        return self._operands[index]

    @property
    def dst(self) -> Operand:
        return self.op(0)

    @property
    def src(self) -> Operand:
        """The second operand; an immediate is as wide as the first."""
        return self.op(1)

    def memory_operand(self, index: int, width: int) -> MemoryOperand:
        """Operand `index` as memory of `width` bits."""
        operand = self.op(index, width)
        if not isinstance(operand, MemoryOperand):
            raise TypeError(f"{self.name}: operand {index} is not memory")
        return operand

    def is_memory(self, index: int) -> bool:
        kind = self.decoded.op_kind(index)
        return kind == OpKind.MEMORY or kind in _STRING_SOURCES or kind in _STRING_DESTINATIONS

    def _operand(self, index: int, width: int) -> Operand:
        decoded, kind = self.decoded, self.decoded.op_kind(index)
        if kind == OpKind.REGISTER:
            return RegisterOperand(self, decoded.op_register(index))
        if kind in _IMMEDIATES:
            return ImmediateOperand(self, index, width or self._width0())
        width = width or memory.operand_width(decoded)
        if kind == OpKind.MEMORY:
            segment = _SEGMENTS[decoded.memory_segment]
            return MemoryOperand(self, segment, memory.effective_address(self), width)
        if kind in _STRING_SOURCES:
            offset = self.get("rsi", _STRING_SOURCES[kind]).zext(64)
            return MemoryOperand(self, _SEGMENTS[decoded.memory_segment], offset, width)
        if kind in _STRING_DESTINATIONS:
            offset = self.get("rdi", _STRING_DESTINATIONS[kind]).zext(64)
            return MemoryOperand(self, "es", offset, width)
        raise TypeError(f"{self.name}: operand {index} of kind {kind}")

    def _width0(self) -> int:
        kind = self.decoded.op_kind(0)
        if kind == OpKind.REGISTER or self.is_memory(0):
            return self.op(0).width
        return 8

    def segment_register(self, index: int) -> str:
        """Name of the segment register that operand `index` is."""
        return _SEGMENTS[self.decoded.op_register(index)]

    def gpr(self, number: int, width: int = 64) -> Value:
        return self.get(GPR_NAMES[number], width)

    def write_gpr(self, name: str, value: Value) -> None:
        """Write the low part of a register by its width (32 bits clear the upper half)."""
        if value.width >= 32:
            self.put(name, value)
        else:
            keep = self.get(name) & ~((1 << value.width) - 1)
            self.put(name, keep | value.zext(64))

    # --- memory ------------------------------------------------------------------------------
    def access(self, segment: str = "ds", *, write: bool = False) -> Access:
        return Access(write, self.key.data_privilege, segment == "ss")

    def linear(self, segment: str, offset: Value, size: int, *, write: bool = False) -> Value:
        """Linear address of segment:offset; faults where the segment does not allow it."""
        gva = memory.linear(self, segment, offset, size, write=write)
        if self.key.align and size in (2, 4, 8):
            self.fault_if((gva & (size - 1)) != 0, AC, 0)
        return gva

    @property
    def stack_pointer(self) -> Value:
        """Stack offset, zero-extended to 64 bits."""
        return self.get("rsp", self.key.stack).zext(64)

    def set_stack_pointer(self, value: Value) -> None:
        self.write_gpr("rsp", value.trunc(self.key.stack) if self.key.stack < 64 else value)

    def stack_offset(self, value: Value) -> Value:
        """`value` cut to the stack's width, 64-bit."""
        return value if self.key.stack == 64 else value & ((1 << self.key.stack) - 1)

    def push(self, value: Value) -> None:
        """Push one value of its own width; RSP changes only after the store succeeded."""
        size = value.width // 8
        offset = self.stack_offset(self.stack_pointer - size)
        gva = self.linear("ss", offset, size, write=True)
        self.store(gva, value, self.access("ss", write=True))
        self.set_stack_pointer(offset)

    def load_stack(self, byte_offset: int, width: int) -> Value:
        """The stack element `byte_offset` above the stack pointer; RSP does not move."""
        offset = self.stack_offset(self.stack_pointer + byte_offset)
        gva = self.linear("ss", offset, width // 8)
        return self.load(width, gva, self.access("ss"))

    def drop_stack(self, size: int) -> None:
        """Move the stack pointer up by `size` bytes."""
        self.set_stack_pointer(self.stack_offset(self.stack_pointer + size))

    # --- faults and exits --------------------------------------------------------------------
    def require_cpl(self, level: int) -> None:
        """#GP(0) when the current privilege level is above `level`."""
        if self.key.cpl > level:
            self.fault(GP, 0)
            raise Translated

    def undefined(self) -> None:
        """#UD, whatever follows."""
        self.fault(UD)
        raise Translated

    @property
    def non_root(self) -> bool:
        """Translated for VMX non-root operation."""
        return self.key.vmx == VMX_NON_ROOT

    def vm_exit(self, reason: int, qualification: Value | int = 0, info: Value | int = 0) -> None:
        """VM exit because of this instruction: its length is reported, nothing is done."""
        self.put("exit_qualification", qualification)
        self.put("exit_info", info)
        self.put("exit_length", self.length)
        self.exit(reason)

    def when_control(self, word: str, mask: int) -> AbstractContextManager[None]:
        """Guard: a VM-execution control (slot `word`, one-bit `mask`) is 1. Non-root only."""
        return self.if_((self.get(word, 32) & mask) != 0)

    def always_exits(self, reason: int, qualification: Value | int = 0) -> None:
        """In VMX non-root operation this instruction exits whatever the controls say."""
        if self.non_root:
            self.vm_exit(reason, qualification)
            raise Translated

    def now(self) -> Value:
        """Virtual time in TSC ticks."""
        return self.service(Service.NOW)[0]


class Translated(Exception):  # noqa: N818 - control flow of the translator, not an error
    """The translation-time path of the semantics has ended; what stands is the program."""


def translate(decoded: Decoded, key: Key, mnemonic: str) -> Program:
    """The program of one decoded instruction (KeyError where the mnemonic has no meaning)."""
    i = Instruction(decoded, key, mnemonic)
    meaning = SEMANTICS[mnemonic]
    with suppress(Translated):
        meaning(i)
    if not i.ended():
        i.next()
    return i.program()
