"""VM-entry checks on the host state.

Source: SDM 3C, Checks on Host Control Registers, MSRs, and SSP; Checks on Host Segment and
Descriptor-Table Registers; Checks Related to Address-Space Size.
"""

from vtx.isa.builder import Value
from vtx.spec import MSRS
from vtx.spec.registers import EFER
from vtx.vmx.checks import (
    View,
    canonical,
    check,
    fixed,
    has,
    high_half_zero,
    implies,
    legal_pat,
    within_width,
)

EFER_SCE, EFER_LME, EFER_LMA, EFER_NXE = EFER.SCE, EFER.LME, EFER.LMA, EFER.NXE
EFER_DEFINED = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE
CR4_PAE, CR4_PCIDE = 5, 17
_SELECTORS = tuple(f"HOST_{name}_SELECTOR" for name in ("CS", "SS", "DS", "ES", "FS", "GS", "TR"))
_BASES = tuple(f"HOST_{name}_BASE" for name in ("FS", "GS", "GDTR", "IDTR", "TR"))
_SIZE_64 = "exit.HOST_ADDRESS_SPACE_SIZE"


@check("host.cr0-fixed")
def cr0_fixed(v: View) -> Value:
    must, may = v.capability(MSRS.IA32_VMX_CR0_FIXED0), v.capability(MSRS.IA32_VMX_CR0_FIXED1)
    return fixed(v["HOST_CR0"], must, may)


@check("host.cr4-fixed")
def cr4_fixed(v: View) -> Value:
    must, may = v.capability(MSRS.IA32_VMX_CR4_FIXED0), v.capability(MSRS.IA32_VMX_CR4_FIXED1)
    return fixed(v["HOST_CR4"], must, may)


@check("host.cr3-width")
def cr3_width(v: View) -> Value:
    return within_width(v["HOST_CR3"])


@check("host.sysenter-esp-canonical")
def sysenter_esp_canonical(v: View) -> Value:
    return canonical(v["HOST_IA32_SYSENTER_ESP"])


@check("host.sysenter-eip-canonical")
def sysenter_eip_canonical(v: View) -> Value:
    return canonical(v["HOST_IA32_SYSENTER_EIP"])


@check("host.pat")
def pat(v: View) -> Value:
    return implies(has(v, "exit.LOAD_PAT"), legal_pat(v["HOST_IA32_PAT"]))


@check("host.efer-reserved")
def efer_reserved(v: View) -> Value:
    return implies(has(v, "exit.LOAD_EFER"), (v["HOST_IA32_EFER"] & ~EFER_DEFINED) == 0)


@check("host.efer-lma-lme")
def efer_lma_lme(v: View) -> Value:
    efer = v["HOST_IA32_EFER"] & (EFER_LMA | EFER_LME)
    size = has(v, _SIZE_64).select(v.b.const(64, EFER_LMA | EFER_LME), v.b.const(64, 0))
    return implies(has(v, "exit.LOAD_EFER"), efer == size)


@check("host.selector-rpl-ti")
def selector_rpl_ti(v: View) -> Value:
    return v.b.all_of(*((v[name] & 7) == 0 for name in _SELECTORS))


@check("host.cs-nonzero")
def cs_nonzero(v: View) -> Value:
    return v["HOST_CS_SELECTOR"] != 0


@check("host.tr-nonzero")
def tr_nonzero(v: View) -> Value:
    return v["HOST_TR_SELECTOR"] != 0


@check("host.ss-nonzero")
def ss_nonzero(v: View) -> Value:
    return has(v, _SIZE_64) | (v["HOST_SS_SELECTOR"] != 0)


@check("host.base-canonical")
def base_canonical(v: View) -> Value:
    return v.b.all_of(*(canonical(v[name]) for name in _BASES))


def _in_ia32e_mode(v: View) -> Value:
    return (v.state("efer") & EFER_LMA) != 0


@check("host.address-space-size-outside-ia32e")
def address_space_size_outside_ia32e(v: View) -> Value:
    either = has(v, "entry.IA32E_MODE_GUEST") | has(v, _SIZE_64)
    return _in_ia32e_mode(v) | ~either


@check("host.address-space-size-in-ia32e")
def address_space_size_in_ia32e(v: View) -> Value:
    return implies(_in_ia32e_mode(v), has(v, _SIZE_64))


@check("host.ia32e-guest-needs-64-bit-host")
def ia32e_guest_needs_64_bit_host(v: View) -> Value:
    return implies(has(v, "entry.IA32E_MODE_GUEST"), has(v, _SIZE_64))


@check("host.cr4-pae")
def cr4_pae(v: View) -> Value:
    return implies(has(v, _SIZE_64), v["HOST_CR4"].bit(CR4_PAE))


@check("host.rip-canonical")
def rip_canonical(v: View) -> Value:
    return implies(has(v, _SIZE_64), canonical(v["HOST_RIP"]))


@check("host.cr4-pcide")
def cr4_pcide(v: View) -> Value:
    return has(v, _SIZE_64) | ~v["HOST_CR4"].bit(CR4_PCIDE)


@check("host.rip-32-bit")
def rip_32_bit(v: View) -> Value:
    return has(v, _SIZE_64) | high_half_zero(v["HOST_RIP"])


@check("host.perf-global-ctrl", needs="exit.LOAD_PERF_GLOBAL_CTRL")
def perf_global_ctrl(v: View) -> Value:
    """Four general-purpose and three fixed counters, as the silicon of the profiles has."""
    defined = 7 << 32 | 0xF
    legal = (v["HOST_IA32_PERF_GLOBAL_CTRL"] & ~defined) == 0
    return implies(has(v, "exit.LOAD_PERF_GLOBAL_CTRL"), legal)
