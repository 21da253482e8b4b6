"""IRET, IRETD and IRETQ, in every mode.

What an instruction pops is read first; everything is checked before anything changes, but for
blocking by NMI, which ends even when the IRET faults.
Sources: SDM 2A, IRET/IRETD/IRETQ; SDM 3A, Handling Multiple NMIs; SDM 3C, Changes to
Instruction Behavior in VMX Non-Root Operation.
"""

from vtx.isa.builder import Builder, Value, routine_
from vtx.isa.descriptors import (
    SS,
    SYSTEM_READ,
    TYPE_ACCESSED,
    base_of,
    dpl_of,
    in_long_mode,
    is_canonical,
    is_null,
    limit_of,
    put_segment,
    rights_of,
    selector_error,
)
from vtx.isa.instruction import GP, NP, Instruction, semantics
from vtx.isa.key import AR_D, AR_L, AR_UNUSABLE
from vtx.isa.rflags import (
    AC,
    ARITHMETIC,
    DF,
    ID,
    IF,
    IOPL,
    NT,
    RF,
    TF,
    VIF,
    VIP,
    VM,
    iopl,
    read_rflags,
    write_rflags,
)
from vtx.isa.task_state import LINK
from vtx.isa.task_switch import BY_IRET, ask_for_task_switch

PIN_NMI_EXITING, PIN_VIRTUAL_NMIS = 1 << 3, 1 << 5
BLOCKING_NMI = 1 << 3
_ALWAYS = ARITHMETIC | TF | DF | NT
_SYSTEM = RF | AC | ID


def unblock_nmi(i: Instruction) -> None:
    """IRET ends blocking by NMI, in a guest of a VMM that takes NMIs only with virtual NMIs."""
    blocked = (i.get("interruptibility") & BLOCKING_NMI) != 0
    if i.non_root:
        pin = i.get("pin_controls")
        keeps = (pin & (PIN_NMI_EXITING | PIN_VIRTUAL_NMIS)) == PIN_NMI_EXITING
        blocked = blocked & ~keeps
    with i.if_(blocked):
        i.put("interruptibility", i.get("interruptibility") & ~BLOCKING_NMI)
        i.put("nmi_unblocked", 1)


def put_returned_flags(i: Instruction, image: Value, mask: Value, width: int) -> None:
    """RFLAGS from a popped image; a 16-bit one leaves bits 31:16 alone."""
    if width == 16:
        mask = mask & 0xFFFF
        image = image.zext(64)
    else:
        image = image.to(64)
    write_rflags(i, (read_rflags(i) & ~mask) | (image & mask))


def _privileged_mask(i: Instruction, cpl: int) -> Value:
    """Bits IRET may change at a CPL, by its operation: IF by IOPL, IOPL itself only at 0."""
    mask = i.const(64, _ALWAYS | _SYSTEM)
    if cpl == 0:
        return mask | (IF | IOPL | VIF | VIP)
    may_if = i.const(64, cpl).ule(iopl(i))
    return mask | may_if.select(i.const(64, IF), i.const(64, 0))


@semantics("IRET", "IRETD", "IRETQ")
def iret(i: Instruction) -> None:
    width = {"IRET": 16, "IRETD": 32, "IRETQ": 64}[i.mnemonic]
    i.resync()
    if i.key.v86:
        _return_in_v86(i, width)
    elif not i.key.protected:
        unblock_nmi(i)
        _return_in_real_mode(i, width)
    elif i.key.long:
        i.fault_if((i.get("rflags") & NT) != 0, GP, 0)
        unblock_nmi(i)
        _return_in_long_mode(i, width)
    else:
        _leave_task(i)
        unblock_nmi(i)
        _return_in_protected_mode(i, width)


def _leave_task(i: Instruction) -> None:
    """NT = 1: back to the task that the present TSS links to."""
    with i.if_((i.get("rflags") & NT) != 0):
        link = i.load(16, i.get("tr_base") + LINK, SYSTEM_READ)
        ask_for_task_switch(i, link, BY_IRET)


def _frame(i: Instruction, width: int, count: int) -> list[Value]:
    step = width // 8
    return [i.load_stack(n * step, width) for n in range(count)]


def _finish(i: Instruction, target: Value) -> None:
    i.put("nmi_unblocked", 0)
    i.jump(target)


# --- real-address and virtual-8086 mode ------------------------------------------------------


def _check_limit(i: Instruction, target: Value) -> None:
    i.fault_if(i.get("cs_limit").ult(target), GP, 0)


def _return_flat(i: Instruction, width: int, mask: Value) -> None:
    """Three elements, the code segment as in the 8086."""
    ip, cs, flags = _frame(i, width, 3)
    target, selector = ip.zext(64), cs.to(16)
    _check_limit(i, target)
    i.drop_stack(3 * width // 8)
    i.put("cs_sel", selector)
    i.put("cs_base", selector.zext(64) << 4)
    put_returned_flags(i, flags, mask, width)
    _finish(i, target)


def _return_in_real_mode(i: Instruction, width: int) -> None:
    _return_flat(i, width, i.const(64, _ALWAYS | _SYSTEM | IF | IOPL))


def _return_in_v86(i: Instruction, width: int) -> None:
    """Virtual-8086 mode with IOPL 3; VM and IOPL stay."""
    i.fault_if(iopl(i) != 3, GP, 0)
    unblock_nmi(i)
    _return_flat(i, width, i.const(64, _ALWAYS | _SYSTEM | IF))


# --- protected mode --------------------------------------------------------------------------


@routine_(16, 32, results=(64, 32))
def return_code_segment(b: Builder, selector: Value, cpl: Value) -> None:
    """Descriptor and rights of the CS to return to, with the checks of IRET and RETF."""
    b.fault_if(is_null(selector), GP, 0)
    error = selector_error(selector)
    inside, descriptor = b.call("read_descriptor", selector)
    rights = rights_of(descriptor)
    rpl, dpl = selector.zext(32) & 3, dpl_of(rights)
    is_code = rights.bit(4) & rights.bit(3)
    b.fault_if(~inside | ~is_code | rpl.ult(cpl), GP, error)
    conforming = rights.bit(2)
    b.fault_if(conforming.select(rpl.ult(dpl), rpl != dpl), GP, error)
    both = in_long_mode(b) & ((rights & (AR_L | AR_D)) == (AR_L | AR_D))
    b.fault_if(both, GP, error)
    b.fault_if(~rights.bit(7), NP, error)
    b.return_(descriptor, rights | TYPE_ACCESSED)


@routine_(16, 32, 1, results=(64, 64, 32))
def return_stack_segment(b: Builder, selector: Value, level: Value, long: Value) -> None:
    """Base, limit and rights of the SS to return to at privilege `level`.

    `long`: the code returned to is 64-bit, where a null SS is allowed below level 3.
    """
    rpl = selector.zext(32) & 3
    with b.if_(is_null(selector)):
        b.fault_if(~(long & (level != 3) & (rpl == level)), GP, 0)
        b.return_(b.const(64, 0), b.const(64, 0), (level << 5) | AR_UNUSABLE)
    error = selector_error(selector)
    inside, descriptor = b.call("read_descriptor", selector)
    rights = rights_of(descriptor)
    writable = rights.bit(4) & ~rights.bit(3) & rights.bit(1)
    b.fault_if(~inside | (rpl != level) | ~writable | (dpl_of(rights) != level), GP, error)
    b.fault_if(~rights.bit(7), SS, error)
    b.call("mark_accessed", selector, descriptor)
    b.return_(base_of(descriptor), limit_of(descriptor), rights | TYPE_ACCESSED)


@routine_(32)
def drop_inner_segments(b: Builder, level: Value) -> None:
    """Empty DS, ES, FS and GS where they may not be used at the outer privilege level."""
    for name in ("es", "ds", "fs", "gs"):
        rights = b.get(f"{name}_ar", 32)
        conforming = rights.bit(3) & rights.bit(2)
        usable = (rights & AR_UNUSABLE) == 0
        with b.if_(usable & ~conforming & dpl_of(rights).ult(level)):
            zero = b.const(64, 0)
            put_segment(b, name, zero, zero, zero, b.const(64, AR_UNUSABLE))
    b.return_()


def check_target(
    i: Instruction, target: Value, descriptor: Value, rights: Value
) -> tuple[Value, Value]:
    """Whether the code is 64-bit, and the target as its mode has it; #GP(0) outside it."""
    limit = limit_of(descriptor)
    if not i.key.long:
        i.fault_if(limit.ult(target), GP, 0)
        return i.const(1, 0), target
    long = (rights & AR_L) != 0
    i.fault_if(long.select(~is_canonical(target), limit.ult(target)), GP, 0)
    return long, target


def put_code_segment(i: Instruction, selector: Value, descriptor: Value, rights: Value) -> None:
    base, limit = base_of(descriptor), limit_of(descriptor)
    put_segment(i, "cs", selector, base, limit, rights)


def return_outwards(
    i: Instruction, level: Value, stack: tuple[Value, Value], code: tuple[Value, Value, Value]
) -> None:
    """Commit a return to an outer level or with a stack of its own: SS:RSP, CS, data segments.

    `stack` is (selector, stack pointer), `code` is (selector, descriptor, rights).
    """
    selector, pointer = stack
    code_selector, descriptor, rights = code
    long = (rights & AR_L) != 0 if i.key.long else i.const(1, 0)
    base, limit, stack_rights = i.call("return_stack_segment", selector, level, long)
    i.call("mark_accessed", code_selector, descriptor)
    put_segment(i, "ss", selector, base, limit, stack_rights)
    big = ((stack_rights & AR_D) != 0) | long
    narrow = (i.get("rsp") & ~0xFFFF) | (pointer.to(64) & 0xFFFF)
    i.put("rsp", big.select(pointer.to(64), narrow))
    put_code_segment(i, code_selector, descriptor, rights)
    i.call("drop_inner_segments", level)


def _return_in_protected_mode(i: Instruction, width: int) -> None:
    ip, cs, flags = _frame(i, width, 3)
    target, selector = ip.zext(64), cs.to(16)
    if width == 32 and i.key.cpl == 0:
        with i.if_((flags & VM) != 0):
            _return_to_v86(i, target, selector, flags)
    mask = _privileged_mask(i, i.key.cpl)
    _return_checked(i, width, target, selector, flags, mask)


def _return_checked(
    i: Instruction, width: int, target: Value, selector: Value, flags: Value, mask: Value
) -> None:
    step = width // 8
    descriptor, rights = i.call("return_code_segment", selector, i.key.cpl)
    level = selector.zext(32) & 3
    with i.if_(level != i.key.cpl):
        pointer, ss = i.load_stack(3 * step, width), i.load_stack(4 * step, width)
        check_target(i, target, descriptor, rights)
        return_outwards(i, level, (ss.to(16), pointer), (selector, descriptor, rights))
        put_returned_flags(i, flags, mask, width)
        _finish(i, target)
    check_target(i, target, descriptor, rights)
    i.call("mark_accessed", selector, descriptor)
    i.drop_stack(3 * step)
    put_code_segment(i, selector, descriptor, rights)
    put_returned_flags(i, flags, mask, width)
    _finish(i, target)


def _return_to_v86(i: Instruction, target: Value, selector: Value, flags: Value) -> None:
    """From level 0 to virtual-8086 mode: nine elements, all segments as in the 8086."""
    pointer, *selectors = (i.load_stack(4 * n, 32) for n in range(3, 9))
    i.fault_if(i.const(64, 0xFFFF).ult(target), GP, 0)
    i.put("rsp", pointer)
    limit, rights = i.const(64, 0xFFFF), i.const(64, 0xF3)
    named = zip(("ss", "es", "ds", "fs", "gs"), selectors, strict=True)
    for name, value in (("cs", selector.zext(32)), *named):
        part = value.to(16)
        put_segment(i, name, part, part.zext(64) << 4, limit, rights)
    mask = _ALWAYS | _SYSTEM | IF | IOPL | VM | VIF | VIP
    put_returned_flags(i, flags, i.const(64, mask), 32)
    _finish(i, target)


# --- IA-32e mode -----------------------------------------------------------------------------


def _return_in_long_mode(i: Instruction, width: int) -> None:
    """In 64-bit mode SS:RSP is popped whatever the levels; compatibility mode as of old."""
    if i.key.bits != 64:
        ip, cs, flags = _frame(i, width, 3)
        mask = _privileged_mask(i, i.key.cpl)
        _return_checked(i, width, ip.zext(64), cs.to(16), flags, mask)
        return
    ip, cs, flags, pointer, ss = _frame(i, width, 5)
    target, selector = ip.zext(64), cs.to(16)
    descriptor, rights = i.call("return_code_segment", selector, i.key.cpl)
    check_target(i, target, descriptor, rights)
    level = selector.zext(32) & 3
    mask = _privileged_mask(i, i.key.cpl)
    return_outwards(i, level, (ss.to(16), pointer), (selector, descriptor, rights))
    put_returned_flags(i, flags, mask, width)
    _finish(i, target)
