"""What a CPU is after power-up, after INIT, and when a start-up IPI starts it.

Which of these happens, and when, is not known here.
Sources: SDM 3A, Processor State After Reset (table of states following power-up, reset or INIT);
SDM 3A, Local APIC State After It Receives an INIT-Deassert Message and its siblings; SDM 3A,
Multiple-Processor (MP) Initialization.
"""

from vtx.isa.layout import GPR_NAMES, SEGMENT_NAMES
from vtx.isa.msrs import slot_of
from vtx.machine.built import cr4_allowed
from vtx.machine.cpu import Cpu
from vtx.spec import msrs, profiles
from vtx.spec.registers import CR0

DR6_RESET, DR7_RESET = 0xFFFF_0FF0, 0x400
NO_POINTER = (1 << 64) - 1
"""What the VMXON and current-VMCS pointers hold while there is none."""
ACTIVE, WAIT_FOR_SIPI = 0, 3
REAL_LIMIT, REAL_RIGHTS = 0xFFFF, 0x93
"""Limit and access rights of every segment register: present, accessed, readable or writable."""
_LDT_RIGHTS, _TSS_RIGHTS = 0x82, 0x8B
RESET_CS, RESET_CS_BASE, RESET_IP = 0xF000, 0xFFFF_0000, 0xFFF0
_CR0_KEPT = CR0.CD | CR0.NW


def reset_cpu(cpu: Cpu, features: frozenset[str], profile: str) -> None:
    """State after reset, with what firmware would have set up in the MSRs."""
    state = cpu.state
    for row in msrs():
        slot = slot_of(row)
        if slot is not None:
            state.write(slot, row.reset)
    state.write("dr6", DR6_RESET)
    state.write("dr7", DR7_RESET)
    number = next(n for n, row in enumerate(profiles()) if row.name == profile)
    state.write("cpu_profile", number)
    state.write("cr4_allowed", cr4_allowed(features))
    state.write("vmxon_pointer", NO_POINTER)
    state.write("vmcs_pointer", NO_POINTER)
    for name in SEGMENT_NAMES:
        state.write_segment(name, 0, 0, REAL_LIMIT, REAL_RIGHTS)


def init_cpu(cpu: Cpu) -> None:
    """State after INIT, waiting for a start-up IPI.

    MSRs but IA32_EFER, the caches' mode in CR0, the TSC and XCR0 are as they were. The CPU is
    outside VMX operation: in root operation INIT is blocked, in non-root it causes a VM exit.
    """
    state = cpu.state
    for name in GPR_NAMES:
        state.write(name, 0)
    state.write("rdx", profiles()[state.read("cpu_profile")].signature)
    state.write("rip", RESET_IP)
    state.rflags = 2
    state.write("cr0", state.read("cr0") & _CR0_KEPT | CR0.ET)
    for name in ("cr2", "cr3", "cr4", "efer", "dr0", "dr1", "dr2", "dr3"):
        state.write(name, 0)
    state.write("dr6", DR6_RESET)
    state.write("dr7", DR7_RESET)
    for name in ("es", "ss", "ds", "fs", "gs"):
        state.write_segment(name, 0, 0, REAL_LIMIT, REAL_RIGHTS)
    state.write_segment("cs", RESET_CS, RESET_CS_BASE, REAL_LIMIT, REAL_RIGHTS)
    state.write_segment("ldtr", 0, 0, REAL_LIMIT, _LDT_RIGHTS)
    state.write_segment("tr", 0, 0, REAL_LIMIT, _TSS_RIGHTS)
    for table in ("gdtr", "idtr"):
        state.write(f"{table}_base", 0)
        state.write(f"{table}_limit", REAL_LIMIT)
    for name in ("interruptibility", "interruptibility_next", "pending_debug", "resume_flag",
                 "nmi_unblocked", "event_valid"):  # fmt: skip
        state.write(name, 0)
    state.write("activity", WAIT_FOR_SIPI)
    cpu.tlb.flush()
    cpu.switch_context()


def start_cpu(cpu: Cpu, vector: int) -> None:
    """A start-up IPI starts a CPU that waits for one, in real mode at `vector` * 4 KiB."""
    state = cpu.state
    state.write_segment("cs", vector << 8, vector << 12, REAL_LIMIT, REAL_RIGHTS)
    state.write("rip", 0)
    state.write("activity", ACTIVE)
