"""The stack: PUSH POP PUSHA POPA ENTER LEAVE, and the flags on it: PUSHF POPF.

Values go on the stack at the operand size, the pointer moves at the stack's own width. Nothing
is committed before the last access that may fault. PUSH and POP of segment registers are
handed to `vtx.isa.segments`. Sources: SDM 2B, the instruction's own page; SDM 1, Procedure
Calls for Block-Structured Languages; SDM 3B, Virtual-8086 Mode (IOPL-sensitive instructions).
"""

from iced_x86 import OpKind, Register, RegisterExt

from vtx.isa.builder import Value
from vtx.isa.features import code_of
from vtx.isa.instruction import GP, Instruction, MemoryOperand, semantics
from vtx.isa.key import RFLAGS_AC, RFLAGS_VM
from vtx.isa.layout import ARITHMETIC_FLAGS
from vtx.spec.registers import CR4

TF, IF, DF, IOPL, NT, RF = 1 << 8, 1 << 9, 1 << 10, 3 << 12, 1 << 14, 1 << 16
VIF, VIP, ID = 1 << 19, 1 << 20, 1 << 21
CR4_VME = CR4.VME

# --- PUSH and POP ----------------------------------------------------------------------------


@semantics("PUSH")
def push(i: Instruction) -> None:
    if _is_segment_register(i):
        from vtx.isa.segments import push_segment

        push_segment(i)
        return
    i.push(i.op(0, _pushed_width(i)).read())


@semantics("POP")
def pop(i: Instruction) -> None:
    """A memory destination based on RSP is addressed with the incremented RSP."""
    if _is_segment_register(i):
        from vtx.isa.segments import pop_segment

        pop_segment(i)
        return
    width = _pushed_width(i)
    value = i.load_stack(0, width)
    if i.is_memory(0):
        _pop_destination(i, width).write(value)
        i.drop_stack(width // 8)
    else:
        i.drop_stack(width // 8)
        i.dst.write(value)


def _is_segment_register(i: Instruction) -> bool:
    return i.decoded.op_kind(0) == OpKind.REGISTER and RegisterExt.is_segment_register(
        i.decoded.op_register(0)
    )


def _pushed_width(i: Instruction) -> int:
    return abs(int(i.decoded.stack_pointer_increment)) * 8


def _pop_destination(i: Instruction, width: int) -> MemoryOperand:
    operand = i.memory_operand(0, width)
    if i.decoded.memory_base not in (Register.RSP, Register.ESP):
        return operand
    return operand.part(width // 8, width)


# --- all registers ---------------------------------------------------------------------------

_PUSHED_IN_ORDER = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi")


@semantics("PUSHA", "PUSHAD")
def pusha(i: Instruction) -> None:
    width = _all_width(i)
    elements = [StackElement(i, -(n + 1) * width // 8, width) for n in range(8)]
    for element in elements:
        element.probe()
    for element, name in zip(elements, _PUSHED_IN_ORDER, strict=True):
        element.store(i.get(name, width))
    i.drop_stack(-width)  # eight elements of width / 8 bytes


@semantics("POPA", "POPAD")
def popa(i: Instruction) -> None:
    """The stored stack pointer is read and thrown away."""
    width = _all_width(i)
    values = [i.load_stack(n * width // 8, width) for n in range(8)]
    i.drop_stack(width)
    for value, name in zip(values, reversed(_PUSHED_IN_ORDER), strict=True):
        if name != "rsp":
            i.write_gpr(name, value)


def _all_width(i: Instruction) -> int:
    return 32 if i.mnemonic.endswith("D") else 16


class StackElement:
    """A place on the stack, `distance` bytes above the stack pointer, that will be written."""

    def __init__(self, i: Instruction, distance: int, width: int) -> None:
        self._i, self.width = i, width
        self.offset = i.stack_offset(i.stack_pointer + distance)
        self._gva = i.linear("ss", self.offset, width // 8, write=True)
        self._access = i.access("ss", write=True)

    def probe(self) -> None:
        self._i.probe(self._gva, self.width // 8, self._access)

    def store(self, value: Value) -> None:
        self._i.store(self._gva, value, self._access)


# --- frames ----------------------------------------------------------------------------------

_DEEPEST_NESTING = 31


@semantics("ENTER")
def enter(i: Instruction) -> None:
    """Make a stack frame, copying the pointers to the enclosing `level` frames."""
    width, level = _frame_width(i), i.immediate(1) & _DEEPEST_NESTING
    count = level + 1 if level else 1
    elements = [StackElement(i, -(n + 1) * width // 8, width) for n in range(count)]
    enclosing = [_enclosing_frame(i, n, width) for n in range(1, level)]
    for element in elements:
        element.probe()
    top = _allocated(i, elements[-1].offset)
    frame = elements[0].offset
    elements[0].store(i.get("rbp", width))
    # Each copy may read what was stored just before.
    for element, gva in zip(elements[1:], enclosing, strict=False):
        element.store(i.load(width, gva, i.access("ss")))
    if level:
        elements[-1].store(frame.to(width))
    i.write_gpr("rbp", frame.to(width))
    i.set_stack_pointer(top)


def _frame_width(i: Instruction) -> int:
    """Operand size of ENTER and LEAVE: W, D or Q at the end of the form's name."""
    return {"W": 16, "D": 32, "Q": 64}[code_of(i.decoded).split("_")[0][-1]]


def _enclosing_frame(i: Instruction, number: int, width: int) -> Value:
    """Linear address, known to be readable, of the saved frame pointer of level `number`."""
    offset = i.stack_offset(i.get("rbp", i.key.stack).zext(64) - number * width // 8)
    gva = i.linear("ss", offset, width // 8)
    i.probe(gva, width // 8, i.access("ss"))
    return gva


def _allocated(i: Instruction, below: Value) -> Value:
    """The stack pointer behind the local variables, which a write there must reach."""
    top = i.stack_offset(below - i.immediate(0))
    i.probe(i.linear("ss", top, 1, write=True), 1, i.access("ss", write=True))
    return top


@semantics("LEAVE")
def leave(i: Instruction) -> None:
    width = _frame_width(i)
    frame = i.get("rbp", i.key.stack).zext(64)
    gva = i.linear("ss", frame, width // 8)
    saved = i.load(width, gva, i.access("ss"))
    i.set_stack_pointer(i.stack_offset(frame + width // 8))
    i.write_gpr("rbp", saved)


# --- flags -----------------------------------------------------------------------------------

_FLAGS_WIDTHS = {"PUSHF": 16, "PUSHFD": 32, "PUSHFQ": 64, "POPF": 16, "POPFD": 32, "POPFQ": 64}
_ARITHMETIC = sum(1 << place for place in ARITHMETIC_FLAGS.values())


@semantics("PUSHF", "PUSHFD", "PUSHFQ")
def pushf(i: Instruction) -> None:
    """VM and RF are stored as zero."""
    width = _FLAGS_WIDTHS[i.mnemonic]
    flags = all_flags(i) & ~(RFLAGS_VM | RF)
    if i.key.v86:
        flags = _v86_image(i, flags, width)
    i.push(flags.to(width))


def all_flags(i: Instruction) -> Value:
    """RFLAGS, the arithmetic flags included."""
    value = i.get("rflags")
    for name, place in ARITHMETIC_FLAGS.items():
        value = value | (i.flags.get(name).zext(64) << place)
    return value


def _v86_image(i: Instruction, flags: Value, width: int) -> Value:
    """In virtual-8086 mode PUSHF needs IOPL 3, or CR4.VME, which shows VIF as IF."""
    limited = (flags & IOPL) != IOPL
    if width != 16:
        i.fault_if(limited, GP, 0)
        return flags
    i.fault_if(limited & ((i.get("cr4") & CR4_VME) == 0), GP, 0)
    virtual = (flags & ~IF) | IOPL | ((flags & VIF) >> 10)
    return limited.select(virtual, flags)


@semantics("POPF", "POPFD", "POPFQ")
def popf(i: Instruction) -> None:
    """What may change depends on CPL and IOPL; VM, VIF and VIP never do, RF is cleared."""
    width = _FLAGS_WIDTHS[i.mnemonic]
    image = i.load_stack(0, width).zext(64)
    old = i.get("rflags")
    if i.key.v86:
        image, old = _v86_restored(i, image, old, width)
    size_mask = (1 << width) - 1
    always = (_ARITHMETIC | TF | DF | NT | RFLAGS_AC | ID) & size_mask
    may_change = i.const(64, always) | (_guarded_flags(i, old) & size_mask)
    cleared = RF & size_mask
    i.drop_stack(width // 8)
    put_all_flags(i, image & may_change & ~cleared, old & ~may_change & ~cleared)
    i.resync()


def _guarded_flags(i: Instruction, old: Value) -> Value:
    """Which of IF and IOPL this privilege level may change."""
    if i.key.cpl == 0:
        return i.const(64, IF | IOPL)
    if i.key.v86:
        return ((old & IOPL) == IOPL).select(i.const(64, IF), 0)
    allowed = i.const(64, i.key.cpl << 12).ule(old & IOPL)
    return allowed.select(i.const(64, IF), 0)


def _v86_restored(i: Instruction, image: Value, old: Value, width: int) -> tuple[Value, Value]:
    """Virtual-8086 mode below IOPL 3: #GP, or with CR4.VME the image's IF goes to VIF."""
    limited = (old & IOPL) != IOPL
    if width != 16:
        i.fault_if(limited, GP, 0)
        return image, old
    i.fault_if(limited & ((i.get("cr4") & CR4_VME) == 0), GP, 0)
    pending = ((old & VIP) != 0) & ((image & IF) != 0)
    i.fault_if(limited & (pending | ((image & TF) != 0)), GP, 0)
    virtual = (old & ~VIF) | ((image & IF) << 10)
    return image, limited.select(virtual, old)


def put_all_flags(i: Instruction, image: Value, kept: Value) -> None:
    """RFLAGS from two disjoint parts; the arithmetic flags all come from `image`."""
    for name, place in ARITHMETIC_FLAGS.items():
        i.flags.set(**{name: image.bit(place)})
    i.put("rflags", (image & ~_ARITHMETIC) | kept)
