"""VM entry: checks, guest state, controls, MSRs, the event to inject.

An injected event is only noted in the event_* slots: the loop between instructions delivers it
first of all, so that VMLAUNCH and VMRESUME end like any instruction and delivery may fault or
exit like any other. Source: SDM 3C, VM Entries.
"""

from vtx.isa.builder import Builder, Value, routine_
from vtx.isa.key import VMX_NON_ROOT
from vtx.isa.program import Flush, Service
from vtx.spec import EXITS
from vtx.vmx import entry_checks as entry_checks
from vtx.vmx.entry_checks import HOLDS
from vtx.vmx.msr_areas import load_msr_area
from vtx.vmx.status import (
    BLOCKED_BY_MOV_SS,
    FAIL_INVALID,
    INVALID_CONTROLS,
    INVALID_HOST_STATE,
    LAUNCH_NOT_CLEAR,
    RESUME_NOT_LAUNCHED,
    SUCCEED,
    fail_valid,
)
from vtx.vmx.transfer import copy_controls, is_set, load_guest, load_guest_pdptes
from vtx.vmx.vmcs import (
    LAUNCH_LAUNCHED,
    NO_VMCS,
    SHADOW_INDICATOR,
    read_field,
    read_launch_state,
    write_launch_state,
)

_VALID, _DELIVERS_ERROR = 1 << 31, 1 << 11
_TYPE_NMI, _TYPE_OTHER = 2, 7
_BLOCKING_STI_MOV_SS, _BLOCKING_MOV_SS, _BLOCKING_NMI = 3, 2, 8
_ACTIVE = 0


def _status(b: Builder, status: int) -> Value:
    return b.const(8, status)


def _check_basics(b: Builder, launch: Value) -> None:
    """SDM 3C, Basic VM-Entry Checks."""
    pointer = b.get("vmcs_pointer")
    with b.if_(pointer == NO_VMCS):
        b.return_(_status(b, FAIL_INVALID))
    with b.if_((b.load_physical(32, pointer) & SHADOW_INDICATOR) != 0):
        b.return_(_status(b, FAIL_INVALID))
    with b.if_((b.get("interruptibility") & _BLOCKING_MOV_SS) != 0):
        b.return_(fail_valid(b, BLOCKED_BY_MOV_SS))
    launched = read_launch_state(b) == LAUNCH_LAUNCHED
    with b.if_((launch != 0) & launched):
        b.return_(fail_valid(b, LAUNCH_NOT_CLEAR))
    with b.if_((launch == 0) & ~launched):
        b.return_(fail_valid(b, RESUME_NOT_LAUNCHED))


def _fail_entry(b: Builder, reason: int, qualification: Value) -> None:
    b.call("exit_entry_failure", b.const(64, reason), qualification)
    b.return_(_status(b, SUCCEED))


def _note_injected_event(b: Builder) -> None:
    """The event of VMENTRY_INTERRUPTION_INFO into the event_* slots (SDM 3C, Event Injection)."""
    info = read_field(b, "VMENTRY_INTERRUPTION_INFO")
    kind = info.bits(10, 8)
    with b.if_((info & _VALID) != 0):
        b.put("activity", _ACTIVE)
        b.put("interruptibility", b.get("interruptibility") & ~_BLOCKING_STI_MOV_SS)
        b.put("interruptibility_next", 0)
        with b.if_(kind == _TYPE_OTHER):
            b.put("mtf_pending", 1)
        with b.else_():
            b.put("event_valid", 1)
            b.put("event_vector", info & 0xFF)
            b.put("event_type", kind)
            b.put("event_has_error", (info & _DELIVERS_ERROR) != 0)
            b.put("event_error", read_field(b, "VMENTRY_EXCEPTION_ERROR_CODE"))
            b.put("event_length", read_field(b, "VMENTRY_INSTRUCTION_LENGTH"))
            b.put("event_debug", 0)
        with b.if_(kind == _TYPE_NMI):
            b.put("interruptibility", b.get("interruptibility") | _BLOCKING_NMI)


def _start_preemption_timer(b: Builder) -> None:
    (now,) = b.service(Service.NOW)
    with b.if_(is_set(b.get("pin_controls", 32), "pin.PREEMPTION_TIMER")):
        b.put("preemption_deadline", now + read_field(b, "PREEMPTION_TIMER_VALUE").zext(64))


@routine_(8, results=(8,))
def vm_entry(b: Builder, launch: Value) -> None:
    """VM entry: VMLAUNCH when `launch` is 1, VMRESUME when 0. Result: a status (vmx.status).

    SUCCEED: RIP is the guest's and the CPU in non-root operation; or, where guest state or an MSR
    was refused, a VM exit has loaded host state and EXIT_REASON has bit 31 set. With any other
    status nothing has changed but VM_INSTRUCTION_ERROR.
    """
    _check_basics(b, launch)
    with b.if_(b.call("check_controls")[0] != HOLDS):
        b.return_(fail_valid(b, INVALID_CONTROLS))
    copy_controls(b)
    with b.if_(b.call("check_host")[0] != HOLDS):
        b.return_(fail_valid(b, INVALID_HOST_STATE))
    broken, qualification = b.call("check_guest")
    with b.if_(broken != HOLDS):
        _fail_entry(b, EXITS.ENTRY_FAIL_GUEST_STATE, qualification)
    load_guest(b)
    load_guest_pdptes(b)
    count = read_field(b, "VMENTRY_MSR_LOAD_COUNT").zext(64)
    failed = load_msr_area(b, read_field(b, "VMENTRY_MSR_LOAD_ADDR"), count)
    with b.if_(failed != 0):
        _fail_entry(b, EXITS.ENTRY_FAIL_MSR_LOADING, failed)
    with b.if_(launch != 0):
        write_launch_state(b, b.get("vmcs_pointer"), LAUNCH_LAUNCHED)
    b.put("vmx", VMX_NON_ROOT)
    b.service(Service.CONTEXT)
    with b.if_(~is_set(b.get("proc2_controls", 32), "sec.ENABLE_VPID")):
        b.service(Service.FLUSH_TLB, Flush.VPID, 0, 0)
    _start_preemption_timer(b)
    b.put("event_valid", 0)
    _note_injected_event(b)
    b.resync()
    b.return_(_status(b, SUCCEED))
