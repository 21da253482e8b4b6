"""Far control transfers: JMP far, CALL far, RETF, through code segments and call gates.

JMP and CALL are one mnemonic each with their near forms; that family calls `jump_far` and
`call_far`. What a call gate does to the stack stands in `isa.call_gates`; a TSS or a task gate
ends the instruction in a task switch (`isa.task_switch`).
Sources: SDM 2A, JMP; CALL; SDM 2B, RET; SDM 3A, Calling Other Code Segments or Tasks.
"""

from dataclasses import dataclass

from iced_x86 import OpKind

from vtx.isa import call_gates as call_gates
from vtx.isa.builder import Value
from vtx.isa.descriptors import (
    CALL_GATE,
    CALL_GATE16,
    GP,
    NP,
    TASK_GATE,
    TSS,
    TSS16,
    TYPE_ACCESSED,
    base_of,
    dpl_of,
    is_canonical,
    is_null,
    limit_of,
    put_segment,
    rights_of,
    selector_error,
)
from vtx.isa.instruction import Instruction, semantics
from vtx.isa.interrupt_return import check_target, put_code_segment, return_outwards
from vtx.isa.key import AR_D, AR_L
from vtx.isa.task_switch import BY_CALL, BY_JMP, ask_for_task_switch

_FAR_WIDTHS = {OpKind.FAR_BRANCH16: 16, OpKind.FAR_BRANCH32: 32}


@dataclass(slots=True)
class Target:
    """Where a far transfer goes: selector, offset (64 bits), descriptor and its rights."""

    selector: Value
    offset: Value
    descriptor: Value
    rights: Value


def _far_pointer(i: Instruction) -> tuple[int, Value, Value]:
    """Operand size, offset (64 bits) and selector of the operand."""
    kind = i.decoded.op_kind(0)
    if kind in _FAR_WIDTHS:
        width = _FAR_WIDTHS[kind]
        i.specialised = True
        offset = i.decoded.far_branch16 if width == 16 else i.decoded.far_branch32
        return width, i.const(64, offset), i.const(16, i.decoded.far_branch_selector)
    whole = i.op(0)
    width = whole.width - 16
    operand = i.memory_operand(0, whole.width)
    operand.linear(size=whole.width // 8)
    selector = operand.part(width // 8, 16).read()
    return width, operand.part(0, width).read().to(64), selector


def jump_far(i: Instruction) -> None:
    _, offset, selector = _far_pointer(i)
    i.resync()
    if not i.key.protected or i.key.v86:
        _go_flat(i, selector, offset)
        return
    descriptor = _read(i, selector)
    rights = rights_of(descriptor)
    with i.if_((rights & 0x10) == 0):
        _system_target(i, selector, descriptor, BY_JMP)
        target = _through_gate(i, selector, descriptor, rights)
        conforming = target.rights.bit(2)
        _check_gate_code(i, target)
        i.fault_if(~conforming & (dpl_of(target.rights) != i.key.cpl), GP, _error(target))
        _check_present(i, target)
        _enter_same_level(i, target)
    target = Target(selector, offset, descriptor, rights)
    _check_direct(i, target)
    _enter_same_level(i, target)


def call_far(i: Instruction) -> None:
    width, offset, selector = _far_pointer(i)
    i.resync()
    if not i.key.protected or i.key.v86:
        i.fault_if(i.get("cs_limit").ult(offset), GP, 0)
        _push_return(i, width)
        _go_flat(i, selector, offset)
        return
    descriptor = _read(i, selector)
    rights = rights_of(descriptor)
    with i.if_((rights & 0x10) == 0):
        _system_target(i, selector, descriptor, BY_CALL)
        target = _through_gate(i, selector, descriptor, rights)
        _check_gate_code(i, target)
        _check_present(i, target)
        _call_through_gate(i, target, rights, descriptor)
    target = Target(selector, offset, descriptor, rights)
    _check_direct(i, target)
    check_target(i, target.offset, target.descriptor, target.rights)
    _push_return(i, width)
    _enter_same_level(i, target)


def _go_flat(i: Instruction, selector: Value, offset: Value) -> None:
    """Real-address and virtual-8086 mode: the code segment as in the 8086."""
    i.fault_if(i.get("cs_limit").ult(offset), GP, 0)
    i.put("cs_sel", selector)
    i.put("cs_base", selector.zext(64) << 4)
    i.jump(offset)


def _read(i: Instruction, selector: Value) -> Value:
    """The descriptor of a selector that is not null and lies in its table."""
    i.fault_if(is_null(selector), GP, 0)
    inside, descriptor = i.call("read_descriptor", selector)
    i.fault_if(~inside, GP, selector_error(selector))
    return descriptor


def _error(target: Target) -> Value:
    return selector_error(target.selector)


# --- code segments ---------------------------------------------------------------------------


def _check_direct(i: Instruction, target: Target) -> None:
    """A code segment named by the instruction itself: the same privilege level."""
    rights, cpl = target.rights, i.key.cpl
    error, dpl = _error(target), dpl_of(target.rights)
    i.fault_if(~rights.bit(3), GP, error)
    rpl = target.selector.zext(32) & 3
    other_level = (i.const(32, cpl).ult(rpl)) | (dpl != cpl)
    i.fault_if(rights.bit(2).select(i.const(32, cpl).ult(dpl), other_level), GP, error)
    if i.key.long:
        both = AR_L | AR_D
        i.fault_if((rights & both) == both, GP, error)
    _check_present(i, target)


def _check_present(i: Instruction, target: Target) -> None:
    i.fault_if(~target.rights.bit(7), NP, _error(target))


def _enter_same_level(i: Instruction, target: Target) -> None:
    check_target(i, target.offset, target.descriptor, target.rights)
    _enter(i, target, i.const(16, i.key.cpl))


def _enter(i: Instruction, target: Target, level: Value) -> None:
    """Load CS with the level as RPL and go to the target."""
    i.call("mark_accessed", target.selector, target.descriptor)
    selector = (target.selector & 0xFFFC) | level
    put_code_segment(i, selector, target.descriptor, target.rights | TYPE_ACCESSED)
    i.jump(target.offset)


def _push_return(i: Instruction, width: int) -> None:
    """Push CS and the return address; nothing changes unless both can be stored."""
    size = width // 8
    access = i.access("ss", write=True)
    values = (i.get("cs_sel").to(width), i.next_ip.to(width))
    offset = i.stack_pointer
    for value in values:
        offset = i.stack_offset(offset - size)
        i.store(i.linear("ss", offset, size, write=True), value, access)
    i.set_stack_pointer(offset)


# --- gates -----------------------------------------------------------------------------------


def _system_target(i: Instruction, selector: Value, descriptor: Value, source: int) -> None:
    """Only call gates go on; a TSS or task gate asks for a task switch."""
    rights = rights_of(descriptor)
    error, kind = selector_error(selector), rights & 0xF
    if i.key.long:
        i.fault_if(kind != CALL_GATE, GP, error)
    else:
        is_task = i.any_of(*(kind == n for n in (TSS16, TSS, TASK_GATE)))
        is_gate = (kind == CALL_GATE) | (kind == CALL_GATE16)
        i.fault_if(~is_task & ~is_gate, GP, error)
    dpl, rpl = dpl_of(rights), selector.zext(32) & 3
    i.fault_if(dpl.ult(i.key.cpl) | dpl.ult(rpl), GP, error)
    i.fault_if(~rights.bit(7), NP, error)
    if not i.key.long:
        with i.if_(is_task):
            named = (descriptor >> 16).trunc(16)
            ask_for_task_switch(i, (kind == TASK_GATE).select(named, selector), source)


def _through_gate(i: Instruction, gate: Value, descriptor: Value, rights: Value) -> Target:
    """The code segment and offset that a call gate names."""
    selector = (descriptor >> 16).trunc(16)
    offset = (descriptor & 0xFFFF) | ((descriptor >> 32) & 0xFFFF_0000)
    if i.key.long:
        whole, _, high = i.call("read_wide_descriptor", gate)
        upper_type = (high >> 40) & 0x1F
        i.fault_if(~whole | (upper_type != 0), GP, selector_error(gate))
        offset = offset | (high << 32)
    else:
        narrow = (rights & 0xF) == CALL_GATE16
        offset = narrow.select(offset & 0xFFFF, offset)
    i.fault_if(is_null(selector), GP, 0)
    inside, code = i.call("read_descriptor", selector)
    i.fault_if(~inside, GP, selector_error(selector))
    return Target(selector, offset, code, rights_of(code))


def _check_gate_code(i: Instruction, target: Target) -> None:
    rights = target.rights
    is_code = rights.bit(4) & rights.bit(3)
    too_outer = i.const(32, i.key.cpl).ult(dpl_of(rights))
    wrong = ~is_code | too_outer
    if i.key.long:
        wrong = wrong | ((rights & (AR_L | AR_D)) != AR_L)
    i.fault_if(wrong, GP, _error(target))


def _call_through_gate(i: Instruction, target: Target, gate_rights: Value, gate: Value) -> None:
    """CALL through a gate, to the same or an inner privilege level."""
    level = dpl_of(target.rights)
    inner = ~target.rights.bit(2) & level.ult(i.key.cpl)
    if i.key.long:
        i.fault_if(~is_canonical(target.offset), GP, 0)
    else:
        i.fault_if(limit_of(target.descriptor).ult(target.offset), GP, 0)
    back = i.next_ip
    with i.if_(inner):
        if i.key.long:
            pointer, selector, rights = i.call("gate_stack64", level, back)
            zero = i.const(64, 0)
            put_segment(i, "ss", selector, zero, zero, rights)
        else:
            wide = (gate_rights & 0xF) == CALL_GATE
            count = gate.bits(36, 32)
            pointer, *segment = i.call("gate_stack32", level, wide, count, back)
            put_segment(i, "ss", *segment)
        i.put("rsp", pointer)
        _enter(i, target, level.trunc(16))
    if i.key.long:
        _push_return_wide(i)
    else:
        with i.if_((gate_rights & 0xF) == CALL_GATE):
            _push_return(i, 32)
        with i.else_():
            _push_return(i, 16)
    _enter(i, target, i.const(16, i.key.cpl))


def _push_return_wide(i: Instruction) -> None:
    """A 64-bit gate at the same level pushes eight bytes each, also from compatibility mode."""
    access = i.access("ss", write=True)
    pointer = i.stack_pointer
    values = (i.get("cs_sel"), i.next_ip)
    for n, value in enumerate(values, 1):
        offset = i.stack_offset(pointer - 8 * n)
        i.store(i.linear("ss", offset, 8, write=True), value, access)
    i.put("rsp", i.stack_offset(pointer - 16))


# --- returns ---------------------------------------------------------------------------------


@semantics("RETF")
def return_far(i: Instruction) -> None:
    """Pop IP and CS, drop parameters; to an outer level also pop SS and SP."""
    size = abs(i.decoded.stack_pointer_increment)
    released = i.immediate(0) if i.decoded.op_count else 0
    step = (size - released) // 2
    width = step * 8
    i.resync()
    offset, selector = i.load_stack(0, width).to(64), i.load_stack(step, width).to(16)
    if not i.key.protected or i.key.v86:
        i.fault_if(i.get("cs_limit").ult(offset), GP, 0)
        i.drop_stack(size)
        _go_flat(i, selector, offset)
        return
    descriptor, rights = i.call("return_code_segment", selector, i.key.cpl)
    level = selector.zext(32) & 3
    with i.if_(level != i.key.cpl):
        pointer = i.load_stack(size, width)
        stack_selector = i.load_stack(size + step, width).to(16)
        check_target(i, offset, descriptor, rights)
        pointer = pointer + released
        return_outwards(i, level, (stack_selector, pointer), (selector, descriptor, rights))
        i.jump(offset)
    check_target(i, offset, descriptor, rights)
    i.call("mark_accessed", selector, descriptor)
    i.drop_stack(size)
    put_segment(i, "cs", selector, base_of(descriptor), limit_of(descriptor), rights)
    i.jump(offset)
