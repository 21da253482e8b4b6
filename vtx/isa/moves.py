"""Data movement: MOV and its extensions, XCHG, LEA, conditional moves, flag moves, and no-ops.

MOV of segment, control and debug registers is one mnemonic with the general MOV; it is handed
to the modules that own those registers. CLFLUSH, fences and WAIT stand here because they only
check. Sources: SDM 2A/2B, the instruction's own page; SDM 2A, condition codes.
"""

from iced_x86 import OpKind, Register, RegisterExt

from vtx.isa import memory
from vtx.isa.builder import Value
from vtx.isa.instruction import NM, Instruction, RegisterOperand, semantics
from vtx.spec.registers import CR0

CONDITION_CODES = (
    "o", "no", "b", "ae", "e", "ne", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g",
)  # fmt: skip
"""Condition codes as iced spells them in mnemonics, in order of their encoding."""
DIRECTION = 1 << 10
CR0_MP, CR0_TS = CR0.MP, CR0.TS

# --- MOV -------------------------------------------------------------------------------------


@semantics("MOV")
def mov(i: Instruction) -> None:
    kinds = {_register_kind(i, index) for index in range(2)}
    if "segment" in kinds:
        from vtx.isa.segments import move_segment

        move_segment(i)
    elif "control" in kinds:
        from vtx.isa.control_registers import move_control

        move_control(i)
    elif "debug" in kinds:
        from vtx.isa.control_registers import move_debug

        move_debug(i)
    elif "test" in kinds:
        i.undefined()
    else:
        i.dst.write(i.src.read())


def _register_kind(i: Instruction, index: int) -> str:
    """What sort of register operand `index` is; empty for everything general."""
    if i.decoded.op_kind(index) != OpKind.REGISTER:
        return ""
    register = i.decoded.op_register(index)
    tests = (
        ("segment", RegisterExt.is_segment_register),
        ("control", RegisterExt.is_cr),
        ("debug", RegisterExt.is_dr),
        ("test", RegisterExt.is_tr),
    )
    return next((kind for kind, is_kind in tests if is_kind(register)), "")


@semantics("MOVNTI")
def movnti(i: Instruction) -> None:
    """A store that hints at the caches; there are none."""
    i.dst.write(i.src.read())


@semantics("MOVZX")
def movzx(i: Instruction) -> None:
    i.dst.write(i.src.read().zext(i.dst.width))


@semantics("MOVSX", "MOVSXD")
def movsx(i: Instruction) -> None:
    i.dst.write(i.src.read().sext(i.dst.width))


@semantics("XCHG")
def xchg(i: Instruction) -> None:
    a, b = i.dst.read_for_write(), i.src.read()
    i.dst.write(b)
    i.src.write(a)


@semantics("LEA")
def lea(i: Instruction) -> None:
    i.dst.write(memory.effective_address(i).to(i.dst.width))


@semantics("XLATB")
def xlatb(i: Instruction) -> None:
    i.write_gpr("rax", i.op(0, 8).read())


# --- conditional -----------------------------------------------------------------------------


@semantics(*(f"CMOV{code.upper()}" for code in CONDITION_CODES))
def cmovcc(i: Instruction) -> None:
    """The source is read, and a 32-bit destination cleared above, in either case."""
    value = i.src.read()
    i.dst.write(_condition(i, "CMOV").select(value, i.dst.read()))


@semantics(*(f"SET{code.upper()}" for code in CONDITION_CODES))
def setcc(i: Instruction) -> None:
    i.dst.write(_condition(i, "SET").zext(8))


def _condition(i: Instruction, prefix: str) -> Value:
    return i.flags.condition(i.mnemonic.removeprefix(prefix).lower())


# --- sign extension in the accumulator -------------------------------------------------------


@semantics("CBW", "CWDE", "CDQE")
def extend_accumulator(i: Instruction) -> None:
    """AL into AX, AX into EAX, EAX into RAX."""
    width = {"CBW": 16, "CWDE": 32, "CDQE": 64}[i.mnemonic]
    i.write_gpr("rax", i.get("rax", width // 2).sext(width))


@semantics("CWD", "CDQ", "CQO")
def extend_into_rdx(i: Instruction) -> None:
    """The accumulator's sign all over DX, EDX or RDX."""
    width = {"CWD": 16, "CDQ": 32, "CQO": 64}[i.mnemonic]
    i.write_gpr("rdx", i.get("rax", width).sar(width - 1))


# --- flags -----------------------------------------------------------------------------------

_LOW_FLAGS = (("cf", 0), ("pf", 2), ("af", 4), ("zf", 6), ("sf", 7))


@semantics("LAHF")
def lahf(i: Instruction) -> None:
    value = i.const(8, 2)
    for name, place in _LOW_FLAGS:
        value = value | (i.flags.get(name).zext(8) << place)
    RegisterOperand(i, Register.AH).write(value)


@semantics("SAHF")
def sahf(i: Instruction) -> None:
    value = RegisterOperand(i, Register.AH).read()
    i.flags.set(**{name: value.bit(place) for name, place in _LOW_FLAGS})


@semantics("CLC")
def clc(i: Instruction) -> None:
    i.flags.set(cf=0)


@semantics("STC")
def stc(i: Instruction) -> None:
    i.flags.set(cf=1)


@semantics("CMC")
def cmc(i: Instruction) -> None:
    i.flags.set(cf=~i.flags.get("cf"))


@semantics("CLD")
def cld(i: Instruction) -> None:
    i.put("rflags", i.get("rflags") & ~DIRECTION)


@semantics("STD")
def std(i: Instruction) -> None:
    i.put("rflags", i.get("rflags") | DIRECTION)


@semantics("SALC")
def salc(i: Instruction) -> None:
    i.write_gpr("rax", i.flags.get("cf").sext(8))


# --- nothing but checks ----------------------------------------------------------------------


@semantics(
    "NOP", "RESERVEDNOP", "ENDBR32", "ENDBR64", "RDSSPD", "RDSSPQ", "CLDEMOTE",
    "PREFETCH", "PREFETCHW", "PREFETCHWT1",
    "PREFETCHNTA", "PREFETCHT0", "PREFETCHT1", "PREFETCHT2",
    "PREFETCHIT0", "PREFETCHIT1",
    "LFENCE", "MFENCE", "SFENCE",
)  # fmt: skip
def nop(i: Instruction) -> None:
    """Hints, fences of a machine that executes in order, and encodings set aside as NOPs."""


@semantics("CLFLUSH", "CLFLUSHOPT", "CLWB")
def clflush(i: Instruction) -> None:
    """No caches: but the byte must be readable, as for a load."""
    operand = i.memory_operand(0, 8)
    i.probe(operand.linear(), 1, i.access(operand.segment))


@semantics("WAIT")
def wait(i: Instruction) -> None:
    """#NM when CR0 has both MP and TS."""
    both = CR0_MP | CR0_TS
    i.fault_if((i.get("cr0") & both) == both, NM)
