"""What a VM exit tells about the instruction that caused it, and the controls that cause it.

Sources: SDM 3C, Information for VM Exits Due to Instruction Execution; Exit Qualification.
"""

from iced_x86 import Instruction as Decoded
from iced_x86 import OpKind, Register

from vtx.isa.builder import Builder, Value
from vtx.isa.instruction import Instruction, gpr_index
from vtx.isa.program import Origin
from vtx.spec import CONTROLS

_SEGMENT_NUMBERS = {
    Register.ES: 0, Register.CS: 1, Register.SS: 2, Register.DS: 3, Register.FS: 4,
    Register.GS: 5,
}  # fmt: skip
_ADDRESS_SIZES = {16: 0, 32: 1, 64: 2}
ACTIVATE_SECONDARY = CONTROLS.ACTIVATE_SECONDARY_CONTROLS.mask


def address_size_bits(i: Instruction) -> int:
    """Bits 9:7: the address size."""
    return _ADDRESS_SIZES[i.address_width] << 7


def segment_bits(decoded: Decoded) -> int:
    """Bits 17:15: the segment of the memory operand."""
    return _SEGMENT_NUMBERS.get(decoded.memory_segment, 3) << 15


def memory_bits(i: Instruction) -> int:
    """The description of a ModRM memory operand: scaling, address size, segment, index, base."""
    decoded = i.decoded
    bits = decoded.memory_index_scale.bit_length() - 1
    bits |= address_size_bits(i) | segment_bits(decoded)
    if decoded.memory_index == Register.NONE:
        bits |= 1 << 22
    else:
        bits |= gpr_index(decoded.memory_index) << 18
    if decoded.memory_base in (Register.NONE, Register.RIP, Register.EIP):
        return bits | 1 << 27
    return bits | gpr_index(decoded.memory_base) << 23


def register_bits(i: Instruction, index: int, place: int) -> int:
    """The number of a general-register operand, at bit `place`."""
    return gpr_index(i.decoded.op_register(index)) << place


def displacement(i: Instruction) -> Value:
    """Exit qualification of instructions with a memory operand: its displacement, extended."""
    decoded = i.decoded
    if decoded.memory_base in (Register.RIP, Register.EIP):
        # iced gives the target of code at address 0; the qualification has RIP added.
        return i.ip + i.literal(64, decoded.memory_displacement, Origin.DISPLACEMENT)
    # Bits beyond the address size are undefined.
    return i.literal(64, decoded.memory_displacement, Origin.DISPLACEMENT)


def memory_or_register(i: Instruction, index: int = 0) -> tuple[Value, int]:
    """Qualification and information of SLDT, STR, LLDT, LTR and their like."""
    if i.decoded.op_kind(index) == OpKind.MEMORY:
        return displacement(i), memory_bits(i)
    return i.const(64, 0), 1 << 10 | register_bits(i, index, 3)


def secondary(b: Builder, mask: int) -> Value:
    """A secondary processor-based control is in effect (1 bit)."""
    active = (b.get("proc_controls") & ACTIVATE_SECONDARY) != 0
    return active & ((b.get("proc2_controls") & mask) != 0)


def undefined_without(i: Instruction, mask: int) -> None:
    """In VMX non-root operation: #UD unless the secondary control enables the instruction."""
    if i.non_root:
        i.fault_if(~secondary(i, mask), 6)


def exit_when(
    i: Instruction, mask: int, reason: int, qualification: Value | int = 0, info: int = 0
) -> None:
    """In VMX non-root operation: VM exit when a primary processor-based control is 1."""
    if i.non_root:
        with i.when_control("proc_controls", mask):
            i.vm_exit(reason, qualification, info)


def exit_when_secondary(
    i: Instruction, mask: int, reason: int, qualification: Value | int = 0, info: int = 0
) -> None:
    """In VMX non-root operation: VM exit when a secondary control is 1."""
    if i.non_root:
        with i.if_(secondary(i, mask)):
            i.vm_exit(reason, qualification, info)
