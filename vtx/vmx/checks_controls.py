"""VM-entry checks on the VMX controls.

Source: SDM 3C, Checks on VMX Controls. What a failing rule gives is in spec.
"""

from collections.abc import Callable

from vtx.isa.builder import Value
from vtx.machine.paging import MAXPHYADDR
from vtx.spec import MSRS
from vtx.vmx.checks import View, allowed, check, has, implies, physical, within_width

_PAGE = 4096
_MISC_CR3_TARGETS = (24, 16)
VALID = 31
EXTERNAL, RESERVED, NMI, EXCEPTION, SOFTWARE_INTERRUPT, PRIVILEGED, SOFTWARE, OTHER = range(8)
_WITH_ERROR_CODE = sum(1 << vector for vector in (8, 10, 11, 12, 13, 14, 17))


# --- pin-based and processor-based controls --------------------------------------------------


@check("control.pin-reserved")
def pin_reserved(v: View) -> Value:
    return allowed(v["PINBASED_CONTROLS"], v.capability(MSRS.IA32_VMX_TRUE_PINBASED_CTLS))


@check("control.proc-reserved")
def proc_reserved(v: View) -> Value:
    return allowed(v["PROCBASED_CONTROLS"], v.capability(MSRS.IA32_VMX_TRUE_PROCBASED_CTLS))


@check("control.sec-reserved")
def sec_reserved(v: View) -> Value:
    legal = allowed(v["SECONDARY_PROCBASED_CONTROLS"], v.capability(MSRS.IA32_VMX_PROCBASED_CTLS2))
    return implies(has(v, "proc.ACTIVATE_SECONDARY_CONTROLS"), legal)


@check("control.ter-reserved", needs="proc.ACTIVATE_TERTIARY_CONTROLS")
def ter_reserved(v: View) -> Value:
    more = v["TERTIARY_PROCBASED_CONTROLS"] & ~v.capability(MSRS.IA32_VMX_PROCBASED_CTLS3)
    return implies(has(v, "proc.ACTIVATE_TERTIARY_CONTROLS"), more == 0)


@check("control.cr3-target-count")
def cr3_target_count(v: View) -> Value:
    most = v.capability(MSRS.IA32_VMX_MISC).bits(*_MISC_CR3_TARGETS).trunc(32)
    return v["CR3_TARGET_COUNT"].ule(most)


def _page_address(check_id: str, control: str, field: str, needs: str = "") -> None:
    """Register: where `control` is 1, `field` is the address of a 4 KiB page."""

    @check(check_id, needs)
    def holds(v: View) -> Value:
        return implies(has(v, control), physical(v[field], _PAGE))


_page_address("control.io-bitmap-a", "proc.USE_IO_BITMAPS", "IO_BITMAP_A")
_page_address("control.io-bitmap-b", "proc.USE_IO_BITMAPS", "IO_BITMAP_B")
_page_address("control.msr-bitmap", "proc.USE_MSR_BITMAPS", "MSR_BITMAP")
_page_address("control.virtual-apic-address", "proc.USE_TPR_SHADOW", "VIRTUAL_APIC_ADDR")
_page_address(
    "control.apic-access-address", "sec.VIRTUALIZE_APIC_ACCESSES", "APIC_ACCESS_ADDR",
    "sec.VIRTUALIZE_APIC_ACCESSES",
)  # fmt: skip
_page_address("control.pml-address", "sec.ENABLE_PML", "PML_ADDRESS", "sec.ENABLE_PML")
_page_address(
    "control.vmread-bitmap", "sec.VMCS_SHADOWING", "VMREAD_BITMAP_ADDR", "sec.VMCS_SHADOWING"
)
_page_address(
    "control.vmwrite-bitmap", "sec.VMCS_SHADOWING", "VMWRITE_BITMAP_ADDR", "sec.VMCS_SHADOWING"
)
_page_address(
    "control.ve-information-address", "sec.EPT_VIOLATION_VE", "VE_INFO_ADDR",
    "sec.EPT_VIOLATION_VE",
)  # fmt: skip


def _requires(check_id: str, control: str, other: str, needs: str = "") -> None:
    """Register: `control` may be 1 only if `other` is."""

    @check(check_id, needs)
    def holds(v: View) -> Value:
        return implies(has(v, control), has(v, other))


_requires("control.virtual-nmis-need-nmi-exiting", "pin.VIRTUAL_NMIS", "pin.NMI_EXITING")
_requires("control.nmi-window-needs-virtual-nmis", "proc.NMI_WINDOW_EXITING", "pin.VIRTUAL_NMIS")
_VID, _POSTED = "sec.VIRTUAL_INTERRUPT_DELIVERY", "pin.PROCESS_POSTED_INTERRUPTS"
_EPT = "sec.ENABLE_EPT"
_requires(
    "control.vid-needs-external-interrupt-exiting", _VID, "pin.EXTERNAL_INTERRUPT_EXITING", _VID
)
_requires("control.posted-needs-vid", _POSTED, _VID, _POSTED)
_requires("control.posted-needs-ack-on-exit", _POSTED, "exit.ACK_INTERRUPT_ON_EXIT", _POSTED)
_requires("control.pml-needs-ept", "sec.ENABLE_PML", _EPT, "sec.ENABLE_PML")
_requires(
    "control.unrestricted-guest-needs-ept", "sec.UNRESTRICTED_GUEST", _EPT,
    "sec.UNRESTRICTED_GUEST",
)  # fmt: skip
_requires("control.mbe-needs-ept", "sec.MODE_BASED_EPT_EXECUTE", _EPT, "sec.MODE_BASED_EPT_EXECUTE")
_requires(
    "control.spp-needs-ept", "sec.SUB_PAGE_WRITE_PERMISSIONS", _EPT,
    "sec.SUB_PAGE_WRITE_PERMISSIONS",
)  # fmt: skip


# --- virtual APIC ----------------------------------------------------------------------------


def _tpr_threshold_counts(v: View) -> Value:
    return has(v, "proc.USE_TPR_SHADOW") & ~has(v, _VID)


@check("control.tpr-threshold-reserved")
def tpr_threshold_reserved(v: View) -> Value:
    return implies(_tpr_threshold_counts(v), (v["TPR_THRESHOLD"] >> 4) == 0)


@check("control.tpr-threshold-vtpr")
def tpr_threshold_vtpr(v: View) -> Value:
    """Read only at a legal address: an earlier rule refuses the others."""
    counts = _tpr_threshold_counts(v) & ~has(v, "sec.VIRTUALIZE_APIC_ACCESSES")
    vtpr = v.load(8, (v["VIRTUAL_APIC_ADDR"] & ((1 << MAXPHYADDR) - 1)) + 0x80, counts)
    return implies(counts, (v["TPR_THRESHOLD"] & 0xF).ule((vtpr >> 4).zext(32)))


@check("control.x2apic-not-with-apic-accesses", needs="sec.VIRTUALIZE_X2APIC_MODE")
def x2apic_not_with_apic_accesses(v: View) -> Value:
    return ~(has(v, "sec.VIRTUALIZE_X2APIC_MODE") & has(v, "sec.VIRTUALIZE_APIC_ACCESSES"))


@check("control.tpr-shadow-needed", needs="sec.VIRTUALIZE_X2APIC_MODE")
def tpr_shadow_needed(v: View) -> Value:
    virtualized = v.b.any_of(
        has(v, "sec.VIRTUALIZE_X2APIC_MODE"), has(v, "sec.APIC_REGISTER_VIRTUALIZATION"),
        has(v, _VID),
    )  # fmt: skip
    return implies(~has(v, "proc.USE_TPR_SHADOW"), ~virtualized)


@check("control.posted-vector", needs=_POSTED)
def posted_vector(v: View) -> Value:
    return implies(has(v, _POSTED), (v["POSTED_INT_NV"] >> 8) == 0)


@check("control.posted-descriptor", needs=_POSTED)
def posted_descriptor(v: View) -> Value:
    return implies(has(v, _POSTED), physical(v["POSTED_INT_DESC_ADDR"], 64))


# --- translation -----------------------------------------------------------------------------


@check("control.vpid-nonzero", needs="sec.ENABLE_VPID")
def vpid_nonzero(v: View) -> Value:
    return implies(has(v, "sec.ENABLE_VPID"), v["VPID"] != 0)


@check("control.eptp-memory-type", needs=_EPT)
def eptp_memory_type(v: View) -> Value:
    kind, supported = v["EPT_POINTER"] & 7, v.capability(MSRS.IA32_VMX_EPT_VPID_CAP)
    legal = ((kind == 0) & supported.bit(8)) | ((kind == 6) & supported.bit(14))
    return implies(has(v, _EPT), legal)


@check("control.eptp-walk-length", needs=_EPT)
def eptp_walk_length(v: View) -> Value:
    four_levels = v.capability(MSRS.IA32_VMX_EPT_VPID_CAP).bit(6)
    return implies(has(v, _EPT), (v["EPT_POINTER"].bits(5, 3) == 3) & four_levels)


@check("control.eptp-accessed-dirty", needs=_EPT)
def eptp_accessed_dirty(v: View) -> Value:
    built = v.capability(MSRS.IA32_VMX_EPT_VPID_CAP).bit(21)
    return implies(has(v, _EPT) & v["EPT_POINTER"].bit(6), built)


@check("control.eptp-reserved", needs=_EPT)
def eptp_reserved(v: View) -> Value:
    reserved = v["EPT_POINTER"] & 0xF80
    return implies(has(v, _EPT), (reserved == 0) & within_width(v["EPT_POINTER"]))


_VMFUNC = "sec.ENABLE_VM_FUNCTIONS"


def _switches_eptp(v: View) -> Value:
    return has(v, _VMFUNC) & v["VM_FUNCTION_CONTROLS"].bit(0)


@check("control.vm-function-controls", needs=_VMFUNC)
def vm_function_controls(v: View) -> Value:
    more = v["VM_FUNCTION_CONTROLS"] & ~v.capability(MSRS.IA32_VMX_VMFUNC)
    return implies(has(v, _VMFUNC), more == 0)


@check("control.eptp-switching-needs-ept", needs=_VMFUNC)
def eptp_switching_needs_ept(v: View) -> Value:
    return implies(_switches_eptp(v), has(v, _EPT))


@check("control.eptp-list-address", needs=_VMFUNC)
def eptp_list_address(v: View) -> Value:
    return implies(_switches_eptp(v), physical(v["EPTP_LIST_ADDR"], _PAGE))


@check("control.tsc-multiplier", needs="sec.USE_TSC_SCALING")
def tsc_multiplier(v: View) -> Value:
    return implies(has(v, "sec.USE_TSC_SCALING"), v["TSC_MULTIPLIER"] != 0)


# --- exit and entry controls -----------------------------------------------------------------


@check("exit-control.reserved")
def exit_reserved(v: View) -> Value:
    return allowed(v["VMEXIT_CONTROLS"], v.capability(MSRS.IA32_VMX_TRUE_EXIT_CTLS))


_requires(
    "exit-control.save-preemption-timer", "exit.SAVE_PREEMPTION_TIMER", "pin.PREEMPTION_TIMER"
)


@check("entry-control.reserved")
def entry_reserved(v: View) -> Value:
    return allowed(v["VMENTRY_CONTROLS"], v.capability(MSRS.IA32_VMX_TRUE_ENTRY_CTLS))


@check("entry-control.smm")
def entry_smm(v: View) -> Value:
    return ~(has(v, "entry.ENTRY_TO_SMM") | has(v, "entry.DEACTIVATE_DUAL_MONITOR"))


def _msr_area(check_id: str, what: str) -> None:
    """Register the two rules of the MSR area whose fields start with `what`."""

    @check(f"{check_id}-address")
    def address(v: View) -> Value:
        return implies(v[f"{what}_COUNT"] != 0, physical(v[f"{what}_ADDR"], 16))

    @check(f"{check_id}-end")
    def end(v: View) -> Value:
        count = v[f"{what}_COUNT"].zext(64)
        last = v[f"{what}_ADDR"] + (count << 4) - 1
        return implies(count != 0, within_width(last))


_msr_area("exit-control.msr-store", "VMEXIT_MSR_STORE")
_msr_area("exit-control.msr-load", "VMEXIT_MSR_LOAD")
_msr_area("entry-control.msr-load", "VMENTRY_MSR_LOAD")


# --- event injection -------------------------------------------------------------------------


def injects(v: View) -> Value:
    """An event is to be injected."""
    return v["VMENTRY_INTERRUPTION_INFO"].bit(VALID)


def event_is(v: View, *types: int) -> Value:
    """An event of one of `types` is to be injected."""
    kind = v["VMENTRY_INTERRUPTION_INFO"].bits(10, 8)
    return injects(v) & v.b.any_of(*(kind == number for number in types))


def _vector(v: View) -> Value:
    return v["VMENTRY_INTERRUPTION_INFO"] & 0xFF


def _event_rule(check_id: str, kind: int, legal: Callable[[Value], Value]) -> None:
    @check(check_id)
    def holds(v: View) -> Value:
        return implies(event_is(v, kind), legal(_vector(v)))


@check("entry-control.event-type")
def event_type(v: View) -> Value:
    """Type 7 is legal wherever the monitor trap flag may be 1, which is always so here."""
    return ~event_is(v, RESERVED)


_event_rule("entry-control.event-vector-nmi", NMI, lambda vector: vector == 2)
_event_rule("entry-control.event-vector-exception", EXCEPTION, lambda vector: vector.ule(31))
_event_rule("entry-control.event-vector-other", OTHER, lambda vector: vector == 0)


def _guest_is_protected(v: View) -> Value:
    unrestricted = has(v, "sec.UNRESTRICTED_GUEST")
    return ~unrestricted | v["GUEST_CR0"].bit(0)


@check("entry-control.event-error-code-vector")
def event_error_code_vector(v: View) -> Value:
    delivers = v["VMENTRY_INTERRUPTION_INFO"].bit(11)
    vector = _vector(v)
    pushes = (v.b.const(32, _WITH_ERROR_CODE) >> vector).bit(0)
    wanted = event_is(v, EXCEPTION) & pushes & _guest_is_protected(v)
    any_vector = v.capability(MSRS.IA32_VMX_BASIC).bit(56) & event_is(v, EXCEPTION)
    return implies(injects(v), any_vector | ~(delivers ^ wanted))


@check("entry-control.event-error-code-protected-mode")
def event_error_code_protected_mode(v: View) -> Value:
    delivers = injects(v) & v["VMENTRY_INTERRUPTION_INFO"].bit(11)
    return implies(~_guest_is_protected(v), ~delivers)


@check("entry-control.event-error-code-reserved")
def event_error_code_reserved(v: View) -> Value:
    delivers = injects(v) & v["VMENTRY_INTERRUPTION_INFO"].bit(11)
    return implies(delivers, (v["VMENTRY_EXCEPTION_ERROR_CODE"] >> 16) == 0)


@check("entry-control.event-reserved")
def event_reserved(v: View) -> Value:
    return implies(injects(v), (v["VMENTRY_INTERRUPTION_INFO"] & 0x7FFF_F000) == 0)


@check("entry-control.event-instruction-length")
def event_instruction_length(v: View) -> Value:
    length = v["VMENTRY_INSTRUCTION_LENGTH"]
    zero_allowed = v.capability(MSRS.IA32_VMX_MISC).bit(30)
    legal = length.ule(15) & ((length != 0) | zero_allowed)
    return implies(event_is(v, SOFTWARE_INTERRUPT, PRIVILEGED, SOFTWARE), legal)
