"""Loading and storing segment registers: MOV, PUSH and POP of one, LDS LES LFS LGS LSS.

MOV, PUSH and POP have other forms; their families call `move_segment`, `push_segment` and
`pop_segment` for these. The checks of a descriptor are `isa.descriptors`' business.
Sources: SDM 2B, MOV; POP; SDM 2A, LDS/LES/LFS/LGS/LSS; SDM 3A, Real-Address Mode.
"""

from iced_x86 import Instruction as Decoded
from iced_x86 import OpKind, Register

from vtx.isa import selector_checks as selector_checks
from vtx.isa.builder import Value
from vtx.isa.descriptors import put_segment
from vtx.isa.instruction import Instruction, semantics
from vtx.isa.key import AR_UNUSABLE

_SEGMENT_REGISTERS = frozenset(
    {Register.ES, Register.CS, Register.SS, Register.DS, Register.FS, Register.GS}
)
BLOCKING_MOV_SS = 2


def names_segment(decoded: Decoded) -> bool:
    """Whether an operand of the instruction is a segment register."""
    return any(
        decoded.op_kind(n) == OpKind.REGISTER and decoded.op_register(n) in _SEGMENT_REGISTERS
        for n in range(decoded.op_count)
    )


def check_segment(i: Instruction, name: str, selector: Value) -> tuple[Value, Value, Value]:
    """Base, limit and rights that segment register `name` gets; faults if it may not be loaded."""
    if i.key.protected and not i.key.v86:
        base, limit, rights = i.call("stack_segment" if name == "ss" else "data_segment", selector)
        return base, limit, rights
    # Real-address and virtual-8086 mode: the limit and the rights stay (SDM 3A, 8086 Emulation).
    rights, limit = i.get(f"{name}_ar", 32), i.get(f"{name}_limit")
    unusable = (rights & AR_UNUSABLE) != 0
    limit = unusable.select(i.const(64, 0xFFFF), limit)
    return selector.zext(64) << 4, limit, unusable.select(i.const(32, 0x93), rights)


def load_segment(i: Instruction, name: str, selector: Value) -> None:
    """Load a segment register other than CS, with every check of the mode."""
    base, limit, rights = check_segment(i, name, selector)
    put_segment(i, name, selector, base, limit, rights)
    i.resync()


def block_interrupts(i: Instruction) -> None:
    """Loading SS holds interrupts and debug traps back for one instruction."""
    i.put("interruptibility_next", BLOCKING_MOV_SS)
    i.put("interruptibility", (i.get("interruptibility") & ~3) | BLOCKING_MOV_SS)


def move_segment(i: Instruction) -> None:
    """MOV to or from a segment register."""
    if i.decoded.op_kind(0) == OpKind.REGISTER and i.decoded.op0_register in _SEGMENT_REGISTERS:
        _move_to_segment(i, i.segment_register(0))
        return
    selector = i.get(f"{i.segment_register(1)}_sel", 16)
    if i.is_memory(0):
        i.memory_operand(0, 16).write(selector)
    else:
        i.dst.write(selector.to(i.dst.width))


def _move_to_segment(i: Instruction, name: str) -> None:
    if name == "cs":
        i.undefined()
    selector = i.memory_operand(1, 16).read() if i.is_memory(1) else i.src.read().to(16)
    load_segment(i, name, selector)
    if name == "ss":
        block_interrupts(i)


def _stack_width(i: Instruction) -> int:
    """Operand size of PUSH and POP of a segment register."""
    size = abs(i.decoded.stack_pointer_increment)
    return {2: 16, 4: 32, 8: 64}[size]


def push_segment(i: Instruction) -> None:
    """PUSH of a segment register: the selector, zero-extended to the operand size."""
    i.push(i.get(f"{i.segment_register(0)}_sel", 16).to(_stack_width(i)))


def pop_segment(i: Instruction) -> None:
    """POP of a segment register."""
    width = _stack_width(i)
    name = i.segment_register(0)
    selector = i.load_stack(0, width).to(16)
    base, limit, rights = check_segment(i, name, selector)
    i.drop_stack(width // 8)
    put_segment(i, name, selector, base, limit, rights)
    i.resync()
    if name == "ss":
        block_interrupts(i)


@semantics("LDS", "LES", "LFS", "LGS", "LSS")
def load_far_pointer(i: Instruction) -> None:
    """Offset and selector from memory into a general and a segment register."""
    name = i.mnemonic[1:].lower()
    width = i.dst.width
    whole = i.memory_operand(1, width + 16)
    whole.linear(size=width // 8 + 2)
    offset = whole.part(0, width).read()
    selector = whole.part(width // 8, 16).read()
    load_segment(i, name, selector)
    i.dst.write(offset)
