"""The flat layout of a CPU's architectural state: one 64-bit slot per item, by name.

Every executor shares this layout (a register file of 64-bit little-endian words over one
buffer), so switching executor, snapshotting and comparing are copies. The module only names
slots; it must not know how they are stored or what instructions do with them.

The six arithmetic flags have a slot each (0 or 1), because instructions write them one by one;
`rflags` holds the others at their architectural places (SDM 1, EFLAGS Register). A segment
register is four slots: selector, base, limit (in bytes) and access rights in the VMCS format
(SDM 3C, Guest Register State), whose bit 16 marks it unusable.
"""

from collections.abc import Iterator

GPR_NAMES = (
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
)  # fmt: skip
SEGMENT_NAMES = ("es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr")
ARITHMETIC_FLAGS = {"cf": 0, "pf": 2, "af": 4, "zf": 6, "sf": 7, "of": 11}
"""Arithmetic flag -> its bit in RFLAGS."""

MSR_SLOTS = (
    "efer", "star", "lstar", "cstar", "fmask", "kernel_gs_base",
    "sysenter_cs", "sysenter_esp", "sysenter_eip",
    "pat", "tsc_aux", "tsc_adjust", "debugctl", "misc_enable",
    "apic_base", "feature_control", "bios_sign_id",
    "mtrr_def_type",
    *(f"mtrr_phys{kind}{n}" for n in range(10) for kind in ("base", "mask")),
    "mtrr_fix64k_00000", "mtrr_fix16k_80000", "mtrr_fix16k_a0000",
    *(f"mtrr_fix4k_{base:05x}" for base in range(0xC0000, 0x100000, 0x8000)),
)  # fmt: skip


def _names() -> Iterator[str]:
    yield from GPR_NAMES
    yield "rip"
    yield from ARITHMETIC_FLAGS
    yield "rflags"  # every other flag, bit 1 always set
    for segment in SEGMENT_NAMES:
        for part in ("sel", "base", "limit", "ar"):
            yield f"{segment}_{part}"
    yield from ("gdtr_base", "gdtr_limit", "idtr_base", "idtr_limit")
    yield from ("cr0", "cr2", "cr3", "cr4", "xcr0")
    yield "cr4_allowed"  # the CR4 bits this CPU has, set at reset
    yield from ("dr0", "dr1", "dr2", "dr3", "dr6", "dr7")
    yield from ("pdpte0", "pdpte1", "pdpte2", "pdpte3")  # loaded with CR3 in PAE paging
    yield from MSR_SLOTS
    # What holds events back, and what waits (SDM 3C, Guest Non-Register State).
    yield "interruptibility"  # bit 0 STI, 1 MOV SS, 3 NMI: as in the VMCS field
    yield "interruptibility_next"  # what the instruction being executed asks for
    yield "activity"  # 0 active, 1 HLT, 2 shutdown, 3 wait-for-SIPI
    yield "pending_debug"  # as GUEST_PENDING_DBG_EXCEPTIONS
    yield "resume_flag"  # RFLAGS.RF as it was before the instruction that is being executed
    yield "nmi_unblocked"  # the IRET being executed ended blocking by NMI, should it fault
    yield "mcg_status"
    # Time: virtual now = retired + idle.
    yield from ("retired", "idle")
    # An event on its way: raised by a FAULT end, or being delivered (IDT vectoring).
    yield from ("fault_vector", "fault_error", "fault_has_error", "fault_cr2", "fault_debug")
    yield from ("event_valid", "event_vector", "event_type", "event_error")
    yield from ("event_has_error", "event_length", "event_debug")
    # A VM exit on its way: an EXIT end fills these, the exit routine stores them in the VMCS.
    yield from ("exit_reason", "exit_qualification", "exit_length", "exit_info")
    yield from ("exit_gla", "exit_gpa", "exit_intr_info", "exit_intr_error")
    yield "exit_intr_error_valid"
    # VMX operation. Controls are copied from the VMCS by VM entry.
    yield "cpu_profile"  # position in spec.profiles(): which VMX capabilities the CPU has
    yield "vmx"  # 0 not in VMX operation, 1 root, 2 non-root
    yield from ("vmxon_pointer", "vmcs_pointer")
    yield from ("pin_controls", "proc_controls", "proc2_controls", "exit_controls")
    yield from ("entry_controls", "exception_bitmap", "pf_mask", "pf_match")
    yield from ("cr0_mask", "cr4_mask", "cr0_shadow", "cr4_shadow")
    yield from ("cr3_target_count", "cr3_target0", "cr3_target1", "cr3_target2", "cr3_target3")
    yield from ("io_bitmap_a", "io_bitmap_b", "msr_bitmap", "tsc_offset", "eptp", "vpid")
    yield from ("virtual_apic", "tpr_threshold")
    yield from ("tsc_multiplier", "ple_gap", "ple_window")
    yield "ple_first"  # virtual time of the first PAUSE of the present loop
    yield "ple_last"  # virtual time of the last PAUSE + 1; 0 when there was none since VM entry
    yield "preemption_deadline"  # virtual time at which the VMX-preemption timer reaches zero
    yield "mtf_pending"
    yield "tpr_below_threshold"  # a write to the virtual TPR asks for a VM exit behind it
    # Loop and host service requests.
    yield "stop"  # non-zero: a device asked the machine to stop


SLOT_NAMES: tuple[str, ...] = tuple(_names())
SLOTS: dict[str, int] = {name: index for index, name in enumerate(SLOT_NAMES)}
"""Slot name -> index of its 64-bit word."""
SLOT_COUNT = len(SLOT_NAMES)
assert len(SLOTS) == SLOT_COUNT, "a slot name is used twice"

GPR_WIDTH = 64
FLAG_SLOTS = frozenset(SLOTS[name] for name in ARITHMETIC_FLAGS)
