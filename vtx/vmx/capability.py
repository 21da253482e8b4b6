"""What VMX features this machine has, from one list of what is built.

The capability MSRs follow from the list, cut to what the CPU profile's silicon has; nothing is
advertised that is not built (SDM 3D, VMX Capability Reporting Facility). All profiles stand in
one table for LOOKUP: the key is `profile number << 16 | MSR index`, where the profile number
is the position in `vtx.spec.profiles()` and stands in the state slot `cpu_profile`. Number 0
is the default profile, so an MSR index alone finds its values. This module must not know
what a control does.
"""

from collections.abc import Mapping
from functools import cache

from vtx.isa.builder import Builder, Value
from vtx.isa.tables import register_table
from vtx.machine.built import cr4_allowed, features_of
from vtx.spec import MSRS, Profile, control, control_word, fields, profiles
from vtx.spec.registers import CR0, CR4

IMPLEMENTED_CONTROLS: frozenset[str] = frozenset(
    {
        "pin.EXTERNAL_INTERRUPT_EXITING", "pin.NMI_EXITING", "pin.VIRTUAL_NMIS",
        "pin.PREEMPTION_TIMER",
        "proc.INTERRUPT_WINDOW_EXITING", "proc.USE_TSC_OFFSETTING", "proc.HLT_EXITING",
        "proc.INVLPG_EXITING", "proc.MWAIT_EXITING", "proc.RDPMC_EXITING", "proc.RDTSC_EXITING",
        "proc.CR3_LOAD_EXITING", "proc.CR3_STORE_EXITING", "proc.CR8_LOAD_EXITING",
        "proc.CR8_STORE_EXITING", "proc.USE_TPR_SHADOW", "proc.NMI_WINDOW_EXITING",
        "proc.MOV_DR_EXITING", "proc.UNCONDITIONAL_IO_EXITING", "proc.USE_IO_BITMAPS",
        "proc.MONITOR_TRAP_FLAG", "proc.USE_MSR_BITMAPS", "proc.MONITOR_EXITING",
        "proc.PAUSE_EXITING", "proc.ACTIVATE_SECONDARY_CONTROLS",
        "sec.ENABLE_EPT", "sec.DESCRIPTOR_TABLE_EXITING", "sec.ENABLE_RDTSCP", "sec.ENABLE_VPID",
        "sec.WBINVD_EXITING", "sec.UNRESTRICTED_GUEST", "sec.RDRAND_EXITING",
        "sec.ENABLE_INVPCID", "sec.RDSEED_EXITING", "sec.PAUSE_LOOP_EXITING",
        "sec.USE_TSC_SCALING", "sec.MODE_BASED_EPT_EXECUTE", "sec.ENABLE_PML",
        "sec.ENABLE_VM_FUNCTIONS", "sec.EPT_VIOLATION_VE", "sec.VMCS_SHADOWING",
        "sec.VIRTUALIZE_X2APIC_MODE", "vmfunc.EPTP_SWITCHING",
        "exit.SAVE_DEBUG_CONTROLS", "exit.HOST_ADDRESS_SPACE_SIZE", "exit.ACK_INTERRUPT_ON_EXIT",
        "exit.SAVE_PAT", "exit.LOAD_PAT", "exit.SAVE_EFER", "exit.LOAD_EFER",
        "exit.SAVE_PREEMPTION_TIMER",
        "entry.LOAD_DEBUG_CONTROLS", "entry.IA32E_MODE_GUEST", "entry.LOAD_PAT",
        "entry.LOAD_EFER",
    }
)  # fmt: skip
"""Controls (word.NAME) that may be 1: the one place that says what is built."""

REVISION = 0x5654_5801
"""Revision identifier of the VMCS format (31 bits)."""
REGION_SIZE = 4096
"""Bytes of a VMCS or VMXON region."""

CAPABILITY_TABLE = "vmx_capability"
PROFILE_SHIFT = 16
VMWRITE_ANY = 1 << 29
"""IA32_VMX_MISC: VMWRITE may write the fields of VM-exit information too."""
MOST_MSR_ENTRIES = 512
"""Longest MSR-load or MSR-store area (IA32_VMX_MISC[27:25] is 0)."""

_WRITE_BACK = 6
_EPT_BUILT = 1 << 0 | 1 << 6 | 1 << 8 | 1 << 14 | 3 << 16 | 1 << 20 | 1 << 21 | 1 << 22 | 3 << 25
_VPID_BUILT = 1 << 32 | 0xF << 40
_CR0_PE, _CR0_NE, _CR0_PG = CR0.PE, CR0.NE, CR0.PG
_CR4_VMXE = CR4.VMXE


@cache
def allowed_controls(profile: Profile) -> frozenset[str]:
    """The controls (word.NAME) that a CPU of this profile lets be 1."""
    return IMPLEMENTED_CONTROLS & profile.controls


def _word(profile: Profile, name: str, *, true: bool) -> int:
    """Allowed 0-settings in bits 31:0, allowed 1-settings in 63:32 (SDM 3D, VMX Capability)."""
    word = control_word(name)
    fixed = word.true_default1 if true else word.default1
    may_be_1 = fixed
    for identifier in allowed_controls(profile):
        if identifier.startswith(f"{name}."):
            may_be_1 |= control(identifier).mask
    return may_be_1 << 32 | fixed


def _basic() -> int:
    reports_ins_outs, has_true_controls = 1 << 54, 1 << 55
    return REVISION | REGION_SIZE << 32 | _WRITE_BACK << 50 | reports_ins_outs | has_true_controls


def _misc(allowed: frozenset[str]) -> int:
    """Preemption timer at TSC rate, every activity state, four CR3 targets."""
    stores_lma = 1 << 5 if "sec.UNRESTRICTED_GUEST" in allowed else 0
    # VMWRITE to any field came with VMCS shadowing.
    writes_any = VMWRITE_ANY if "sec.VMCS_SHADOWING" in allowed else 0
    hlt, shutdown, wait_for_sipi = 1 << 6, 1 << 7, 1 << 8
    return stores_lma | hlt | shutdown | wait_for_sipi | 4 << 16 | writes_any


def _ept_vpid(profile: Profile, allowed: frozenset[str]) -> int:
    built = _EPT_BUILT if "sec.ENABLE_EPT" in allowed else 0
    built |= _VPID_BUILT if "sec.ENABLE_VPID" in allowed else 0
    return built & profile.ept_vpid_cap


def capability_msrs(profile: Profile) -> Mapping[int, int]:
    """Capability MSR index -> value, for a CPU of `profile`; an MSR that is absent is left out."""
    allowed = allowed_controls(profile)
    highest = max(row.index for row in fields() if row.exists(allowed))
    words = {
        MSRS.IA32_VMX_BASIC: _basic(),
        MSRS.IA32_VMX_PINBASED_CTLS: _word(profile, "pin", true=False),
        MSRS.IA32_VMX_PROCBASED_CTLS: _word(profile, "proc", true=False),
        MSRS.IA32_VMX_EXIT_CTLS: _word(profile, "exit", true=False),
        MSRS.IA32_VMX_ENTRY_CTLS: _word(profile, "entry", true=False),
        MSRS.IA32_VMX_MISC: _misc(allowed),
        MSRS.IA32_VMX_CR0_FIXED0: _CR0_PE | _CR0_NE | _CR0_PG,
        MSRS.IA32_VMX_CR0_FIXED1: 0xFFFF_FFFF,
        MSRS.IA32_VMX_CR4_FIXED0: _CR4_VMXE,
        MSRS.IA32_VMX_CR4_FIXED1: cr4_allowed(features_of(profile.name)),
        MSRS.IA32_VMX_VMCS_ENUM: highest << 1,
        MSRS.IA32_VMX_TRUE_PINBASED_CTLS: _word(profile, "pin", true=True),
        MSRS.IA32_VMX_TRUE_PROCBASED_CTLS: _word(profile, "proc", true=True),
        MSRS.IA32_VMX_TRUE_EXIT_CTLS: _word(profile, "exit", true=True),
        MSRS.IA32_VMX_TRUE_ENTRY_CTLS: _word(profile, "entry", true=True),
    }
    if "proc.ACTIVATE_SECONDARY_CONTROLS" in allowed:
        words[MSRS.IA32_VMX_PROCBASED_CTLS2] = _word(profile, "sec", true=True)
    if "sec.ENABLE_VM_FUNCTIONS" in allowed:
        words[MSRS.IA32_VMX_VMFUNC] = _word(profile, "vmfunc", true=True) >> 32
    if _ept_vpid(profile, allowed):
        words[MSRS.IA32_VMX_EPT_VPID_CAP] = _ept_vpid(profile, allowed)
    return words


def _all_profiles() -> Mapping[int, int]:
    return {
        number << PROFILE_SHIFT | index: value
        for number, profile in enumerate(profiles())
        for index, value in capability_msrs(profile).items()
    }


register_table(CAPABILITY_TABLE, _all_profiles)


def profile_number(name: str) -> int:
    """The value of the state slot `cpu_profile` for the profile called `name`."""
    return next(number for number, row in enumerate(profiles()) if row.name == name)


def capability(b: Builder, index: Value | int) -> Value:
    """Value of capability MSR `index` (64-bit) on the CPU that runs; 0 where it has none."""
    key = (b.get("cpu_profile") << PROFILE_SHIFT) | index
    return b.lookup(64, CAPABILITY_TABLE, key, 0)
