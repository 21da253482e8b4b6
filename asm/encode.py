"""One form with its operands to bytes, through iced-x86's encoder.

Reports where symbolic fields lie in the bytes. Knows nothing of which form is best.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from iced_x86 import (
    Encoder,
    Instruction,
    OpCodeOperandKind,
    OpKind,
    Register,
    RoundingControl,
)

from asm.errors import SourceError
from asm.expressions import Linear, Value
from asm.forms import Form, MemoryShape, Slot
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
from asm.registers import REGISTER_CLASS, RegisterClass

_MASK_64 = (1 << 64) - 1
_ENCODERS = {mode: Encoder(mode) for mode in (16, 32, 64)}
_PLACEHOLDER = {1: 0x11, 2: 0x1122, 4: 0x11223344, 8: 0x1122334455667788}

PREFIX_BYTES = {
    "lock": 0xF0, "rep": 0xF3, "repe": 0xF3, "repz": 0xF3, "repne": 0xF2, "repnz": 0xF2,
    "bnd": 0xF2, "notrack": 0x3E, "xacquire": 0xF2, "xrelease": 0xF3, "cs": 0x2E, "ss": 0x36,
    "ds": 0x3E, "es": 0x26, "fs": 0x64, "gs": 0x65, "data16": 0x66, "data32": 0x66,
    "addr16": 0x67, "addr32": 0x67, "rex": 0x40, "rex.w": 0x48, "rex64": 0x48,
}  # fmt: skip
_PREFIX_ORDER = bytes([0x9B, 0x2E, 0x36, 0x3E, 0x26, 0x64, 0x65, 0x67, 0x66, 0xF3, 0xF2, 0xF0])


@dataclass(frozen=True, slots=True)
class Field:
    """A field of the encoding that depends on symbols, at a byte offset."""

    offset: int
    size: int
    value: Value
    pc_relative: bool = False
    signed: bool = False


@dataclass(frozen=True, slots=True)
class Encoded:
    data: bytes
    fields: tuple[Field, ...] = ()


def in_gnu_order(data: bytes, extra: Sequence[int] = ()) -> bytes:
    """Legacy prefixes sorted as GNU as emits them, with `extra` ones merged in."""
    count = 0
    while count < len(data) and data[count] in _PREFIX_ORDER and data[count] != 0x9B:
        count += 1
    if count < 2 and not extra:
        return data
    legacy = [prefix for prefix in extra if prefix in _PREFIX_ORDER]
    rex = bytes(prefix for prefix in extra if prefix not in _PREFIX_ORDER)
    prefixes = sorted({*data[:count], *legacy}, key=_PREFIX_ORDER.index)
    return bytes(prefixes) + rex + data[count:]


def encode(
    form: Form,
    operands: Sequence[Operand],
    mode: int,
    decoration: Decoration = PLAIN,
    prefixes: Sequence[int] = (),
) -> Encoded:
    """Encode. Raises SourceError when iced-x86 refuses the combination."""
    instruction: Any = Instruction()  # its stubs want enum types where plain ints are passed
    instruction.code = form.code
    state = _Builder(instruction, form, mode)
    for index, (slot, operand) in enumerate(zip(form.slots, operands, strict=True)):
        state.set_operand(index, slot, operand)
    if decoration is not PLAIN:
        _decorate(instruction, decoration)
    encoder = _ENCODERS[mode]
    try:
        encoder.encode(instruction, 0)
    except ValueError as error:
        encoder.take_buffer()
        raise SourceError(str(error).replace("Operand ", "operand ")) from None
    raw = encoder.take_buffer()
    offsets = encoder.get_constant_offsets()
    places = (
        (offsets.displacement_offset, offsets.displacement_size),
        (offsets.immediate_offset, offsets.immediate_size),
        (offsets.immediate_offset2, offsets.immediate_size2),
    )
    data = in_gnu_order(raw, prefixes)
    return _with_fields(data, len(data) - len(raw), operands, form, mode, places)


def _with_fields(
    data: bytes,
    shift: int,
    operands: Sequence[Operand],
    form: Form,
    mode: int,
    places: Sequence[tuple[int, int]],
) -> Encoded:
    fields: list[Field] = []
    immediates = 0
    for slot, operand in zip(form.slots, operands, strict=True):
        if isinstance(operand, Memory) and slot.memory is not MemoryShape.STRING:
            offset, size = places[0][0] + shift, places[0][1]
            relative = operand.base in (Register.RIP, Register.EIP)
            if operand.constant is None:
                fields.append(
                    Field(
                        offset,
                        size,
                        operand.displacement,
                        relative,
                        signed=size == 4 and _signed_address(operand, form, mode),
                    )
                )
                data = data[:offset] + bytes(size) + data[offset + size :]
            elif relative:
                raw = (operand.constant & 0xFFFFFFFF).to_bytes(4, "little")
                data = data[:offset] + raw + data[offset + 4 :]
        elif isinstance(operand, Immediate) and slot.immediate and slot.immediate.size:
            immediates += 1
            if operand.constant is None:
                offset, size = places[immediates][0] + shift, places[immediates][1]
                signed = slot.immediate.extended == 8
                fields.append(Field(offset, size, operand.value, signed=signed))
                data = data[:offset] + bytes(size) + data[offset + size :]
    if isinstance(operands[0] if operands else None, FarPointer):
        fields, data = _far_fields(operands[0], data)
    return Encoded(data, tuple(fields))


def _far_fields(operand: Operand, data: bytes) -> tuple[list[Field], bytes]:
    assert isinstance(operand, FarPointer)
    width = 4 if len(data) - data.index(0x9A if 0x9A in data[:3] else 0xEA) == 7 else 2
    start = len(data) - 2 - width
    fields = []
    for value, offset, size in (
        (operand.offset, start, width),
        (operand.selector, start + width, 2),
    ):
        if not isinstance(value, Linear) or value.terms:
            fields.append(Field(offset, size, value))
            data = data[:offset] + bytes(size) + data[offset + size :]
    return fields, data


def _signed_address(memory: Memory, form: Form, mode: int) -> bool:
    """In 64-bit addressing a 32-bit displacement is sign-extended, unless LEA drops the top."""
    if mode != 64 or (form.mnemonic == "lea" and form.operand_size == 32):
        return False
    register = memory.base or memory.index
    return not register or REGISTER_CLASS[register] is not RegisterClass.R32


def _decorate(instruction: Any, decoration: Decoration) -> None:
    if decoration.mask:
        instruction.op_mask = Register.K1 + decoration.mask - 1
    instruction.zeroing_masking = decoration.zeroing
    if decoration.broadcast:
        instruction.is_broadcast = True
    if decoration.rounding == "sae":
        instruction.suppress_all_exceptions = True
    elif decoration.rounding:
        instruction.rounding_control = {
            "rn": RoundingControl.ROUND_TO_NEAREST,
            "rd": RoundingControl.ROUND_DOWN,
            "ru": RoundingControl.ROUND_UP,
            "rz": RoundingControl.ROUND_TOWARD_ZERO,
        }[decoration.rounding]


_ADDRESS_BITS = {RegisterClass.R16: 16, RegisterClass.R32: 32, RegisterClass.R64: 64}
_STRING_KINDS: dict[int, dict[int, int]] = {
    OpCodeOperandKind.ES_RDI: {
        16: OpKind.MEMORY_ESDI, 32: OpKind.MEMORY_ESEDI, 64: OpKind.MEMORY_ESRDI,
    },
    OpCodeOperandKind.SEG_RSI: {
        16: OpKind.MEMORY_SEG_SI, 32: OpKind.MEMORY_SEG_ESI, 64: OpKind.MEMORY_SEG_RSI,
    },
    OpCodeOperandKind.SEG_RDI: {
        16: OpKind.MEMORY_SEG_DI, 32: OpKind.MEMORY_SEG_EDI, 64: OpKind.MEMORY_SEG_RDI,
    },
}  # fmt: skip
_STACK_BASES = {Register.RSP, Register.RBP, Register.ESP, Register.EBP, Register.BP}


class _Builder:
    """Fills an iced-x86 Instruction operand by operand."""

    def __init__(self, instruction: Any, form: Form, mode: int) -> None:
        self.instruction = instruction
        self.form = form
        self.mode = mode
        self.immediates = 0

    def set_operand(self, index: int, slot: Slot, operand: Operand) -> None:
        instruction = self.instruction
        match operand:
            case RegisterOperand(register):
                instruction.set_op_kind(index, OpKind.REGISTER)
                instruction.set_op_register(index, register)
            case Memory():
                self._set_memory(index, slot, operand)
            case Immediate():
                self._set_immediate(index, slot, operand)
            case Target():
                self._set_target(index, slot)
            case FarPointer():
                self._set_far(index, slot, operand)

    def _set_segment(self, memory: Memory) -> None:
        """A segment that the base register implies anyway is dropped, as GNU as does."""
        implied = Register.SS if memory.base in _STACK_BASES else Register.DS
        if memory.segment and memory.segment != implied:
            self.instruction.segment_prefix = memory.segment

    def _set_memory(self, index: int, slot: Slot, memory: Memory) -> None:
        instruction = self.instruction
        if slot.memory is MemoryShape.STRING:
            self._set_string(index, slot, memory)
            return
        instruction.set_op_kind(index, OpKind.MEMORY)
        self._set_segment(memory)
        if memory.base:
            instruction.memory_base = memory.base
        if memory.index:
            instruction.memory_index = memory.index
            instruction.memory_index_scale = memory.scale
        size, value = self._displacement(slot, memory)
        instruction.memory_displ_size = size
        instruction.memory_displacement = value & _MASK_64

    def _displacement(self, slot: Slot, memory: Memory) -> tuple[int, int]:
        """iced-x86's displacement size and value; size 1 lets it choose the shortest."""
        register = memory.base or memory.index
        if memory.base in (Register.RIP, Register.EIP):
            return (8 if memory.base == Register.RIP else 4), 0
        bits = _ADDRESS_BITS.get(REGISTER_CLASS[register], self.mode) if register else self.mode
        value = memory.constant
        if slot.memory is MemoryShape.MOFFS:
            wide = bits // 8
            return wide, _PLACEHOLDER[wide] if value is None else value
        if value is None:
            return bits // 8, _PLACEHOLDER[min(bits // 8, 4)]
        self._check_range(value, bits, memory)
        if not memory.base:
            return bits // 8, value & ((1 << bits) - 1)
        if value == 0:
            return 0, 0
        return 1, value & ((1 << bits) - 1)

    @staticmethod
    def _check_range(value: int, bits: int, memory: Memory) -> None:
        low, high = -(1 << 31), 1 << 31
        if bits == 16:
            low, high = -(1 << 15), 1 << 16
        elif bits == 32:
            high = 1 << 32
        if not low <= value < high:
            raise SourceError(f"displacement {value:#x} does not fit the address")

    def _set_string(self, index: int, slot: Slot, memory: Memory) -> None:
        instruction = self.instruction
        if slot.kind == OpCodeOperandKind.SEG_RBX_AL:
            instruction.set_op_kind(index, OpKind.MEMORY)
            instruction.memory_base = memory.base
            instruction.memory_index = Register.AL
            instruction.memory_index_scale = 1
        else:
            bits = _ADDRESS_BITS[REGISTER_CLASS[memory.base]]
            instruction.set_op_kind(index, _STRING_KINDS[slot.kind][bits])
        if slot.kind != OpCodeOperandKind.ES_RDI:
            self._set_segment(memory)

    def _set_immediate(self, index: int, slot: Slot, operand: Immediate) -> None:
        shape = slot.immediate
        assert shape is not None
        kind, size = shape.op_kind, shape.size or 1
        if self.immediates and kind == OpKind.IMMEDIATE8:
            kind = OpKind.IMMEDIATE8_2ND
        self.immediates += 1
        value = operand.constant
        value = _PLACEHOLDER[size] if value is None else value & ((1 << (8 * size)) - 1)
        if shape.extended and value >> (8 * size - 1):
            value -= 1 << (8 * size)
        instruction = self.instruction
        instruction.set_op_kind(index, kind)
        match kind:
            case OpKind.IMMEDIATE8:
                instruction.immediate8 = value
            case OpKind.IMMEDIATE8_2ND:
                instruction.immediate8_2nd = value
            case OpKind.IMMEDIATE16:
                instruction.immediate16 = value
            case OpKind.IMMEDIATE32:
                instruction.immediate32 = value
            case OpKind.IMMEDIATE64:
                instruction.immediate64 = value
            case OpKind.IMMEDIATE8TO16:
                instruction.immediate8to16 = value
            case OpKind.IMMEDIATE8TO32:
                instruction.immediate8to32 = value
            case OpKind.IMMEDIATE8TO64:
                instruction.immediate8to64 = value
            case _:
                instruction.immediate32to64 = value

    def _set_target(self, index: int, slot: Slot) -> None:
        shape = slot.branch
        assert shape is not None
        kinds = {16: OpKind.NEAR_BRANCH16, 32: OpKind.NEAR_BRANCH32, 64: OpKind.NEAR_BRANCH64}
        width = shape.width
        if slot.kind in (OpCodeOperandKind.XBEGIN_2, OpCodeOperandKind.XBEGIN_4):
            width = max(self.mode, 32)  # iced-x86 has no 16-bit target for XBEGIN
        self.instruction.set_op_kind(index, kinds[width])

    def _set_far(self, index: int, slot: Slot, operand: FarPointer) -> None:
        def known(value: Value) -> int:
            return value.constant if isinstance(value, Linear) and not value.terms else 0

        instruction = self.instruction
        instruction.far_branch_selector = known(operand.selector) & 0xFFFF
        if slot.far_width == 16:
            instruction.set_op_kind(index, OpKind.FAR_BRANCH16)
            instruction.far_branch16 = known(operand.offset) & 0xFFFF
        else:
            instruction.set_op_kind(index, OpKind.FAR_BRANCH32)
            instruction.far_branch32 = known(operand.offset) & 0xFFFFFFFF
