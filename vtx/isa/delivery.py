"""Exceptions, interrupts and traps on their way to a handler.

What happens to an event before its gate is used: combination with an event in progress,
interception by a VMM, the registers an exception writes. How a gate is used is the business of
`isa.delivery_long` and `isa.delivery_legacy`. An event stands in the slots event_*;
event_valid is 1 while it is being delivered, so that a fault on the way (or a VM exit) finds it.
Sources: SDM 3A, Interrupt and Exception Handling; SDM 3C, Exceptions (VM exits).
"""

from vtx.isa import delivery_legacy as delivery_legacy
from vtx.isa import delivery_long as delivery_long
from vtx.isa.builder import Builder, Value, routine_
from vtx.isa.descriptors import in_long_mode
from vtx.isa.key import CR0_PE
from vtx.isa.rflags import RF
from vtx.isa.task_switch import TASK_SWITCH
from vtx.spec import EXITS

EXTERNAL, NMI, HARDWARE, SOFTWARE_INTERRUPT, PRIVILEGED, SOFTWARE_EXCEPTION = 0, 2, 3, 4, 5, 6
"""Event types, as in the VMCS interruption-information fields."""
DB, NMI_VECTOR, DOUBLE_FAULT, PAGE_FAULT, MACHINE_CHECK = 1, 2, 8, 14, 18
VIRTUALIZATION_EXCEPTION = 20
_CONTRIBUTORY = (0, 10, 11, 12, 13)

EXIT_EXCEPTION_OR_NMI, EXIT_TRIPLE_FAULT = EXITS.EXCEPTION_OR_NMI, EXITS.TRIPLE_FAULT
PIN_NMI_EXITING = 1 << 3
BLOCKING_NMI = 1 << 3
SHUTDOWN = 2
DR6_BD, DR6_REASONS, DR7_GD = 1 << 13, 0xE00F, 1 << 13
INTERRUPTION_VALID, INTERRUPTION_ERROR, INTERRUPTION_UNBLOCKED = 1 << 31, 1 << 11, 1 << 12


def _non_root(b: Builder) -> Value:
    return b.get("vmx", 8) == 2


# --- the shared way in -----------------------------------------------------------------------


@routine_(1)
def deliver_with(b: Builder, resume: Value) -> None:
    """Deliver the event of the event_* slots; `resume`: the pushed RFLAGS has RF = 1."""
    b.is_resync = True
    b.put("event_valid", 1)
    b.put("resume_flag", resume)  # a VM exit on the way saves RF as it would have been pushed
    with b.if_(in_long_mode(b)):
        b.call("deliver_long", resume)
    with b.else_():
        with b.if_((b.get("cr0") & CR0_PE) != 0):
            b.call("deliver_protected", resume)
        with b.else_():
            b.call("deliver_real", resume)
    b.put("event_valid", 0)
    b.put("resume_flag", 0)
    b.put("interruptibility", b.get("interruptibility") & ~3)
    b.put("nmi_unblocked", 0)
    b.put("activity", 0)
    b.return_()


@routine_()
def deliver_event(b: Builder) -> None:
    """Deliver the event of the event_* slots as VM entry injects it: no interception, RF as is."""
    with b.if_((b.get("event_type") == NMI) & (b.get("event_vector") == NMI_VECTOR)):
        b.put("interruptibility", b.get("interruptibility") | BLOCKING_NMI)
    b.call("deliver_with", b.const(1, 0))
    b.return_()


def _put_event(
    b: Builder, vector: Value | int, kind: int, error: Value | int = 0, has_error: Value | int = 0
) -> None:
    for name, value in (("vector", vector), ("error", error), ("has_error", has_error)):
        b.put(f"event_{name}", value)
    b.put("event_type", kind)
    b.put("event_length", 0)
    b.put("event_debug", 0)


# --- interception ----------------------------------------------------------------------------


def _exit_for(
    b: Builder, vector: Value, kind: Value, error: Value, has_error: Value, qualification: Value
) -> None:
    """VM exit because of an exception or NMI."""
    info = vector | (kind << 8) | INTERRUPTION_VALID
    info = info | has_error.select(b.const(64, INTERRUPTION_ERROR), b.const(64, 0))
    # Bit 12 is left clear while another event is being delivered and for double faults.
    unblocked = b.get("nmi_unblocked", 1) & ~b.get("event_valid", 1) & (vector != DOUBLE_FAULT)
    info = info | unblocked.select(b.const(64, INTERRUPTION_UNBLOCKED), b.const(64, 0))
    b.put("nmi_unblocked", 0)
    b.put("exit_intr_info", info)
    b.put("exit_intr_error", error)
    b.put("exit_intr_error_valid", has_error)
    b.put("exit_qualification", qualification)
    b.exit(EXIT_EXCEPTION_OR_NMI)


@routine_(64, 64, 64, 1, 64)
def intercept_exception(
    b: Builder, vector: Value, kind: Value, error: Value, has_error: Value, qualification: Value
) -> None:
    """VM exit when the exception bitmap asks for it (SDM 3C, Exception Bitmap)."""
    with b.if_(_non_root(b)):
        wanted = (b.get("exception_bitmap") >> vector).bit(0)
        matches = (error & b.get("pf_mask")) == b.get("pf_match")
        is_page_fault = vector == PAGE_FAULT
        with b.if_(is_page_fault.select(~(wanted ^ matches), wanted)):
            _exit_for(b, vector, kind, error, has_error, qualification)
    b.return_()


def _shut_down(b: Builder) -> None:
    """Triple fault: a VM exit from a guest, else shutdown."""
    b.put("event_valid", 0)
    with b.if_(_non_root(b)):
        b.put("exit_qualification", 0)
        b.put("exit_length", 0)
        b.put("exit_info", 0)
        b.put("exit_intr_info", 0)
        b.exit(EXIT_TRIPLE_FAULT)
    b.put("activity", SHUTDOWN)
    b.return_()


# --- exceptions ------------------------------------------------------------------------------


def _is_page_fault_class(b: Builder, vector: Value) -> Value:
    """#PF and #VE."""
    return (vector == PAGE_FAULT) | (vector == VIRTUALIZATION_EXCEPTION)


def _is_contributory(b: Builder, vector: Value) -> Value:
    return b.any_of(*(vector == n for n in _CONTRIBUTORY))


@routine_()
def deliver_fault(b: Builder) -> None:
    """Deliver the fault of the fault_* slots (SDM 3A, Double Fault Exception; Table 6-5)."""
    b.is_resync = True
    vector = b.get("fault_vector")
    error, has_error = b.get("fault_error"), b.get("fault_has_error", 1)
    debug = b.get("fault_debug")
    is_page_fault, is_debug = vector == PAGE_FAULT, vector == DB
    address = is_page_fault.select(b.get("fault_cr2"), b.const(64, 0))
    qualification = is_debug.select(debug, address)
    b.put("exit_length", 0)
    b.call("intercept_exception", vector, b.const(64, HARDWARE), error, has_error, qualification)
    with b.if_(is_page_fault):
        b.put("cr2", b.get("fault_cr2"))
    with b.if_(b.get("event_valid", 1)):
        first = b.get("event_vector")
        by_hardware = b.get("event_type") == HARDWARE
        serious = _is_page_fault_class(b, vector) | _is_contributory(b, vector)
        with b.if_(by_hardware & (first == DOUBLE_FAULT) & serious):
            _shut_down(b)
        both = _is_contributory(b, first) & _is_contributory(b, vector)
        with b.if_(by_hardware & (both | (_is_page_fault_class(b, first) & serious))):
            b.call("deliver_double_fault")
            b.return_()
    _put_event(b, vector, HARDWARE, error, has_error)
    with b.if_(is_debug):
        b.put("event_debug", debug)
        b.call("enter_debug_handler", debug)
    b.put("fault_debug", 0)
    b.call("deliver_with", (vector != DB) | ((debug & DR6_BD) != 0))
    b.return_()


@routine_()
def deliver_double_fault(b: Builder) -> None:
    """#DF with error code 0 takes the place of the two exceptions."""
    b.put("event_valid", 0)
    none = b.const(64, 0)
    vector, kind = b.const(64, DOUBLE_FAULT), b.const(64, HARDWARE)
    b.call("intercept_exception", vector, kind, none, b.const(1, 1), none)
    _put_event(b, DOUBLE_FAULT, HARDWARE, 0, 1)
    # An abort's image has RF clear, whatever one of the two faults had made of it.
    b.put("rflags", b.get("rflags") & ~RF)
    b.call("deliver_with", b.const(1, 0))
    b.return_()


@routine_()
def deliver_software_event(b: Builder) -> None:
    """The event of INT n, INT3, INTO or INT1; the instruction retires with its delivery.

    So does a CALL, JMP or IRET that switches tasks.
    """
    b.is_resync = True
    kind, vector = b.get("event_type"), b.get("event_vector")
    with b.if_(kind == TASK_SWITCH):
        b.call("switch_tasks", vector.trunc(16), b.get("event_error", 8), b.const(1, 0))
        b.put("retired", b.get("retired") + 1)
        b.return_()
    with b.if_(kind != SOFTWARE_INTERRUPT):
        b.put("exit_length", b.get("event_length"))
        none = b.const(64, 0)
        b.call("intercept_exception", vector, kind, none, b.const(1, 0), none)
    b.call("deliver_with", b.const(1, 0))
    b.put("retired", b.get("retired") + 1)
    b.return_()


# --- debug exceptions ------------------------------------------------------------------------


@routine_(64)
def enter_debug_handler(b: Builder, reasons: Value) -> None:
    """DR6 says why, and DR7.GD is cleared so that the handler may use the debug registers."""
    kept = b.get("dr6") & ~0xF
    b.put("dr6", kept | (reasons & DR6_REASONS))
    b.put("dr7", b.get("dr7") & ~DR7_GD)
    b.return_()


@routine_()
def deliver_debug_trap(b: Builder) -> None:
    """#DB for the reasons that wait in `pending_debug` (single step, data breakpoints)."""
    b.is_resync = True
    reasons = b.get("pending_debug") & DR6_REASONS
    b.put("pending_debug", 0)
    none = b.const(64, 0)
    b.put("exit_length", 0)
    vector, kind = b.const(64, DB), b.const(64, HARDWARE)
    b.call("intercept_exception", vector, kind, none, b.const(1, 0), reasons)
    _put_event(b, DB, HARDWARE)
    b.put("event_debug", reasons)
    b.call("enter_debug_handler", reasons)
    b.call("deliver_with", b.const(1, 0))
    b.return_()


@routine_(64)
def deliver_debug_fault(b: Builder, hits: Value) -> None:
    """#DB before an instruction with a breakpoint; `hits` are B0 to B3."""
    b.put("fault_vector", DB)
    b.put("fault_error", 0)
    b.put("fault_has_error", 0)
    b.put("fault_debug", hits & 0xF)
    b.call("deliver_fault")
    b.return_()


# --- interrupts ------------------------------------------------------------------------------


@routine_(64)
def deliver_interrupt(b: Builder, vector: Value) -> None:
    """A maskable interrupt that the CPU accepted."""
    _put_event(b, vector, EXTERNAL)
    b.call("deliver_with", b.const(1, 0))
    b.return_()


@routine_()
def deliver_nmi(b: Builder) -> None:
    """An NMI: a VM exit where the VMM wants it, else vector 2; further NMIs are blocked."""
    b.is_resync = True
    with b.if_(_non_root(b) & ((b.get("pin_controls") & PIN_NMI_EXITING) != 0)):
        b.put("exit_length", 0)
        none = b.const(64, 0)
        _exit_for(b, b.const(64, NMI_VECTOR), b.const(64, NMI), none, b.const(1, 0), none)
    _put_event(b, NMI_VECTOR, NMI)
    b.put("interruptibility", b.get("interruptibility") | BLOCKING_NMI)
    b.call("deliver_with", b.const(1, 0))
    b.return_()
