"""Guest and host state between the CPU and the current VMCS.

Which state word belongs to which field is a table; what is saved or loaded only under a
control, or changed on the way, is written below it. When any of this happens is the business
of VM entry and VM exit.
Sources: SDM 3C, Loading Guest State; Saving Guest State; Loading Host State.
"""

from vtx.isa.builder import Builder, Value, routine_
from vtx.isa.program import Service
from vtx.isa.rflags import read_rflags, write_rflags
from vtx.machine.paging import MAXPHYADDR
from vtx.spec import control
from vtx.spec.registers import CR0, CR4, EFER
from vtx.vmx.vmcs import read_field, write_field

CR0_PE, CR0_PG, CR4_PAE, CR4_PCIDE, CR4_VMXE = CR0.PE, CR0.PG, CR4.PAE, CR4.PCIDE, CR4.VMXE
EFER_LME, EFER_LMA = EFER.LME, EFER.LMA
UNUSABLE = 1 << 16
_CR0_KEPT = 1 << 4 | 0x3FF << 6 | 1 << 17 | 0x3FF << 19 | 3 << 29
"""CR0 bits that VM entries and exits leave alone: ET, CD, NW and reserved ones."""
_CR0_LOADED = ~_CR0_KEPT & 0xFFFF_FFFF

_SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr")
_COMMON = {
    "GUEST_CR3": "cr3", "GUEST_CR4": "cr4",
    "GUEST_GDTR_BASE": "gdtr_base", "GUEST_GDTR_LIMIT": "gdtr_limit",
    "GUEST_IDTR_BASE": "idtr_base", "GUEST_IDTR_LIMIT": "idtr_limit",
    "GUEST_IA32_SYSENTER_CS": "sysenter_cs", "GUEST_IA32_SYSENTER_ESP": "sysenter_esp",
    "GUEST_IA32_SYSENTER_EIP": "sysenter_eip",
    "GUEST_RSP": "rsp", "GUEST_RIP": "rip",
    "GUEST_INTERRUPTIBILITY_STATE": "interruptibility", "GUEST_ACTIVITY_STATE": "activity",
    "GUEST_PENDING_DBG_EXCEPTIONS": "pending_debug",
    **{f"GUEST_{s.upper()}_{part}": f"{s}_{slot}" for s in _SEGMENTS for part, slot in (
        ("SELECTOR", "sel"), ("BASE", "base"), ("LIMIT", "limit"), ("ACCESS_RIGHTS", "ar"))},
}  # fmt: skip
"""Guest-state fields that are a state word, saved and loaded as they are."""

EXECUTION_CONTROLS = {
    "PINBASED_CONTROLS": "pin_controls", "PROCBASED_CONTROLS": "proc_controls",
    "VMEXIT_CONTROLS": "exit_controls", "VMENTRY_CONTROLS": "entry_controls",
    "EXCEPTION_BITMAP": "exception_bitmap", "PF_ERROR_CODE_MASK": "pf_mask",
    "PF_ERROR_CODE_MATCH": "pf_match", "CR0_GUEST_HOST_MASK": "cr0_mask",
    "CR4_GUEST_HOST_MASK": "cr4_mask", "CR0_READ_SHADOW": "cr0_shadow",
    "CR4_READ_SHADOW": "cr4_shadow", "CR3_TARGET_COUNT": "cr3_target_count",
    **{f"CR3_TARGET_VALUE_{n}": f"cr3_target{n}" for n in range(4)},
    "IO_BITMAP_A": "io_bitmap_a", "IO_BITMAP_B": "io_bitmap_b", "MSR_BITMAP": "msr_bitmap",
    "TSC_OFFSET": "tsc_offset", "EPT_POINTER": "eptp", "VPID": "vpid",
    "VIRTUAL_APIC_ADDR": "virtual_apic", "TPR_THRESHOLD": "tpr_threshold",
}  # fmt: skip
"""Control fields that VM entry copies into state words for the time in non-root operation."""

RARE_CONTROLS = {
    "TSC_MULTIPLIER": "tsc_multiplier", "PLE_GAP": "ple_gap", "PLE_WINDOW": "ple_window",
}  # fmt: skip
"""The same, but only where one of the controls in RARE that they belong to is 1."""
RARE = ("sec.PAUSE_LOOP_EXITING", "sec.USE_TSC_SCALING")


def mask_of(name: str) -> int:
    """The one-bit mask of the control `word.NAME` in its word."""
    return control(name).mask


def is_set(word: Value, name: str) -> Value:
    """Whether the control `word.NAME` is 1 in `word` (1 bit)."""
    return (word & mask_of(name)) != 0


# --- guest -----------------------------------------------------------------------------------


def copy_controls(b: Builder) -> None:
    """Controls of the current VMCS into state words; secondary ones count only if activated."""
    for name, slot in EXECUTION_CONTROLS.items():
        b.put(slot, read_field(b, name))
    active = is_set(b.get("proc_controls", 32), "proc.ACTIVATE_SECONDARY_CONTROLS")
    secondary = read_field(b, "SECONDARY_PROCBASED_CONTROLS")
    secondary = active.select(secondary, b.const(32, 0))
    b.put("proc2_controls", secondary)
    with b.if_((secondary & sum(mask_of(name) for name in RARE)) != 0):
        b.call("copy_rare_controls")


@routine_(results=())
def copy_rare_controls(b: Builder) -> None:
    """What only guests with controls of RARE need; VM entry also begins no PAUSE loop."""
    for name, slot in RARE_CONTROLS.items():
        b.put(slot, read_field(b, name))
    b.put("ple_last", 0)
    b.return_()


def load_guest(b: Builder) -> None:
    """Guest state of the current VMCS into the CPU (SDM 3C, Loading Guest State)."""
    controls = b.get("entry_controls", 32)
    for name, slot in _COMMON.items():
        b.put(slot, read_field(b, name))
    cr0 = (read_field(b, "GUEST_CR0") & _CR0_LOADED) | (b.get("cr0") & _CR0_KEPT)
    b.put("cr0", cr0)
    write_rflags(b, read_field(b, "GUEST_RFLAGS"))
    with b.if_(is_set(controls, "entry.LOAD_DEBUG_CONTROLS")):
        b.put("dr7", (read_field(b, "GUEST_DR7") & 0xFFFF_2FFF) | 0x400)
        b.put("debugctl", read_field(b, "GUEST_IA32_DEBUGCTL"))
    b.put("fs_base", read_field(b, "GUEST_FS_BASE"))
    b.put("gs_base", read_field(b, "GUEST_GS_BASE"))
    with b.if_(is_set(controls, "entry.LOAD_PAT")):
        b.put("pat", read_field(b, "GUEST_IA32_PAT"))
    long = is_set(controls, "entry.IA32E_MODE_GUEST")
    with b.if_(is_set(controls, "entry.LOAD_EFER")):
        b.put("efer", read_field(b, "GUEST_IA32_EFER"))
    with b.else_():
        _set_long_mode(b, long, (cr0 & CR0_PG) != 0)
    # What the run loop makes of blocking behind this instruction is the guest's.
    b.put("interruptibility_next", b.get("interruptibility") & 3)
    b.put("mtf_pending", 0)


def _set_long_mode(b: Builder, long: Value, with_lme: Value) -> None:
    """LMA, and LME where `with_lme`, become `long`."""
    changed = with_lme.select(b.const(64, EFER_LME | EFER_LMA), b.const(64, EFER_LMA))
    wanted = long.select(changed, b.const(64, 0))
    b.put("efer", (b.get("efer") & ~changed) | wanted)


def _uses_pae(b: Builder) -> Value:
    """Paging is on with PAE outside IA-32e mode: the PDPTEs are registers."""
    paging = (b.get("cr0") & CR0_PG) != 0
    pae = (b.get("cr4") & CR4_PAE) != 0
    return paging & pae & ((b.get("efer") & EFER_LMA) == 0)


def load_guest_pdptes(b: Builder) -> None:
    """PDPTEs of a PAE guest: from the VMCS with EPT, else from memory (both checked before)."""
    ept = is_set(b.get("proc2_controls", 32), "sec.ENABLE_EPT")
    with b.if_(_uses_pae(b)):
        with b.if_(ept):
            for n in range(4):
                b.put(f"pdpte{n}", read_field(b, f"GUEST_PDPTE{n}"))
        with b.else_():
            b.call("load_pdptes", b.get("cr3"))


@routine_(1, results=())
def save_guest(b: Builder, resume_flag: Value) -> None:
    """CPU state into the guest-state area; `resume_flag` is RFLAGS.RF to be saved.

    SDM 3C, Saving Guest State.
    """
    for name, slot in _COMMON.items():
        write_field(b, name, b.get(slot))
    write_field(b, "GUEST_CR0", b.get("cr0"))
    flags = read_rflags(b)
    write_field(b, "GUEST_RFLAGS", flags | (resume_flag.zext(64) << 16))
    controls = b.get("exit_controls", 32)
    with b.if_(is_set(controls, "exit.SAVE_DEBUG_CONTROLS")):
        write_field(b, "GUEST_DR7", b.get("dr7"))
        write_field(b, "GUEST_IA32_DEBUGCTL", b.get("debugctl"))
    with b.if_(is_set(controls, "exit.SAVE_PAT")):
        write_field(b, "GUEST_IA32_PAT", b.get("pat"))
    with b.if_(is_set(controls, "exit.SAVE_EFER")):
        write_field(b, "GUEST_IA32_EFER", b.get("efer"))
    with b.if_(is_set(controls, "exit.SAVE_PREEMPTION_TIMER")):
        left = b.var(64, 0)
        (now,) = b.service(Service.NOW)
        deadline = b.get("preemption_deadline")
        with b.if_(now.ult(deadline)):
            left.set(deadline - now)
        write_field(b, "PREEMPTION_TIMER_VALUE", left.get())
    secondary = b.get("proc2_controls", 32)
    with b.if_(is_set(secondary, "sec.ENABLE_EPT") & _uses_pae(b)):
        for n in range(4):
            write_field(b, f"GUEST_PDPTE{n}", b.get(f"pdpte{n}"))
    # The CPU advertises IA32_VMX_MISC[5] exactly with unrestricted guest.
    with b.if_(is_set(secondary, "sec.UNRESTRICTED_GUEST")):
        mask = mask_of("entry.IA32E_MODE_GUEST")
        long = ((b.get("efer") & EFER_LMA) != 0).select(b.const(32, mask), b.const(32, 0))
        write_field(b, "VMENTRY_CONTROLS", (read_field(b, "VMENTRY_CONTROLS") & ~mask) | long)
    b.return_()


# --- host ------------------------------------------------------------------------------------

_FLAT_LIMIT = 0xFFFF_FFFF
_DATA_RIGHTS, _CODE_RIGHTS = 0xC093, 0x809B
_D, _L = 1 << 14, 1 << 13


@routine_(results=(1,))
def load_host(b: Builder) -> None:
    """Host state of the current VMCS into the CPU; 0 when its PAE PDPTEs are illegal.

    SDM 3C, Loading Host State. The caller has put the CPU in VMX root operation.
    """
    controls = read_field(b, "VMEXIT_CONTROLS")
    long = is_set(controls, "exit.HOST_ADDRESS_SPACE_SIZE")
    _load_host_control_registers(b, long)
    with b.if_(is_set(controls, "exit.LOAD_PAT")):
        b.put("pat", read_field(b, "HOST_IA32_PAT"))
    with b.if_(is_set(controls, "exit.LOAD_EFER")):
        b.put("efer", read_field(b, "HOST_IA32_EFER"))
    with b.else_():
        _set_long_mode(b, long, b.const(1, 1))
    _load_host_segments(b, long)
    for register in ("gdtr", "idtr"):
        b.put(f"{register}_base", read_field(b, f"HOST_{register.upper()}_BASE"))
        b.put(f"{register}_limit", 0xFFFF)
    b.put("rip", read_field(b, "HOST_RIP"))
    b.put("rsp", read_field(b, "HOST_RSP"))
    write_rflags(b, b.const(64, 2))
    b.put("activity", 0)
    b.put("pending_debug", 0)
    b.put("interruptibility_next", 0)
    b.put("mtf_pending", 0)
    legal = b.var(1, 1)
    with b.if_(_uses_pae(b)):
        legal.set(b.call("load_pdptes", b.get("cr3"))[0])
    b.return_(legal.get())


def _load_host_control_registers(b: Builder, long: Value) -> None:
    """CR0, CR3, CR4, DR7 and the MSRs of SYSENTER and debugging."""
    b.put("cr0", (read_field(b, "HOST_CR0") & _CR0_LOADED) | (b.get("cr0") & _CR0_KEPT))
    # PCIDs keep bit 63 out of the register; bits beyond the physical width are not loaded.
    b.put("cr3", read_field(b, "HOST_CR3") & ((1 << MAXPHYADDR) - 1))
    cr4 = read_field(b, "HOST_CR4")
    b.put("cr4", long.select(cr4 | CR4_PAE, cr4 & ~CR4_PCIDE))
    b.put("dr7", 0x400)
    b.put("debugctl", 0)
    for register in ("CS", "ESP", "EIP"):
        value = read_field(b, f"HOST_IA32_SYSENTER_{register}")
        b.put(f"sysenter_{register.lower()}", value)


def _load_host_segments(b: Builder, long: Value) -> None:
    """SDM 3C, Loading Host Segment and Descriptor-Table Registers."""
    for name in ("es", "cs", "ss", "ds", "fs", "gs"):
        selector = read_field(b, f"HOST_{name.upper()}_SELECTOR")
        b.put(f"{name}_sel", selector)
        b.put(f"{name}_limit", _FLAT_LIMIT)
        if name == "cs":
            kind = long.select(b.const(64, _CODE_RIGHTS | _L), b.const(64, _CODE_RIGHTS | _D))
            b.put("cs_ar", kind)
        else:
            null = selector == 0
            b.put(f"{name}_ar", null.select(b.const(64, UNUSABLE), b.const(64, _DATA_RIGHTS)))
        if name in ("fs", "gs"):
            b.put(f"{name}_base", read_field(b, f"HOST_{name.upper()}_BASE"))
        else:
            b.put(f"{name}_base", 0)
    b.put("tr_sel", read_field(b, "HOST_TR_SELECTOR"))
    b.put("tr_base", read_field(b, "HOST_TR_BASE"))
    b.put("tr_limit", 0x67)
    b.put("tr_ar", 0x8B)
    b.put("ldtr_sel", 0)
    b.put("ldtr_base", 0)
    b.put("ldtr_limit", 0)
    b.put("ldtr_ar", UNUSABLE)
