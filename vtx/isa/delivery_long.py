"""Event delivery in IA-32e mode: 64-bit gates, the interrupt stack table, 64-bit frames.

Sources: SDM 3A, Exception and Interrupt Handling in 64-bit Mode; SDM 2A, INT n/INTO/INT3/INT1
(operation).
"""

from vtx.isa.builder import Builder, Value, routine_
from vtx.isa.descriptors import (
    GP,
    INTERRUPT_GATE,
    NP,
    SS,
    SYSTEM_READ,
    TRAP_GATE,
    TYPE_ACCESSED,
    base_of,
    current_cpl,
    dpl_of,
    is_canonical,
    is_null,
    limit_of,
    put_segment,
    rights_of,
    selector_error,
)
from vtx.isa.key import AR_D, AR_L, AR_UNUSABLE
from vtx.isa.program import Access, Privilege
from vtx.isa.rflags import AC, IF, NT, RF, TF, VM, read_rflags

TS = 10
SOFTWARE_TYPES = (4, 6)
IN_IDT = 2

_USER = Access(True, Privilege.USER, True)
_SUPERVISOR = Access(True, Privilege.SUPERVISOR, True)
_SUPERVISOR_AC = Access(True, Privilege.SUPERVISOR_AC, True)


def external(b: Builder) -> Value:
    """The EXT bit of an error code during delivery, 32 bits (SDM 3A, Error Code)."""
    kind = b.get("event_type")
    software = b.any_of(*(kind == n for n in SOFTWARE_TYPES))
    return (~software).zext(32)


def idt_error(b: Builder, ext: Value) -> Value:
    """The error code that names the event's gate."""
    return (b.get("event_vector", 32) << 3) | IN_IDT | ext


def return_ip(b: Builder) -> Value:
    """RIP to push: behind the instruction for software events, else where execution stands."""
    kind = b.get("event_type")
    software = b.any_of(*(kind == n for n in (4, 5, 6)))
    return b.get("rip") + software.select(b.get("event_length"), b.const(64, 0))


def check_gate_privilege(b: Builder, rights: Value, cpl: Value, ext: Value) -> None:
    """INT n, INT3 and INTO need a gate whose DPL is at least CPL."""
    software = b.any_of(*(b.get("event_type") == n for n in SOFTWARE_TYPES))
    b.fault_if(software & dpl_of(rights).ult(cpl), GP, idt_error(b, ext))


def pushed_flags(b: Builder, resume: Value) -> Value:
    """The image of RFLAGS for the frame (SDM 3A, Resume Flag)."""
    return read_rflags(b) | resume.select(b.const(64, RF), b.const(64, 0))


def put_handler_flags(b: Builder, clears_if: Value) -> None:
    """RFLAGS for the handler; an interrupt gate clears IF as well."""
    cleared = clears_if.select(b.const(64, IF), b.const(64, 0)) | (TF | NT | RF | VM)
    b.put("rflags", b.get("rflags") & ~cleared)


@routine_(64, 64, 32)
def store_frame64(b: Builder, gva: Value, value: Value, cpl: Value) -> None:
    """Store one frame element on the stack of privilege level `cpl`."""
    with b.if_(cpl == 3):
        b.store(gva, value, _USER)
        b.return_()
    with b.if_((b.get("rflags") & AC) != 0):
        b.store(gva, value, _SUPERVISOR_AC)
        b.return_()
    b.store(gva, value, _SUPERVISOR)
    b.return_()


@routine_(32, 32, 32, results=(64,))
def long_stack(b: Builder, ist: Value, new_cpl: Value, ext: Value) -> None:
    """The stack pointer that the 64-bit TSS holds for an IST entry, or for a new CPL."""
    offset = (ist == 0).select((new_cpl << 3) + 4, (ist << 3) + 28).zext(64)
    outside = b.get("tr_limit").ult(offset + 7)
    b.fault_if(outside, TS, selector_error(b.get("tr_sel", 16)) | ext)
    b.return_(b.load(64, b.get("tr_base") + offset, SYSTEM_READ))


@routine_(1)
def deliver_long(b: Builder, resume: Value) -> None:
    """Deliver the event of the event_* slots through a 64-bit gate."""
    ext = external(b)
    old_cpl = current_cpl(b)
    gate_error = idt_error(b, ext)
    offset = b.get("event_vector") << 4
    b.fault_if(b.get("idtr_limit").ult(offset + 15), GP, gate_error)
    gate = b.get("idtr_base") + offset
    low, high = b.load(64, gate, SYSTEM_READ), b.load(64, gate + 8, SYSTEM_READ)
    gate_rights = rights_of(low)
    kind = gate_rights & 0x1F
    b.fault_if((kind != INTERRUPT_GATE) & (kind != TRAP_GATE), GP, gate_error)
    check_gate_privilege(b, gate_rights, old_cpl, ext)
    b.fault_if(~gate_rights.bit(7), NP, gate_error)

    selector = (low >> 16).trunc(16)
    b.fault_if(is_null(selector), GP, ext)
    error = selector_error(selector) | ext
    inside, descriptor = b.call("read_descriptor", selector)
    rights = rights_of(descriptor)
    dpl = dpl_of(rights)
    is_code = rights.bit(4) & rights.bit(3)
    is_64bit = (rights & (AR_L | AR_D)) == AR_L
    b.fault_if(~inside | ~is_code | old_cpl.ult(dpl) | ~is_64bit, GP, error)
    b.fault_if(~rights.bit(7), NP, error)
    inner = ~rights.bit(2) & dpl.ult(old_cpl)
    new_cpl = inner.select(dpl, old_cpl)

    target = (low & 0xFFFF) | ((low >> 32) & 0xFFFF_0000) | (high << 32)
    b.fault_if(~is_canonical(target), GP, ext)
    ist = (low >> 32).trunc(32) & 7
    stack = b.var(64, b.get("rsp"))
    with b.if_(inner | (ist != 0)):
        (top,) = b.call("long_stack", ist, new_cpl, ext)
        stack.set(top)
    top = stack.get() & ~0xF
    b.fault_if(~is_canonical(top) | ~is_canonical(top - 8), SS, ext)

    frame = (
        b.get("ss_sel"), b.get("rsp"), pushed_flags(b, resume), b.get("cs_sel"), return_ip(b),
    )  # fmt: skip
    for n, value in enumerate(frame, 1):
        b.call("store_frame64", top - 8 * n, value, new_cpl)
    bottom = b.var(64, top - 40)
    with b.if_(b.get("event_has_error", 1)):
        b.call("store_frame64", top - 48, b.get("event_error"), new_cpl)
        bottom.set(top - 48)
    b.call("mark_accessed", selector, descriptor)

    with b.if_(inner):
        rights_null = (new_cpl << 5) | AR_UNUSABLE
        zero = b.const(64, 0)
        put_segment(b, "ss", new_cpl.trunc(16), zero, zero, rights_null)
    code_selector = (selector & 0xFFFC) | new_cpl.trunc(16)
    put_segment(
        b, "cs", code_selector, base_of(descriptor), limit_of(descriptor), rights | TYPE_ACCESSED
    )
    b.put("rsp", bottom.get())
    b.put("rip", target)
    put_handler_flags(b, kind == INTERRUPT_GATE)
    b.return_()
