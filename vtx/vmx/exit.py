"""VM exits: what the VMM is told, guest state saved, host state loaded.

`vm_exit` runs when a program has ended in EXIT with the exit_* slots filled; it empties them,
so nothing leaks into the next exit. What causes exits is known elsewhere.
Sources: SDM 3C, VM Exits; Recording VM-Exit Information; VM-Entry Failures During or After
Loading Guest State; VMX Aborts.
"""

from vtx.isa.builder import Builder, Value, routine_
from vtx.isa.key import VMX_ROOT
from vtx.isa.program import Flush, Service
from vtx.spec import EXITS
from vtx.vmx.msr_areas import load_msr_area, store_msr_area
from vtx.vmx.transfer import EFER_LMA, is_set
from vtx.vmx.vmcs import read_field, write_abort, write_field

ENTRY_FAILURE = 1 << 31
VALID = 1 << 31
TRANSLATION = (EXITS.EPT_VIOLATION, EXITS.EPT_MISCONFIGURATION, EXITS.PML_FULL)
"""Exits from an access to memory that may be made again."""
ABORT_SAVING_MSRS, ABORT_HOST_PDPTES, ABORT_LOADING_MSRS, ABORT_HOST_MODE = 1, 2, 4, 6
_TYPE_NMI, _TYPE_EXCEPTION = 2, 3
_BLOCKING_NMI = 8
_SHUTDOWN = 2
_SLOTS = (
    "exit_reason", "exit_qualification", "exit_length", "exit_info", "exit_gla", "exit_gpa",
    "exit_intr_info", "exit_intr_error", "exit_intr_error_valid",
)  # fmt: skip


def _clear_exit_slots(b: Builder) -> None:
    for slot in _SLOTS:
        b.put(slot, 0)


def _record(b: Builder) -> None:
    """The VM-exit information fields (SDM 3C, Recording VM-Exit Information)."""
    write_field(b, "EXIT_REASON", b.get("exit_reason"))
    write_field(b, "EXIT_QUALIFICATION", b.get("exit_qualification") | _unblocked_nmi(b))
    write_field(b, "GUEST_LINEAR_ADDRESS", b.get("exit_gla"))
    write_field(b, "GUEST_PHYSICAL_ADDRESS", b.get("exit_gpa"))
    write_field(b, "EXIT_INTERRUPTION_INFO", b.get("exit_intr_info"))
    write_field(b, "EXIT_INTERRUPTION_ERROR_CODE", b.get("exit_intr_error"))
    write_field(b, "EXIT_INSTRUCTION_INFO", b.get("exit_info"))
    _record_vectoring(b)


def _unblocked_nmi(b: Builder) -> Value:
    """Bit 12 of the qualification of an EPT violation or a full page-modification log: the IRET
    that met it unblocked NMIs."""
    reason = b.get("exit_reason", 16)
    told = (reason == EXITS.EPT_VIOLATION) | (reason == EXITS.PML_FULL)
    told = told & b.get("nmi_unblocked", 1) & (b.get("event_valid") == 0)
    b.put("nmi_unblocked", 0)
    return told.select(b.const(64, 1 << 12), b.const(64, 0))


def _record_vectoring(b: Builder) -> None:
    """The event whose delivery was cut short, and the length of the instruction behind it."""
    triple = (b.get("exit_reason", 16)) == EXITS.TRIPLE_FAULT
    vectoring = (b.get("event_valid") != 0) & ~triple
    kind = b.get("event_type")
    has_error = b.get("event_has_error", 1)
    info = b.get("event_vector") | (kind << 8) | (has_error.zext(64) << 11) | VALID
    write_field(b, "IDT_VECTORING_INFO", vectoring.select(info, b.const(64, 0)))
    write_field(b, "IDT_VECTORING_ERROR_CODE", b.get("event_error"))
    software = vectoring & b.any_of(kind == 4, kind == 5, kind == 6)
    length = software.select(b.get("event_length"), b.get("exit_length"))
    write_field(b, "EXIT_INSTRUCTION_LENGTH", length)


def _abort(b: Builder, indicator: int) -> None:
    """VMX abort: the processor shuts down (SDM 3C, VMX Aborts)."""
    write_abort(b, indicator)
    b.put("vmx", VMX_ROOT)  # in non-root operation the shutdown state would be a guest's
    b.put("activity", _SHUTDOWN)
    b.return_()


@routine_(results=())
def enter_root(b: Builder) -> None:
    """Leave non-root operation for the host: state, translations, MSRs; or a VMX abort."""
    with_vpid = is_set(b.get("proc2_controls", 32), "sec.ENABLE_VPID")
    was_long = (b.get("efer") & EFER_LMA) != 0
    long_host = is_set(read_field(b, "VMEXIT_CONTROLS"), "exit.HOST_ADDRESS_SPACE_SIZE")
    b.put("vmx", VMX_ROOT)
    with b.if_(was_long & ~long_host):
        _abort(b, ABORT_HOST_MODE)
    (legal,) = b.call("load_host")
    b.service(Service.CONTEXT)
    with b.if_(~with_vpid):
        b.service(Service.FLUSH_TLB, Flush.VPID, 0, 0)
    with b.if_(~legal):
        _abort(b, ABORT_HOST_PDPTES)
    count = read_field(b, "VMEXIT_MSR_LOAD_COUNT").zext(64)
    failed = load_msr_area(b, read_field(b, "VMEXIT_MSR_LOAD_ADDR"), count)
    with b.if_(failed != 0):
        _abort(b, ABORT_LOADING_MSRS)
    b.return_()


@routine_(results=())
def vm_exit(b: Builder) -> None:
    """VM exit with the exit_* slots (and event_*, when an event was being delivered) filled."""
    _record(b)
    reason = b.get("exit_reason", 16)
    entry_info = read_field(b, "VMENTRY_INTERRUPTION_INFO")
    write_field(b, "VMENTRY_INTERRUPTION_INFO", entry_info & ~VALID)
    intr_info = b.get("exit_intr_info")
    caused_by_event = (reason == EXITS.EXCEPTION_OR_NMI) & ((intr_info & VALID) != 0)
    kind = intr_info.bits(10, 8)
    # A fault's saved image has RF set; a debug exception's may be a trap's.
    is_fault = (kind == _TYPE_EXCEPTION) & ((intr_info & 0xFF) != 1)
    # Translation exits leave RF as the instruction found it, so that it can be tried again, or as
    # the event that was being delivered would have pushed it; so do exits for a task gate.
    translation = b.any_of(*(reason == number for number in TRANSLATION))
    task_gate = (reason == EXITS.TASK_SWITCH) & (b.get("event_valid") != 0)
    retried = (translation | task_gate) & b.get("resume_flag", 1)
    b.call("save_guest", (caused_by_event & is_fault) | retried)
    b.put("resume_flag", 0)
    is_nmi = caused_by_event & (kind == _TYPE_NMI)
    keeps = ~is_set(b.get("pin_controls", 32), "pin.VIRTUAL_NMIS")
    blocking = (b.get("interruptibility") & _BLOCKING_NMI) & keeps.select(
        b.const(64, _BLOCKING_NMI), b.const(64, 0)
    )
    b.put("interruptibility", is_nmi.select(b.const(64, _BLOCKING_NMI), blocking))
    b.put("event_valid", 0)
    _clear_exit_slots(b)
    stored = read_field(b, "VMEXIT_MSR_STORE_COUNT").zext(64)
    failed = store_msr_area(b, read_field(b, "VMEXIT_MSR_STORE_ADDR"), stored)
    with b.if_(failed != 0):
        _abort(b, ABORT_SAVING_MSRS)
    b.call("enter_root")
    b.return_()


@routine_(64, results=())
def exit_between_instructions(b: Builder, reason: Value) -> None:
    """VM exit that no instruction causes: monitor trap flag, preemption timer, windows."""
    _clear_exit_slots(b)
    b.put("exit_reason", reason)
    b.call("vm_exit")
    b.return_()


@routine_(64, 64, results=())
def exit_for_interrupt(b: Builder, vector: Value, acknowledged: Value) -> None:
    """VM exit for an external interrupt; its vector is told when it was acknowledged (1)."""
    _clear_exit_slots(b)
    b.put("exit_reason", EXITS.EXTERNAL_INTERRUPT)
    known = (acknowledged != 0).select(vector | VALID, b.const(64, 0))
    b.put("exit_intr_info", known)
    b.call("vm_exit")
    b.return_()


@routine_(64, results=())
def exit_for_startup(b: Builder, vector: Value) -> None:
    """VM exit for a start-up IPI that found the guest in the wait-for-SIPI state."""
    _clear_exit_slots(b)
    b.put("exit_reason", EXITS.STARTUP_IPI)
    b.put("exit_qualification", vector & 0xFF)
    b.call("vm_exit")
    b.return_()


@routine_(64, 64, results=())
def exit_entry_failure(b: Builder, reason: Value, qualification: Value) -> None:
    """A VM entry that failed during or after loading guest state; no guest state is saved."""
    write_field(b, "EXIT_REASON", reason | ENTRY_FAILURE)
    write_field(b, "EXIT_QUALIFICATION", qualification)
    b.put("event_valid", 0)
    _clear_exit_slots(b)
    b.call("enter_root")
    b.return_()
