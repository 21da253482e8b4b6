"""The registers that locate descriptor tables: LGDT LIDT SGDT SIDT LLDT LTR SLDT STR.

Sources: SDM 2A, LGDT/LIDT; LLDT; LTR; SDM 2B, SGDT; SIDT; SLDT; STR; SDM 3C, Instructions That
Cause VM Exits Conditionally (descriptor-table exiting).
"""

from vtx.isa.builder import Value
from vtx.isa.descriptors import (
    GP,
    LDT,
    NP,
    SYSTEM_WRITE,
    TSS,
    TSS16,
    base_of,
    is_canonical,
    is_null,
    limit_of,
    put_segment,
    rights_of,
    selector_error,
)
from vtx.isa.exit_information import (
    displacement,
    exit_when_secondary,
    memory_bits,
    memory_or_register,
)
from vtx.isa.features import code_of
from vtx.isa.instruction import Instruction, MemoryOperand, semantics
from vtx.isa.key import AR_UNUSABLE
from vtx.spec import CONTROLS, EXITS
from vtx.spec.registers import CR4

DESCRIPTOR_TABLE_EXITING = CONTROLS.DESCRIPTOR_TABLE_EXITING.mask
EXIT_GDTR_IDTR, EXIT_LDTR_TR = EXITS.GDTR_IDTR_ACCESS, EXITS.LDTR_TR_ACCESS
CR4_UMIP = CR4.UMIP
_BUSY = 2
_NUMBERS = {"SGDT": 0, "SIDT": 1, "LGDT": 2, "LIDT": 3, "SLDT": 0, "STR": 1, "LLDT": 2, "LTR": 3}


def require_no_umip(i: Instruction) -> None:
    """#GP(0) above CPL 0 when CR4.UMIP is 1 (SDM 3A, User-Mode Instruction Prevention)."""
    if i.key.cpl > 0:
        i.fault_if((i.get("cr4") & CR4_UMIP) != 0, GP, 0)


def _table_exit(i: Instruction) -> None:
    if i.non_root:
        operand_size = 0 if _is_16bit(i) else 1 << 11
        info = memory_bits(i) | operand_size | _NUMBERS[i.mnemonic] << 28
        exit_when_secondary(i, DESCRIPTOR_TABLE_EXITING, EXIT_GDTR_IDTR, displacement(i), info)


def _is_16bit(i: Instruction) -> bool:
    """Whether a table's base is 24 bits wide: a 16-bit operand size."""
    return code_of(i.decoded).endswith("_16")


def _pair(i: Instruction) -> tuple[MemoryOperand, MemoryOperand]:
    """The limit and the base in memory; the whole is checked as one operand."""
    width = 64 if i.key.bits == 64 else 32
    whole = i.memory_operand(0, 16 + width)
    return whole.part(0, 16), whole.part(2, width)


@semantics("SGDT", "SIDT")
def store_table(i: Instruction) -> None:
    require_no_umip(i)
    _table_exit(i)
    register = "gdtr" if i.mnemonic == "SGDT" else "idtr"
    limit, base = _pair(i)
    base.probe_write()
    limit.write(i.get(f"{register}_limit", 16))
    base.write(i.get(f"{register}_base", base.width))


@semantics("LGDT", "LIDT")
def load_table(i: Instruction) -> None:
    i.require_cpl(0)
    _table_exit(i)
    register = "gdtr" if i.mnemonic == "LGDT" else "idtr"
    limit, base = _pair(i)
    new_limit, new_base = limit.read(), base.read().to(64)
    if i.key.bits == 64:
        i.fault_if(~is_canonical(new_base), GP, 0)
    elif _is_16bit(i):
        new_base = new_base & 0xFF_FFFF
    i.put(f"{register}_limit", new_limit)
    i.put(f"{register}_base", new_base)


def _require_protected(i: Instruction) -> None:
    if not i.key.protected or i.key.v86:
        i.undefined()


def _register_exit(i: Instruction) -> None:
    if i.non_root:
        qualification, info = memory_or_register(i)
        info |= _NUMBERS[i.mnemonic] << 28
        exit_when_secondary(i, DESCRIPTOR_TABLE_EXITING, EXIT_LDTR_TR, qualification, info)


@semantics("SLDT", "STR")
def store_selector(i: Instruction) -> None:
    _require_protected(i)
    require_no_umip(i)
    _register_exit(i)
    selector = i.get("ldtr_sel" if i.mnemonic == "SLDT" else "tr_sel", 16)
    if i.is_memory(0):
        i.memory_operand(0, 16).write(selector)
    else:
        i.dst.write(selector.to(i.dst.width))


def _source(i: Instruction) -> Value:
    return i.memory_operand(0, 16).read() if i.is_memory(0) else i.dst.read().to(16)


def _system_descriptor(i: Instruction, selector: Value) -> tuple[Value, Value, Value]:
    """Whether it lies in the GDT, low half, and base of a system descriptor."""
    if i.key.long:
        inside, low, high = i.call("read_wide_descriptor", selector)
        base = base_of(low) | (high << 32)
        i.fault_if(inside & ~is_canonical(base), GP, selector_error(selector))
        return inside & ~selector.bit(2), low, base
    inside, low = i.call("read_descriptor", selector)
    return inside & ~selector.bit(2), low, base_of(low)


@semantics("LLDT")
def lldt(i: Instruction) -> None:
    """Load LDTR from the GDT; a null selector makes it unusable."""
    _require_protected(i)
    i.require_cpl(0)
    _register_exit(i)
    selector = _source(i)
    with i.if_(is_null(selector)):
        i.put("ldtr_sel", selector)
        i.put("ldtr_ar", AR_UNUSABLE | LDT)
        i.next()
    error = selector_error(selector)
    inside, low, base = _system_descriptor(i, selector)
    rights = rights_of(low)
    i.fault_if(~inside | ((rights & 0x1F) != LDT), GP, error)
    i.fault_if(~rights.bit(7), NP, error)
    put_segment(i, "ldtr", selector, base, limit_of(low), rights)


@semantics("LTR")
def ltr(i: Instruction) -> None:
    """Load the task register and mark the TSS busy."""
    _require_protected(i)
    i.require_cpl(0)
    _register_exit(i)
    selector = _source(i)
    i.fault_if(is_null(selector), GP, 0)
    error = selector_error(selector)
    inside, low, base = _system_descriptor(i, selector)
    rights = rights_of(low)
    kind = rights & 0x1F
    available = kind == TSS if i.key.long else (kind == TSS) | (kind == TSS16)
    i.fault_if(~inside | ~available, GP, error)
    i.fault_if(~rights.bit(7), NP, error)
    _, place = i.call("descriptor_place", selector)
    i.store(place + 5, (rights | _BUSY).trunc(8), SYSTEM_WRITE)
    put_segment(i, "tr", selector, base, limit_of(low), rights | _BUSY)
