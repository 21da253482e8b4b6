"""Event delivery outside IA-32e mode: protected-mode gates, and the real-mode vector table.

Sources: SDM 2A, INT n/INTO/INT3/INT1 (operation); SDM 3A, Exception- or Interrupt-Handler
Procedures; Interrupt and Exception Handling in Virtual-8086 Mode; Real-Address Mode Operation.
"""

from vtx.isa.builder import Builder, Value, routine_
from vtx.isa.delivery_long import (
    TS,
    check_gate_privilege,
    external,
    idt_error,
    pushed_flags,
    put_handler_flags,
    return_ip,
)
from vtx.isa.descriptors import (
    GP,
    NP,
    SS,
    SYSTEM_READ,
    TASK_GATE,
    TYPE_ACCESSED,
    base_of,
    current_cpl,
    dpl_of,
    is_null,
    limit_of,
    put_segment,
    rights_of,
    selector_error,
)
from vtx.isa.key import AR_D, AR_UNUSABLE
from vtx.isa.program import Access, Privilege
from vtx.isa.rflags import AC, IF, TF, VM, read_rflags
from vtx.isa.task_switch import BY_GATE

_USER = Access(True, Privilege.USER, True)
_SUPERVISOR = Access(True, Privilege.SUPERVISOR, True)
_SUPERVISOR_AC = Access(True, Privilege.SUPERVISOR_AC, True)
_GATE32 = 8  # bit of a gate's type: 32-bit frames
WRAP32 = 0xFFFF_FFFF


def _store(b: Builder, width: int, gva: Value, value: Value, cpl: Value) -> None:
    with b.if_(cpl == 3):
        b.store(gva, value.to(width), _USER)
    with b.else_():
        with b.if_((b.get("rflags") & AC) != 0):
            b.store(gva, value.to(width), _SUPERVISOR_AC)
        with b.else_():
            b.store(gva, value.to(width), _SUPERVISOR)


@routine_(64, 64, 32, 1)
def store_frame(b: Builder, gva: Value, value: Value, cpl: Value, wide: Value) -> None:
    """Store one frame element, 32 bits if `wide` and 16 otherwise."""
    with b.if_(wide):
        _store(b, 32, gva, value, cpl)
    with b.else_():
        _store(b, 16, gva, value, cpl)
    b.return_()


@routine_(64, 64, 32, 64, results=(1,))
def stack_has_room(b: Builder, limit: Value, top: Value, rights: Value, size: Value) -> None:
    """Whether `size` bytes below stack offset `top` may be written (SDM 3A, Limit Checking)."""
    big = (rights & AR_D) != 0
    wrap = big.select(b.const(64, WRAP32), b.const(64, 0xFFFF))
    first, last = (top - size) & wrap, (top - 1) & wrap
    ordered = first.ule(last)
    (allowed,) = b.call("segment_writable", rights, limit, first, last)
    b.return_(allowed & ordered)


@routine_(32, 32, results=(64, 64))
def inner_stack(b: Builder, level: Value, ext: Value) -> None:
    """SS selector and stack pointer that the TSS holds for a privilege level (16- or 32-bit)."""
    error = selector_error(b.get("tr_sel", 16)) | ext
    base, limit = b.get("tr_base"), b.get("tr_limit")
    wide = b.get("tr_ar").bit(3)
    level = level.zext(64)
    with b.if_(wide):
        offset = (level << 3) + 4
        b.fault_if(limit.ult(offset + 5), TS, error)
        stack = b.load(32, base + offset, SYSTEM_READ).zext(64)
        b.return_(b.load(16, base + offset + 4, SYSTEM_READ).zext(64), stack)
    offset = (level << 2) + 2
    b.fault_if(limit.ult(offset + 3), TS, error)
    stack = b.load(16, base + offset, SYSTEM_READ).zext(64)
    b.return_(b.load(16, base + offset + 2, SYSTEM_READ).zext(64), stack)


@routine_(16, 32, 32, results=(64, 64, 32))
def inner_stack_segment(b: Builder, selector: Value, level: Value, ext: Value) -> None:
    """Base, limit and rights of the SS of an inner level; #TS where it is not fit to be one."""
    b.fault_if(is_null(selector), TS, ext)
    error = selector_error(selector) | ext
    inside, descriptor = b.call("read_descriptor", selector)
    rights = rights_of(descriptor)
    writable = rights.bit(4) & ~rights.bit(3) & rights.bit(1)
    rpl = selector.zext(32) & 3
    b.fault_if(~inside | (rpl != level) | (dpl_of(rights) != level) | ~writable, TS, error)
    b.fault_if(~rights.bit(7), SS, error)
    b.call("mark_accessed", selector, descriptor)
    b.return_(base_of(descriptor), limit_of(descriptor), rights | TYPE_ACCESSED)


@routine_(16, 1, 32)
def deliver_by_task(b: Builder, selector: Value, resume: Value, ext: Value) -> None:
    """Switch to the task that a task gate names; its stack gets the error code, if any."""
    b.call("switch_tasks", selector, BY_GATE, resume)
    with b.if_(b.get("event_has_error", 1)):
        wide, rights = b.get("tr_ar").bit(3), b.get("ss_ar", 32)
        wrap = ((rights & AR_D) != 0).select(b.const(64, WRAP32), b.const(64, 0xFFFF))
        top, base = b.get("rsp") & wrap, b.get("ss_base")
        size = wide.select(b.const(64, 4), b.const(64, 2))
        (room,) = b.call("stack_has_room", b.get("ss_limit"), top, rights, size)
        b.fault_if(~room, SS, ext)
        final = _push_error(b, base, top, wrap, current_cpl(b), wide)
        b.put("rsp", final | (b.get("rsp") & ~wrap & WRAP32))
    b.return_()


def push_frame(
    b: Builder, values: tuple[Value, ...], base: Value, top: Value, wrap: Value, cpl: Value,
    wide: Value,
) -> Value:  # fmt: skip
    """Store `values` one below the other; the new stack offset."""
    step = wide.select(b.const(64, 4), b.const(64, 2))
    offset = top
    for value in values:
        offset = (offset - step) & wrap
        b.call("store_frame", (base + offset) & WRAP32, value, cpl, wide)
    return offset


@routine_(1)
def deliver_protected(b: Builder, resume: Value) -> None:
    """Deliver the event of the event_* slots through a protected-mode gate."""
    ext = external(b)
    old_cpl = current_cpl(b)
    gate_error = idt_error(b, ext)
    offset = b.get("event_vector") << 3
    b.fault_if(b.get("idtr_limit").ult(offset + 7), GP, gate_error)
    gate = b.load(64, b.get("idtr_base") + offset, SYSTEM_READ)
    gate_rights = rights_of(gate)
    kind = gate_rights & 0x1F
    interrupt_or_trap = (kind & 0x16) == 6  # 6, 7, 14, 15
    b.fault_if(~interrupt_or_trap & (kind != TASK_GATE), GP, gate_error)
    check_gate_privilege(b, gate_rights, old_cpl, ext)
    b.fault_if(~gate_rights.bit(7), NP, gate_error)
    with b.if_(kind == TASK_GATE):
        b.call("deliver_by_task", (gate >> 16).trunc(16), resume, ext)
        b.return_()

    selector = (gate >> 16).trunc(16)
    b.fault_if(is_null(selector), GP, ext)
    error = selector_error(selector) | ext
    inside, descriptor = b.call("read_descriptor", selector)
    rights = rights_of(descriptor)
    dpl = dpl_of(rights)
    is_code = rights.bit(4) & rights.bit(3)
    b.fault_if(~inside | ~is_code | old_cpl.ult(dpl), GP, error)
    b.fault_if(~rights.bit(7), NP, error)
    inner = ~rights.bit(2) & dpl.ult(old_cpl)
    v86 = (b.get("rflags") & VM) != 0
    b.fault_if(v86 & (~inner | (dpl != 0)), GP, error)

    wide = (kind & _GATE32) != 0
    high = wide.select((gate >> 32) & 0xFFFF_0000, b.const(64, 0))
    target = (gate & 0xFFFF) | high
    limit = limit_of(descriptor)
    b.fault_if(limit.ult(target), GP, ext)
    b.call("mark_accessed", selector, descriptor)
    with b.if_(inner):
        sp, *stack = b.call("enter_inner", dpl, ext, wide, v86, resume)
        put_segment(b, "ss", *stack)
        b.put("rsp", sp)
        with b.if_(v86):
            _empty_data_segments(b)
    with b.else_():
        (sp,) = b.call("enter_same", ext, wide, resume, old_cpl)
        b.put("rsp", sp)
    new_cpl = inner.select(dpl, old_cpl)
    code_selector = (selector & 0xFFFC) | new_cpl.trunc(16)
    put_segment(b, "cs", code_selector, base_of(descriptor), limit, rights | TYPE_ACCESSED)
    b.put("rip", target)
    put_handler_flags(b, (kind & 1) == 0)
    b.return_()


def _frame_tail(b: Builder, resume: Value) -> tuple[Value, ...]:
    ip = return_ip(b) & WRAP32
    return pushed_flags(b, resume), b.get("cs_sel"), ip


def _empty_data_segments(b: Builder) -> None:
    zero, unusable = b.const(64, 0), b.const(64, AR_UNUSABLE)
    for name in ("es", "ds", "fs", "gs"):
        put_segment(b, name, zero, zero, zero, unusable)


def _push_error(
    b: Builder, base: Value, offset: Value, wrap: Value, cpl: Value, wide: Value
) -> Value:
    """Store the error code, if the event has one; the final stack offset."""
    final = b.var(64, offset)
    with b.if_(b.get("event_has_error", 1)):
        final.set(push_frame(b, (b.get("event_error"),), base, offset, wrap, cpl, wide))
    return final.get()


@routine_(32, 1, 1, 32, results=(64,))
def enter_same(b: Builder, ext: Value, wide: Value, resume: Value, cpl: Value) -> None:
    """Store the frame of a handler at the same privilege level; the new stack pointer."""
    rights = b.get("ss_ar", 32)
    wrap = ((rights & AR_D) != 0).select(b.const(64, WRAP32), b.const(64, 0xFFFF))
    top, base = b.get("rsp") & wrap, b.get("ss_base")
    elements = b.get("event_has_error", 1).zext(64) + 3
    size = wide.select(elements << 2, elements << 1)
    (room,) = b.call("stack_has_room", b.get("ss_limit"), top, rights, size)
    b.fault_if(~room, SS, ext)
    offset = push_frame(b, _frame_tail(b, resume), base, top, wrap, cpl, wide)
    final = _push_error(b, base, offset, wrap, cpl, wide)
    b.return_(final | (b.get("rsp") & ~wrap & WRAP32))


@routine_(32, 32, 1, 1, 1, results=(64, 16, 64, 64, 32))
def enter_inner(
    b: Builder, level: Value, ext: Value, wide: Value, v86: Value, resume: Value
) -> None:
    """Store the frame of a handler at an inner level on the stack that the TSS names.

    Returns the new stack pointer, and selector, base, limit and rights of the new SS.
    """
    selector, top = b.call("inner_stack", level, ext)
    base, limit, rights = b.call("inner_stack_segment", selector.trunc(16), level, ext)
    wrap = ((rights & AR_D) != 0).select(b.const(64, WRAP32), b.const(64, 0xFFFF))
    top = top & wrap
    extra = v86.select(b.const(64, 9), b.const(64, 5))
    elements = b.get("event_has_error", 1).zext(64) + extra
    size = wide.select(elements << 2, elements << 1)
    (room,) = b.call("stack_has_room", limit, top, rights, size)
    b.fault_if(~room, SS, selector_error(selector.trunc(16)) | ext)
    offset = b.var(64, top)
    with b.if_(v86):
        segments = tuple(b.get(f"{name}_sel") for name in ("gs", "fs", "ds", "es"))
        offset.set(push_frame(b, segments, base, top, wrap, level, wide))
    frame = (b.get("ss_sel"), b.get("rsp"), *_frame_tail(b, resume))
    low = push_frame(b, frame, base, offset.get(), wrap, level, wide)
    final = _push_error(b, base, low, wrap, level, wide)
    b.return_(final, selector.trunc(16), base, limit, rights)


@routine_(1)
def deliver_real(b: Builder, resume: Value) -> None:
    """Deliver the event through the real-mode interrupt vector table; no error codes."""
    offset = b.get("event_vector") << 2
    b.fault_if(b.get("idtr_limit").ult(offset + 3), GP, 0)
    pointer = b.load(32, b.get("idtr_base") + offset, SYSTEM_READ)
    stack = b.get("rsp", 16).zext(64)
    limit, rights = b.get("ss_limit"), b.get("ss_ar", 32)
    (room,) = b.call("stack_has_room", limit, stack, rights, b.const(64, 6))
    b.fault_if(~room, SS, 0)
    flags = read_rflags(b)
    values = (flags, b.get("cs_sel"), return_ip(b))
    level, narrow = b.const(32, 0), b.const(1, 0)
    low = push_frame(b, values, b.get("ss_base"), stack, b.const(64, 0xFFFF), level, narrow)
    b.put("rsp", (b.get("rsp") & ~0xFFFF) | low)
    selector = (pointer >> 16).trunc(16)
    b.put("cs_sel", selector)
    b.put("cs_base", selector.zext(64) << 4)
    b.put("rip", pointer.zext(64) & 0xFFFF)
    b.put("rflags", b.get("rflags") & ~(IF | TF | AC))
    b.return_()
