"""Effective and linear addresses: ModRM arithmetic, segment bases, limits and rights.

What paging makes of a linear address is not known here.
"""

from typing import TYPE_CHECKING

from iced_x86 import Instruction as Decoded
from iced_x86 import MemorySizeExt, OpKind, Register, RegisterExt

from vtx.isa.builder import Builder, Value, routine_
from vtx.isa.key import Key
from vtx.isa.layout import GPR_NAMES
from vtx.isa.program import Origin

if TYPE_CHECKING:
    from vtx.isa.instruction import Instruction

_GP, _SS = 13, 12
_FLAT_BIT = {"es": 1, "cs": 2, "ss": 4, "ds": 8}
_WIDTH_OF_STRING = {
    OpKind.MEMORY_SEG_SI: 16, OpKind.MEMORY_SEG_ESI: 32, OpKind.MEMORY_SEG_RSI: 64,
    OpKind.MEMORY_ESDI: 16, OpKind.MEMORY_ESEDI: 32, OpKind.MEMORY_ESRDI: 64,
    OpKind.MEMORY_SEG_DI: 16, OpKind.MEMORY_SEG_EDI: 32, OpKind.MEMORY_SEG_RDI: 64,
}  # fmt: skip


def operand_width(decoded: Decoded) -> int:
    """Width in bits of the memory operand (0 where the encoding does not say)."""
    return int(MemorySizeExt.size(decoded.memory_size)) * 8


def address_width(decoded: Decoded, key: Key) -> int:
    """Address size in effect, in bits, read off the operand that uses it."""
    for index in range(decoded.op_count):
        kind = decoded.op_kind(index)
        if kind in _WIDTH_OF_STRING:
            return _WIDTH_OF_STRING[kind]
        if kind == OpKind.MEMORY:
            return _modrm_width(decoded, key)
    return key.bits


def is_string_operand(decoded: Decoded, index: int) -> bool:
    """Operand `index` is memory at rSI or rDI, as only string instructions have."""
    return decoded.op_kind(index) in _WIDTH_OF_STRING


def _modrm_width(decoded: Decoded, key: Key) -> int:
    for register in (decoded.memory_base, decoded.memory_index):
        if register in (Register.RIP, Register.EIP):
            return 64 if register == Register.RIP else 32
        if register not in (Register.NONE, Register.AL):
            return int(RegisterExt.size(register)) * 8
    size = int(decoded.memory_displ_size)
    return {2: 16, 4: 32, 8: 64}.get(size, key.bits)


def effective_address(i: "Instruction") -> Value:
    """Offset of the ModRM, moffs or XLAT operand in its segment, 64 bits."""
    decoded = i.decoded
    width = _modrm_width(decoded, i.key)
    if decoded.memory_base in (Register.RIP, Register.EIP):
        # iced gives the address it points at when decoding from IP 0.
        offset = i.ip + i.literal(64, decoded.memory_displacement, Origin.DISPLACEMENT)
        return offset if width == 64 else offset & 0xFFFF_FFFF
    offset = i.const(64, 0)
    if decoded.memory_displ_size:
        offset = i.literal(64, decoded.memory_displacement, Origin.DISPLACEMENT)
    index = decoded.memory_index
    if index != Register.NONE:
        slot = GPR_NAMES[RegisterExt.number(RegisterExt.full_register(index))]
        part = i.get(slot, 8).zext(64) if index == Register.AL else i.get(slot)
        offset = (part << decoded.memory_index_scale.bit_length() - 1) + offset
    if decoded.memory_base != Register.NONE:
        base = i.get(GPR_NAMES[RegisterExt.number(RegisterExt.full_register(decoded.memory_base))])
        offset = base + offset
    return offset if width == 64 else offset & ((1 << width) - 1)


def linear(i: "Instruction", segment: str, offset: Value, size: int, *, write: bool) -> Value:
    """Linear address of `size` bytes at segment:offset (SDM 3A, Limit and Type Checking)."""
    key = i.key
    if key.bits == 64:
        return i.get(f"{segment}_base") + offset if segment in ("fs", "gs") else offset
    if key.flat & _FLAT_BIT.get(segment, 0) and not (segment == "cs" and write):
        return offset & 0xFFFF_FFFF
    name = "segment_writable" if write else "segment_readable"
    (allowed,) = i.call(
        name, i.get(f"{segment}_ar", 32), i.get(f"{segment}_limit"), offset, offset + (size - 1)
    )
    i.fault_if(~allowed, _SS if segment == "ss" else _GP, 0)
    return (i.get(f"{segment}_base") + offset) & 0xFFFF_FFFF


def _inside(b: Builder, rights: Value, limit: Value, first: Value, last: Value) -> Value:
    """The bytes first..last lie inside the segment; expand-down ones lie above the limit."""
    top = rights.bit(14).select(b.const(64, 0xFFFF_FFFF), b.const(64, 0xFFFF))
    below = last.ule(limit)
    above = limit.ult(first) & last.ule(top)
    expands_down = ~rights.bit(3) & rights.bit(2)
    return expands_down.select(above, below)


@routine_(32, 64, 64, 64, results=(1,))
def segment_readable(b: Builder, rights: Value, limit: Value, first: Value, last: Value) -> None:
    """Data at first..last may be read: usable, not execute-only, within the limit."""
    execute_only = rights.bit(3) & ~rights.bit(1)
    b.return_(~rights.bit(16) & ~execute_only & _inside(b, rights, limit, first, last))


@routine_(32, 64, 64, 64, results=(1,))
def segment_writable(b: Builder, rights: Value, limit: Value, first: Value, last: Value) -> None:
    """Data at first..last may be written: usable, writable data, within the limit."""
    writable = ~rights.bit(3) & rights.bit(1)
    b.return_(~rights.bit(16) & writable & _inside(b, rights, limit, first, last))
