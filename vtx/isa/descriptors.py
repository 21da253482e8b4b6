"""Segment descriptors: reading them from the GDT and LDT, and the checks of loading one.

The routines check and mark a descriptor accessed, and return what a segment register must
hold; the caller commits it. Error codes are selectors with their RPL cleared.
Sources: SDM 3A, Segment Descriptors; Segment Selectors; SDM 2B, MOV (operation).
"""

from vtx.isa.builder import Builder, Value, routine_
from vtx.isa.key import AR_L, AR_UNUSABLE, EFER_LMA
from vtx.isa.program import Access, Privilege

GP, SS, NP = 13, 12, 11
SYSTEM_READ = Access(False, Privilege.SYSTEM)
SYSTEM_WRITE = Access(True, Privilege.SYSTEM)

# Bits of access rights (SDM 3C, Guest Register State).
TYPE_ACCESSED, TYPE_WRITABLE, TYPE_CONFORMING, TYPE_CODE = 1, 2, 4, 8
RIGHTS_S, RIGHTS_P = 1 << 4, 1 << 7
# System types (SDM 3A, System Descriptor Types).
TSS16, LDT, TSS16_BUSY, CALL_GATE16, TASK_GATE = 1, 2, 3, 4, 5
INTERRUPT_GATE16, TRAP_GATE16, TSS, TSS_BUSY, CALL_GATE = 6, 7, 9, 11, 12
INTERRUPT_GATE, TRAP_GATE = 14, 15


def rights_of(descriptor: Value) -> Value:
    """Access rights of a 64-bit descriptor, 32 bits, in the format of the VMCS."""
    return (descriptor >> 40).trunc(32) & 0xF0FF


def base_of(descriptor: Value) -> Value:
    """Base address, 32 bits of it."""
    return descriptor.bits(39, 16) | (descriptor.bits(63, 56) << 24)


def limit_of(descriptor: Value) -> Value:
    """Limit in bytes, granularity applied."""
    raw = (descriptor & 0xFFFF) | ((descriptor >> 32) & 0xF0000)
    return descriptor.bit(55).select((raw << 12) | 0xFFF, raw)


def dpl_of(rights: Value) -> Value:
    return rights.bits(6, 5)


def is_null(selector: Value) -> Value:
    """Selectors 0 to 3 (16-bit argument)."""
    return (selector & 0xFFFC) == 0


def selector_error(selector: Value) -> Value:
    """The error code that names a selector."""
    return (selector & 0xFFFC).zext(32)


def current_cpl(b: Builder) -> Value:
    """CPL at run time, 32 bits: SS.DPL, and 3 in virtual-8086 mode."""
    v86 = b.get("rflags").bit(17)
    return v86.select(b.const(32, 3), b.get("ss_ar", 32).bits(6, 5))


def in_long_mode(b: Builder) -> Value:
    """IA-32e mode is active (1 bit)."""
    return (b.get("efer") & EFER_LMA) != 0


def in_64bit_mode(b: Builder) -> Value:
    return in_long_mode(b) & ((b.get("cs_ar") & AR_L) != 0)


def is_canonical(gva: Value) -> Value:
    """A 48-bit linear address, sign-extended (1 bit)."""
    top = gva.sar(47)
    return (top == 0) | (top == (1 << 64) - 1)


def put_segment(
    b: Builder, name: str, selector: Value, base: Value, limit: Value, rights: Value
) -> None:
    """Fill all four slots of a segment register."""
    b.put(f"{name}_sel", selector)
    b.put(f"{name}_base", base)
    b.put(f"{name}_limit", limit)
    b.put(f"{name}_ar", rights)


@routine_(16, results=(1, 64))
def descriptor_place(b: Builder, selector: Value) -> None:
    """Whether the selector lies in its table, and the linear address of its descriptor."""
    offset = (selector & 0xFFF8).zext(64)
    with b.if_(selector.bit(2)):
        usable = (b.get("ldtr_ar") & AR_UNUSABLE) == 0
        inside = usable & (offset + 7).ule(b.get("ldtr_limit"))
        b.return_(inside, b.get("ldtr_base") + offset)
    b.return_((offset + 7).ule(b.get("gdtr_limit")), b.get("gdtr_base") + offset)


@routine_(16, results=(1, 64))
def read_descriptor(b: Builder, selector: Value) -> None:
    """Whether the selector lies in its table, and the 8-byte descriptor (0 where it does not)."""
    inside, gva = b.call("descriptor_place", selector)
    with b.if_(~inside):
        b.return_(b.const(1, 0), b.const(64, 0))
    b.return_(b.const(1, 1), b.load(64, gva, SYSTEM_READ))


@routine_(16, results=(1, 64, 64))
def read_wide_descriptor(b: Builder, selector: Value) -> None:
    """A 16-byte system descriptor of IA-32e mode: low and high half."""
    inside, gva = b.call("descriptor_place", selector)
    limit = selector.bit(2).select(b.get("ldtr_limit"), b.get("gdtr_limit"))
    whole = ((selector & 0xFFF8).zext(64) + 15).ule(limit)
    with b.if_(~(inside & whole)):
        b.return_(b.const(1, 0), b.const(64, 0), b.const(64, 0))
    low, high = b.load(64, gva, SYSTEM_READ), b.load(64, gva + 8, SYSTEM_READ)
    b.return_(b.const(1, 1), low, high)


@routine_(16, 64)
def mark_accessed(b: Builder, selector: Value, descriptor: Value) -> None:
    """Set the accessed bit of a code or data descriptor in its table."""
    with b.if_(~descriptor.bit(40)):
        _, gva = b.call("descriptor_place", selector)
        b.store(gva + 5, (descriptor >> 40).trunc(8) | TYPE_ACCESSED, SYSTEM_WRITE)
    b.return_()


@routine_(16, results=(64, 64, 32))
def data_segment(b: Builder, selector: Value) -> None:
    """Base, limit and rights that DS, ES, FS or GS gets from `selector` in protected mode."""
    with b.if_(is_null(selector)):
        b.return_(b.const(64, 0), b.const(64, 0), b.const(32, AR_UNUSABLE))
    error = selector_error(selector)
    inside, descriptor = b.call("read_descriptor", selector)
    rights = rights_of(descriptor)
    dpl, rpl = dpl_of(rights), selector.zext(32) & 3
    code = rights.bit(3)
    readable = rights.bit(4) & (~code | rights.bit(1))
    checked = ~code | ~rights.bit(2)  # data, or code that is not conforming
    denied = checked & (dpl.ult(rpl) | dpl.ult(current_cpl(b)))
    b.fault_if(~inside | ~readable | denied, GP, error)
    b.fault_if(~rights.bit(7), NP, error)
    b.call("mark_accessed", selector, descriptor)
    b.return_(base_of(descriptor), limit_of(descriptor), rights | TYPE_ACCESSED)


@routine_(16, results=(64, 64, 32))
def stack_segment(b: Builder, selector: Value) -> None:
    """Base, limit and rights that SS gets from `selector` in protected mode, CPL unchanged."""
    cpl = current_cpl(b)
    rpl = selector.zext(32) & 3
    with b.if_(is_null(selector)):
        allowed = in_64bit_mode(b) & (cpl != 3) & (rpl == cpl)
        b.fault_if(~allowed, GP, 0)
        b.return_(b.const(64, 0), b.const(64, 0), (cpl << 5) | AR_UNUSABLE)
    error = selector_error(selector)
    inside, descriptor = b.call("read_descriptor", selector)
    rights = rights_of(descriptor)
    writable = rights.bit(4) & ~rights.bit(3) & rights.bit(1)
    wrong = ~inside | (rpl != cpl) | ~writable | (dpl_of(rights) != cpl)
    b.fault_if(wrong, GP, error)
    b.fault_if(~rights.bit(7), SS, error)
    b.call("mark_accessed", selector, descriptor)
    b.return_(base_of(descriptor), limit_of(descriptor), rights | TYPE_ACCESSED)
