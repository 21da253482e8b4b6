"""Addition, subtraction and comparison: ADD ADC SUB SBB CMP INC DEC NEG XADD CMPXCHG*.

Sources: SDM 2A/2B, the instruction's own page; SDM 1, Status Flags.
"""

from vtx.isa.builder import Value
from vtx.isa.instruction import Instruction, MemoryOperand, semantics


@semantics("ADD")
def add(i: Instruction) -> None:
    a, b = i.dst.read_for_write(), i.src.read()
    result = a + b
    i.dst.write(result)
    i.flags.add(a, b, result)


@semantics("SUB")
def sub(i: Instruction) -> None:
    a, b = i.dst.read_for_write(), i.src.read()
    result = a - b
    i.dst.write(result)
    i.flags.sub(a, b, result)


@semantics("CMP")
def cmp(i: Instruction) -> None:
    a, b = i.dst.read(), i.src.read()
    i.flags.sub(a, b, a - b)


@semantics("ADC")
def adc(i: Instruction) -> None:
    a, b = i.dst.read_for_write(), i.src.read()
    result = a + b + i.flags.get("cf").zext(a.width)
    i.dst.write(result)
    i.flags.adc(a, b, result)


@semantics("SBB")
def sbb(i: Instruction) -> None:
    a, b = i.dst.read_for_write(), i.src.read()
    result = a - b - i.flags.get("cf").zext(a.width)
    i.dst.write(result)
    i.flags.sbb(a, b, result)


@semantics("INC")
def inc(i: Instruction) -> None:
    a = i.dst.read_for_write()
    result = a + 1
    i.dst.write(result)
    i.flags.inc(a, result)


@semantics("DEC")
def dec(i: Instruction) -> None:
    a = i.dst.read_for_write()
    result = a - 1
    i.dst.write(result)
    i.flags.dec(a, result)


@semantics("NEG")
def neg(i: Instruction) -> None:
    a = i.dst.read_for_write()
    result = -a
    i.dst.write(result)
    i.flags.sub(i.const(a.width, 0), a, result)


@semantics("XADD")
def xadd(i: Instruction) -> None:
    a, b = i.dst.read_for_write(), i.src.read()
    result = a + b
    if i.dst.is_memory:
        i.dst.write(result)
        i.src.write(a)
    else:  # when both are one register, the sum stays
        i.src.write(a)
        i.dst.write(result)
    i.flags.add(a, b, result)


@semantics("CMPXCHG")
def cmpxchg(i: Instruction) -> None:
    """Compare with the accumulator; memory is written in either case, a register is not."""
    old, new = i.dst.read_for_write(), i.src.read()
    accumulator = i.get("rax", old.width)
    equal = accumulator == old
    if i.dst.is_memory:
        i.dst.write(equal.select(new, old))
    else:
        with i.if_(equal):
            i.dst.write(new)
    with i.if_(~equal):
        i.write_gpr("rax", old)
    i.flags.sub(accumulator, old, accumulator - old)


@semantics("CMPXCHG8B", "CMPXCHG16B")
def cmpxchg_pair(i: Instruction) -> None:
    """Compare EDX:EAX (RDX:RAX) with a memory pair; only ZF changes."""
    half = 32 if i.mnemonic == "CMPXCHG8B" else 64
    operand = i.memory_operand(0, 2 * half)
    gva = operand.linear(write=True, size=half // 4)
    if half == 64:  # SDM 2A, CMPXCHG16B: the operand must be 16-byte aligned
        i.fault_if((gva & 15) != 0, 13, 0)
    access = i.access(operand.segment, write=True)
    i.probe(gva, half // 4, access)
    low, high = MemoryHalf(i, operand, 0, half), MemoryHalf(i, operand, half // 8, half)
    old_low, old_high = low.read(), high.read()
    equal = (old_low == i.get("rax", half)) & (old_high == i.get("rdx", half))
    low.write(equal.select(i.get("rbx", half), old_low))
    high.write(equal.select(i.get("rcx", half), old_high))
    with i.if_(~equal):
        i.write_gpr("rax", old_low)
        i.write_gpr("rdx", old_high)
    i.flags.set(zf=equal)


class MemoryHalf:
    """One half of a memory pair whose whole has been checked and probed."""

    def __init__(self, i: Instruction, operand: MemoryOperand, offset: int, width: int) -> None:
        self._i, self._width = i, width
        self._gva = i.wrap_linear(operand.linear(write=True) + offset)
        self._access = i.access(operand.segment, write=True)

    def read(self) -> Value:
        return self._i.load(self._width, self._gva, self._access)

    def write(self, value: Value) -> None:
        self._i.store(self._gva, value, self._access)
