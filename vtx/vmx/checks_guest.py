"""VM-entry checks on guest state other than segment registers.

Source: SDM 3C, Checks on Guest Control Registers, Debug Registers, and MSRs; Checks on Guest
RIP, RFLAGS, and SSP; Checks on Guest Non-Register State; Checks on Guest Page-Directory-
Pointer-Table Entries.
"""

from vtx.isa.builder import Value
from vtx.machine.paging import MAXPHYADDR
from vtx.spec import MSRS, msr
from vtx.vmx.capability import REVISION
from vtx.vmx.checks import (
    ALL_ONES,
    View,
    canonical,
    check,
    fixed,
    has,
    high_half_zero,
    implies,
    legal_pat,
    physical,
    within_width,
)
from vtx.vmx.checks_controls import EXCEPTION, EXTERNAL, NMI, OTHER, event_is, injects
from vtx.vmx.checks_host import CR4_PAE, CR4_PCIDE, EFER_DEFINED, EFER_LMA, EFER_LME

_CR0_PE, _CR0_WP, _CR0_PG, _CR4_CET = 0, 16, 31, 23
_PE_PG = 1 << _CR0_PE | 1 << _CR0_PG
_RFLAGS_TF, _RFLAGS_IF, _RFLAGS_VM = 8, 9, 17
_RFLAGS_RESERVED = ALL_ONES & ~0x3F_7FD7
_PENDING_DEFINED = 0xF | 1 << 11 | 1 << 12 | 1 << 14 | 1 << 16
_PENDING_BS, _PENDING_RTM = 14, 16
_DEBUGCTL_BTF = 1
_PDPTE_RESERVED = 0x1E6 | (ALL_ONES & ~((1 << MAXPHYADDR) - 1))
_IA32E = "entry.IA32E_MODE_GUEST"
_ACTIVE, _HLT, _SHUTDOWN, _WAIT_FOR_SIPI = range(4)
_PHYSICAL = (1 << MAXPHYADDR) - 1


# --- control registers -----------------------------------------------------------------------


@check("guest.cr0-fixed")
def cr0_fixed(v: View) -> Value:
    must, may = v.capability(MSRS.IA32_VMX_CR0_FIXED0), v.capability(MSRS.IA32_VMX_CR0_FIXED1)
    free = has(v, "sec.UNRESTRICTED_GUEST").select(must & ~_PE_PG, must)
    return fixed(v["GUEST_CR0"], free, may)


@check("guest.cr0-pg-needs-pe")
def cr0_pg_needs_pe(v: View) -> Value:
    return implies(v["GUEST_CR0"].bit(_CR0_PG), v["GUEST_CR0"].bit(_CR0_PE))


@check("guest.cr4-fixed")
def cr4_fixed(v: View) -> Value:
    must, may = v.capability(MSRS.IA32_VMX_CR4_FIXED0), v.capability(MSRS.IA32_VMX_CR4_FIXED1)
    return fixed(v["GUEST_CR4"], must, may)


@check("guest.cr4-cet-needs-wp")
def cr4_cet_needs_wp(v: View) -> Value:
    return implies(v["GUEST_CR4"].bit(_CR4_CET), v["GUEST_CR0"].bit(_CR0_WP))


@check("guest.ia32e-needs-pg")
def ia32e_needs_pg(v: View) -> Value:
    return implies(has(v, _IA32E), v["GUEST_CR0"].bit(_CR0_PG))


@check("guest.ia32e-needs-pae")
def ia32e_needs_pae(v: View) -> Value:
    return implies(has(v, _IA32E), v["GUEST_CR4"].bit(CR4_PAE))


@check("guest.no-ia32e-pcide")
def no_ia32e_pcide(v: View) -> Value:
    return has(v, _IA32E) | ~v["GUEST_CR4"].bit(CR4_PCIDE)


@check("guest.cr3-width")
def cr3_width(v: View) -> Value:
    return within_width(v["GUEST_CR3"])


# --- debug registers and MSRs ----------------------------------------------------------------


@check("guest.debugctl")
def debugctl(v: View) -> Value:
    reserved = msr("IA32_DEBUGCTL").reserved(MAXPHYADDR)
    legal = (v["GUEST_IA32_DEBUGCTL"] & reserved) == 0
    return implies(has(v, "entry.LOAD_DEBUG_CONTROLS"), legal)


@check("guest.dr7-high")
def dr7_high(v: View) -> Value:
    return implies(has(v, "entry.LOAD_DEBUG_CONTROLS"), high_half_zero(v["GUEST_DR7"]))


@check("guest.sysenter-esp-canonical")
def sysenter_esp_canonical(v: View) -> Value:
    return canonical(v["GUEST_IA32_SYSENTER_ESP"])


@check("guest.sysenter-eip-canonical")
def sysenter_eip_canonical(v: View) -> Value:
    return canonical(v["GUEST_IA32_SYSENTER_EIP"])


@check("guest.perf-global-ctrl", needs="entry.LOAD_PERF_GLOBAL_CTRL")
def perf_global_ctrl(v: View) -> Value:
    defined = 7 << 32 | 0xF
    legal = (v["GUEST_IA32_PERF_GLOBAL_CTRL"] & ~defined) == 0
    return implies(has(v, "entry.LOAD_PERF_GLOBAL_CTRL"), legal)


@check("guest.pat")
def pat(v: View) -> Value:
    return implies(has(v, "entry.LOAD_PAT"), legal_pat(v["GUEST_IA32_PAT"]))


@check("guest.efer-reserved")
def efer_reserved(v: View) -> Value:
    return implies(has(v, "entry.LOAD_EFER"), (v["GUEST_IA32_EFER"] & ~EFER_DEFINED) == 0)


@check("guest.efer-lma")
def efer_lma(v: View) -> Value:
    lma = (v["GUEST_IA32_EFER"] & EFER_LMA) != 0
    return implies(has(v, "entry.LOAD_EFER"), lma == has(v, _IA32E))


@check("guest.efer-lme")
def efer_lme(v: View) -> Value:
    lma, lme = (v["GUEST_IA32_EFER"] & EFER_LMA) != 0, (v["GUEST_IA32_EFER"] & EFER_LME) != 0
    return implies(has(v, "entry.LOAD_EFER") & v["GUEST_CR0"].bit(_CR0_PG), lma == lme)


@check("guest.bndcfgs", needs="entry.LOAD_BNDCFGS")
def bndcfgs(v: View) -> Value:
    value = v["GUEST_IA32_BNDCFGS"]
    legal = ((value & 0xFFC) == 0) & canonical(value & ~0xFFF)
    return implies(has(v, "entry.LOAD_BNDCFGS"), legal)


# --- RIP and RFLAGS --------------------------------------------------------------------------


def _in_64_bit_mode(v: View) -> Value:
    return has(v, _IA32E) & v["GUEST_CS_ACCESS_RIGHTS"].bit(13)


@check("guest.rip-32-bit")
def rip_32_bit(v: View) -> Value:
    return _in_64_bit_mode(v) | high_half_zero(v["GUEST_RIP"])


@check("guest.rip-canonical")
def rip_canonical(v: View) -> Value:
    return implies(_in_64_bit_mode(v), canonical(v["GUEST_RIP"]))


@check("guest.rflags-reserved")
def rflags_reserved(v: View) -> Value:
    return ((v["GUEST_RFLAGS"] & _RFLAGS_RESERVED) == 0) & v["GUEST_RFLAGS"].bit(1)


@check("guest.rflags-vm")
def rflags_vm(v: View) -> Value:
    impossible = has(v, _IA32E) | ~v["GUEST_CR0"].bit(_CR0_PE)
    return implies(impossible, ~v["GUEST_RFLAGS"].bit(_RFLAGS_VM))


@check("guest.rflags-if")
def rflags_if(v: View) -> Value:
    return implies(event_is(v, EXTERNAL), v["GUEST_RFLAGS"].bit(_RFLAGS_IF))


# --- activity and interruptibility -----------------------------------------------------------


def _sti(v: View) -> Value:
    return v["GUEST_INTERRUPTIBILITY_STATE"].bit(0)


def _mov_ss(v: View) -> Value:
    return v["GUEST_INTERRUPTIBILITY_STATE"].bit(1)


@check("guest.activity-state")
def activity_state(v: View) -> Value:
    state, misc = v["GUEST_ACTIVITY_STATE"], v.capability(MSRS.IA32_VMX_MISC)
    supported = v.b.any_of(*((state == n) & misc.bit(5 + n) for n in (1, 2, 3)))
    return (state == _ACTIVE) | supported


@check("guest.activity-hlt-dpl")
def activity_hlt_dpl(v: View) -> Value:
    dpl = v["GUEST_SS_ACCESS_RIGHTS"].bits(6, 5)
    return implies(v["GUEST_ACTIVITY_STATE"] == _HLT, dpl == 0)


@check("guest.activity-blocking")
def activity_blocking(v: View) -> Value:
    return implies(_sti(v) | _mov_ss(v), v["GUEST_ACTIVITY_STATE"] == _ACTIVE)


@check("guest.activity-injection")
def activity_injection(v: View) -> Value:
    state = v["GUEST_ACTIVITY_STATE"]
    vector = v["VMENTRY_INTERRUPTION_INFO"] & 0xFF
    machine_check = event_is(v, EXCEPTION) & (vector == 18)
    debug = event_is(v, EXCEPTION) & (vector == 1)
    wakes = v.b.any_of(event_is(v, EXTERNAL, NMI, OTHER), machine_check, debug)
    admitted = v.b.any_of(
        state == _ACTIVE,
        (state == _HLT) & wakes,
        (state == _SHUTDOWN) & (event_is(v, NMI) | machine_check),
    )
    return implies(injects(v), admitted)


@check("guest.activity-smm", needs="entry.ENTRY_TO_SMM")
def activity_smm(v: View) -> Value:
    waits = v["GUEST_ACTIVITY_STATE"] == _WAIT_FOR_SIPI
    return ~(waits & has(v, "entry.ENTRY_TO_SMM"))


@check("guest.interruptibility-reserved")
def interruptibility_reserved(v: View) -> Value:
    return (v["GUEST_INTERRUPTIBILITY_STATE"] >> 5) == 0


@check("guest.sti-and-mov-ss")
def sti_and_mov_ss(v: View) -> Value:
    return ~(_sti(v) & _mov_ss(v))


@check("guest.sti-needs-if")
def sti_needs_if(v: View) -> Value:
    return implies(_sti(v), v["GUEST_RFLAGS"].bit(_RFLAGS_IF))


@check("guest.blocking-external-interrupt")
def blocking_external_interrupt(v: View) -> Value:
    return implies(event_is(v, EXTERNAL), ~(_sti(v) | _mov_ss(v)))


@check("guest.blocking-nmi-mov-ss")
def blocking_nmi_mov_ss(v: View) -> Value:
    return implies(event_is(v, NMI), ~_mov_ss(v))


@check("guest.blocking-nmi-sti")
def blocking_nmi_sti(v: View) -> Value:
    """The SDM lets a CPU require this or not; this one does."""
    return implies(event_is(v, NMI), ~_sti(v))


@check("guest.blocking-smi")
def blocking_smi(v: View) -> Value:
    return ~v["GUEST_INTERRUPTIBILITY_STATE"].bit(2)


@check("guest.blocking-smi-entry-to-smm", needs="entry.ENTRY_TO_SMM")
def blocking_smi_entry_to_smm(v: View) -> Value:
    return implies(has(v, "entry.ENTRY_TO_SMM"), v["GUEST_INTERRUPTIBILITY_STATE"].bit(2))


@check("guest.virtual-nmi-blocking")
def virtual_nmi_blocking(v: View) -> Value:
    injected = event_is(v, NMI) & has(v, "pin.VIRTUAL_NMIS")
    return implies(injected, ~v["GUEST_INTERRUPTIBILITY_STATE"].bit(3))


@check("guest.enclave-interruption")
def enclave_interruption(v: View) -> Value:
    """No profile has SGX."""
    return ~v["GUEST_INTERRUPTIBILITY_STATE"].bit(4)


# --- pending debug exceptions ----------------------------------------------------------------


@check("guest.pending-debug-reserved")
def pending_debug_reserved(v: View) -> Value:
    return (v["GUEST_PENDING_DBG_EXCEPTIONS"] & ~_PENDING_DEFINED) == 0


@check("guest.pending-debug-bs")
def pending_debug_bs(v: View) -> Value:
    waits = v.b.any_of(_sti(v), _mov_ss(v), v["GUEST_ACTIVITY_STATE"] == _HLT)
    steps = v["GUEST_RFLAGS"].bit(_RFLAGS_TF) & ~v["GUEST_IA32_DEBUGCTL"].bit(_DEBUGCTL_BTF)
    return implies(waits, v["GUEST_PENDING_DBG_EXCEPTIONS"].bit(_PENDING_BS) == steps)


@check("guest.pending-debug-rtm")
def pending_debug_rtm(v: View) -> Value:
    """No profile's RTM is built, so the bit must be 0 like a reserved one."""
    return ~v["GUEST_PENDING_DBG_EXCEPTIONS"].bit(_PENDING_RTM)


# --- VMCS link pointer -----------------------------------------------------------------------


def _linked(v: View) -> Value:
    return v["VMCS_LINK_POINTER"] != ALL_ONES


def _linked_header(v: View) -> Value:
    return v.load(32, v["VMCS_LINK_POINTER"] & (_PHYSICAL & ~0xFFF), _linked(v))


@check("guest.link-pointer-address")
def link_pointer_address(v: View) -> Value:
    return implies(_linked(v), physical(v["VMCS_LINK_POINTER"], 4096))


@check("guest.link-pointer-revision")
def link_pointer_revision(v: View) -> Value:
    return implies(_linked(v), (_linked_header(v) & 0x7FFF_FFFF) == REVISION)


@check("guest.link-pointer-shadow")
def link_pointer_shadow(v: View) -> Value:
    return implies(_linked(v), _linked_header(v).bit(31) == has(v, "sec.VMCS_SHADOWING"))


@check("guest.link-pointer-current")
def link_pointer_current(v: View) -> Value:
    return v["VMCS_LINK_POINTER"] != v.state("vmcs_pointer")


# --- PDPTEs ----------------------------------------------------------------------------------


@check("guest.pdpte-reserved")
def pdpte_reserved(v: View) -> Value:
    paging = v["GUEST_CR0"].bit(_CR0_PG) & v["GUEST_CR4"].bit(CR4_PAE) & ~has(v, _IA32E)
    ept = has(v, "sec.ENABLE_EPT")
    table = v["GUEST_CR3"] & 0xFFFF_FFE0
    legal = []
    for n in range(4):
        loaded = v.load(64, table + 8 * n, paging & ~ept)
        entry = ept.select(v[f"GUEST_PDPTE{n}"], loaded)
        legal.append(~entry.bit(0) | ((entry & _PDPTE_RESERVED) == 0))
    return implies(paging, v.b.all_of(*legal))
