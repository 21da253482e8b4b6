"""Hardware task switches: by CALL, JMP and IRET, and by events through task gates.

`switch_tasks` runs between instructions, where the CPU's state is all there is: what faults
before the commit faults in the old task, what faults behind it in the new one, whose registers
are then loaded. Segment registers hold their selectors, unusable, until they are checked. In
VMX non-root operation the checks end in a VM exit.
Sources: SDM 3A, Task Switching; Exception Conditions Checked During a Task Switch; SDM 2A,
CALL; IRET; JMP; INT n (operation); SDM 3C, Treatment of Task Switches.
"""

from vtx.isa import control_changes as control_changes
from vtx.isa import task_state as task_state
from vtx.isa.builder import Builder, Value, routine_
from vtx.isa.delivery_long import external, return_ip
from vtx.isa.descriptors import (
    GP,
    LDT,
    NP,
    SS,
    SYSTEM_READ,
    SYSTEM_WRITE,
    TSS,
    TSS16,
    TYPE_ACCESSED,
    base_of,
    dpl_of,
    is_null,
    limit_of,
    put_segment,
    rights_of,
    selector_error,
)
from vtx.isa.instruction import Instruction
from vtx.isa.key import AR_UNUSABLE
from vtx.isa.rflags import NT, RF, VM, read_rflags, write_rflags
from vtx.isa.task_state import (
    GENERAL,
    LEAST_LIMIT,
    LEAST_LIMIT16,
    SAVED,
    SAVED16,
    SAVED16_SIZE,
    SAVED_SIZE,
    SEGMENTS,
    TaskState,
    read_task,
)
from vtx.spec import EXITS
from vtx.spec.registers import CR0

TS = 10
BY_CALL, BY_IRET, BY_JMP, BY_GATE = range(4)
"""What asks for the switch, as in the exit qualification."""
TASK_SWITCH = 8
"""Value of event_type for a task switch that an instruction asks for: an event of no vector."""
EXIT_TASK_SWITCH = EXITS.TASK_SWITCH
PENDING_TASK_TRAP = 1 << 15
"""DR6.BT: the T flag of the new TSS asks for a debug trap before its first instruction."""
BUSY = 2
_CR0_TS, _CR0_PG = CR0.TS, CR0.PG
_DR7_LOCAL = 0x155  # L0 to L3, LE
_BLOCKING_NMI = 8
_WRAP32 = 0xFFFF_FFFF


def ask_for_task_switch(i: Instruction, selector: Value, source: int) -> None:
    """End the instruction with a switch to the task whose TSS `selector` names."""
    i.put("event_vector", selector)
    i.put("event_type", TASK_SWITCH)
    i.put("event_error", source)
    i.put("event_has_error", 0)
    i.put("event_length", i.length)
    i.resync()
    i.raised()


def _ext(b: Builder) -> Value:
    """The EXT bit of error codes, 32 bits; 0 for CALL, JMP and IRET."""
    return b.get("event_valid", 1).select(external(b), b.const(32, 0))


# --- before the commit -----------------------------------------------------------------------


@routine_(16, 8, results=(64,))
def check_task(b: Builder, selector: Value, source: Value) -> None:
    """The descriptor of the TSS to switch to; a fault in the old task where it may not be."""
    error, back = selector_error(selector) | _ext(b), source == BY_IRET
    local = selector.bit(2)
    b.fault_if(local & back, TS, error)
    b.fault_if(local, GP, error)
    inside, descriptor = b.call("read_descriptor", selector)
    rights = rights_of(descriptor)
    free = back.select(rights ^ BUSY, rights) & 0x1F
    wrong = ~inside | ((free != TSS) & (free != TSS16))
    b.fault_if(wrong & back, TS, error)
    b.fault_if(wrong, GP, error)
    b.fault_if(~rights.bit(7), NP, error)
    least = rights.bit(3).select(b.const(64, LEAST_LIMIT), b.const(64, LEAST_LIMIT16))
    b.fault_if(limit_of(descriptor).ult(least), TS, error)
    b.return_(descriptor)


def _exit_from_guest(b: Builder, selector: Value, source: Value) -> None:
    with b.if_(b.get("vmx", 8) == 2):
        by_event = source == BY_GATE
        software = b.any_of(*(b.get("event_type") == n for n in (4, 5, 6)))
        counts = ~by_event | software
        b.put("exit_qualification", selector.zext(64) | (source.zext(64) << 30))
        b.put("exit_length", counts.select(b.get("event_length"), b.const(64, 0)))
        b.put("exit_info", 0)
        b.exit(EXIT_TASK_SWITCH)


@routine_(64, 1, 64, 1)
def probe_tasks(b: Builder, place: Value, nests: Value, base: Value, wide: Value) -> None:
    """Fault now where saving the old task, or reading and marking the new one, would fault.

    `place` is that of the new TSS's descriptor, `base` and `wide` belong to the new TSS.
    """
    old, old_wide = b.get("tr_base"), b.get("tr_ar").bit(3)
    least = old_wide.select(b.const(64, LEAST_LIMIT), b.const(64, LEAST_LIMIT16))
    error = selector_error(b.get("tr_sel", 16)) | _ext(b)
    b.fault_if(b.get("tr_limit").ult(least), TS, error)
    with b.if_(old_wide):
        b.probe(old + SAVED, SAVED_SIZE, SYSTEM_WRITE)
    with b.else_():
        b.probe(old + SAVED16, SAVED16_SIZE, SYSTEM_WRITE)
    with b.if_(wide):
        b.probe(base, LEAST_LIMIT + 1, SYSTEM_READ)
    with b.else_():
        b.probe(base, LEAST_LIMIT16 + 1, SYSTEM_READ)
    with b.if_(nests):
        b.probe(base, 2, SYSTEM_WRITE)
    b.probe(place + 5, 1, SYSTEM_WRITE)
    with b.if_(~nests):
        _, old_place = b.call("descriptor_place", b.get("tr_sel", 16))
        b.probe(old_place + 5, 1, SYSTEM_WRITE)
    b.return_()


# --- the commit ------------------------------------------------------------------------------


def _leave_old_task(b: Builder, source: Value, nests: Value, resume: Value) -> None:
    """Save the registers in the TSS that TR names; it is no longer busy unless nested."""
    back = source == BY_IRET
    behind = b.get("rip") + b.get("event_length")
    ip = (source == BY_GATE).select(return_ip(b), behind) & _WRAP32
    flags = read_rflags(b) | resume.select(b.const(64, RF), b.const(64, 0))
    flags = back.select(flags & ~NT, flags)
    with b.if_(b.get("tr_ar").bit(3)):
        b.call("save_task32", b.get("tr_base"), ip, flags)
    with b.else_():
        b.call("save_task16", b.get("tr_base"), ip, flags)
    with b.if_(~nests):
        _, place = b.call("descriptor_place", b.get("tr_sel", 16))
        kind = b.load(8, place + 5, SYSTEM_READ)
        b.store(place + 5, kind & ~BUSY, SYSTEM_WRITE)


def _enter_new_task(b: Builder, state: TaskState, nests: Value) -> Value:
    """The registers of the new task; whether it is a virtual-8086 one."""
    flags = nests.select(state.flags | NT, state.flags)
    write_rflags(b, flags)
    b.put("rip", state.ip)
    for name, value in zip(GENERAL, state.general, strict=True):
        b.put(name, value)
    v86 = (state.flags & VM) != 0
    zero, unusable = b.const(64, 0), b.const(64, AR_UNUSABLE)
    level = v86.select(b.const(64, 3), state.segments[1] & 3)
    for name, selector in zip(SEGMENTS, state.segments, strict=True):
        rights = unusable | (level << 5) if name == "ss" else unusable
        put_segment(b, name, selector, zero, zero, rights)
    put_segment(b, "ldtr", state.ldt, zero, zero, b.const(64, AR_UNUSABLE | LDT))
    return v86


@routine_(16, 8, 1)
def switch_tasks(b: Builder, selector: Value, source: Value, resume: Value) -> None:
    """Switch to the task of TSS `selector`; `resume`: the saved RFLAGS has RF = 1."""
    b.is_resync = True
    (descriptor,) = b.call("check_task", selector, source)
    _exit_from_guest(b, selector, source)
    nests = (source == BY_CALL) | (source == BY_GATE)
    base, rights = base_of(descriptor), rights_of(descriptor)
    wide = rights.bit(3)
    _, place = b.call("descriptor_place", selector)
    b.call("probe_tasks", place, nests, base, wide)
    ext = _ext(b)

    old = b.get("tr_sel", 16)
    _leave_old_task(b, source, nests, resume)
    with b.if_(nests):
        b.store(base, old, SYSTEM_WRITE)
    b.store(place + 5, rights.trunc(8) | BUSY, SYSTEM_WRITE)
    with b.if_(source == BY_IRET):
        b.put("interruptibility", b.get("interruptibility") & ~_BLOCKING_NMI)
    put_segment(b, "tr", selector, base, limit_of(descriptor), rights | BUSY)
    b.put("cr0", b.get("cr0") | _CR0_TS)
    b.put("dr7", b.get("dr7") & ~_DR7_LOCAL)
    state = read_task(b, base, wide)
    v86 = _enter_new_task(b, state, nests)
    with b.if_(wide & ((b.get("cr0") & _CR0_PG) != 0)):
        b.call("write_cr3", state.cr3)
    b.call("load_task_segments", v86, ext)
    with b.if_(state.trap != 0):
        b.put("pending_debug", b.get("pending_debug") | PENDING_TASK_TRAP)
    b.return_()


# --- segments of the new task ----------------------------------------------------------------


@routine_(1, 32)
def load_task_segments(b: Builder, v86: Value, ext: Value) -> None:
    """Load LDTR and the segment registers from the selectors they hold, in the new task."""
    _load_ldtr(b, ext)
    with b.if_(v86):
        for name in SEGMENTS:
            selector = b.get(f"{name}_sel", 16)
            base = selector.zext(64) << 4
            put_segment(b, name, selector, base, b.const(64, 0xFFFF), b.const(64, 0xF3))
        b.return_()
    level = b.get("cs_sel", 32) & 3
    b.call("load_task_code_and_stack", level, ext)
    for name in ("ds", "es", "fs", "gs"):
        selector = b.get(f"{name}_sel", 16)
        put_segment(b, name, selector, *b.call("task_data_segment", selector, level, ext))
    b.return_()


def _load_ldtr(b: Builder, ext: Value) -> None:
    selector = b.get("ldtr_sel", 16)
    error = selector_error(selector) | ext
    with b.if_(~is_null(selector)):
        b.fault_if(selector.bit(2), TS, error)
        inside, descriptor = b.call("read_descriptor", selector)
        rights = rights_of(descriptor)
        b.fault_if(~inside | ((rights & 0x9F) != LDT | 1 << 7), TS, error)
        put_segment(b, "ldtr", selector, base_of(descriptor), limit_of(descriptor), rights)


@routine_(32, 32)
def load_task_code_and_stack(b: Builder, level: Value, ext: Value) -> None:
    """CS and SS of the new task, whose CPL is `level`."""
    code = b.get("cs_sel", 16)
    code_error = selector_error(code) | ext
    inside, code_descriptor = b.call("read_descriptor", code)
    code_rights = rights_of(code_descriptor)
    dpl, is_code = dpl_of(code_rights), code_rights.bit(4) & code_rights.bit(3)
    wrong_level = code_rights.bit(2).select(level.ult(dpl), dpl != level)
    b.fault_if(is_null(code) | ~inside | ~is_code | wrong_level, TS, code_error)

    stack = b.get("ss_sel", 16)
    error = selector_error(stack) | ext
    inside, descriptor = b.call("read_descriptor", stack)
    rights = rights_of(descriptor)
    writable = rights.bit(4) & ~rights.bit(3) & rights.bit(1)
    b.fault_if(is_null(stack) | ~inside | ~writable, TS, error)
    b.fault_if(~rights.bit(7), SS, error)
    b.fault_if(dpl_of(rights) != level, TS, error)
    b.fault_if(~code_rights.bit(7), NP, code_error)
    b.fault_if((stack.zext(32) & 3) != level, TS, error)
    b.call("mark_accessed", code, code_descriptor)
    b.call("mark_accessed", stack, descriptor)
    code_base, code_limit = base_of(code_descriptor), limit_of(code_descriptor)
    put_segment(b, "cs", code, code_base, code_limit, code_rights | TYPE_ACCESSED)
    put_segment(b, "ss", stack, base_of(descriptor), limit_of(descriptor), rights | TYPE_ACCESSED)
    b.return_()


@routine_(16, 32, 32, results=(64, 64, 32))
def task_data_segment(b: Builder, selector: Value, level: Value, ext: Value) -> None:
    """Base, limit and rights that DS, ES, FS or GS gets from the TSS."""
    with b.if_(is_null(selector)):
        b.return_(b.const(64, 0), b.const(64, 0), b.const(32, AR_UNUSABLE))
    error = selector_error(selector) | ext
    inside, descriptor = b.call("read_descriptor", selector)
    rights = rights_of(descriptor)
    dpl, rpl, code = dpl_of(rights), selector.zext(32) & 3, rights.bit(3)
    readable = rights.bit(4) & (~code | rights.bit(1))
    checked = ~code | ~rights.bit(2)
    denied = checked & (dpl.ult(rpl) | dpl.ult(level))
    b.fault_if(~inside | ~readable | denied, TS, error)
    b.fault_if(~rights.bit(7), NP, error)
    b.call("mark_accessed", selector, descriptor)
    b.return_(base_of(descriptor), limit_of(descriptor), rights | TYPE_ACCESSED)
