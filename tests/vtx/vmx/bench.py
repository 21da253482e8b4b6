"""A bare CPU with a 64-bit host and a small guest, for the tests of this directory.

Memory: 1 MiB of RAM. Host page tables map the first 2 MiB one to one; the guest has tables and
memory of its own, and an identity EPT where a test asks for it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from vtx.engine.choice import make_engine
from vtx.engine.run import Ended, Runner
from vtx.isa.layout import SLOTS
from vtx.machine.built import cr4_allowed, features_of
from vtx.machine.bus import Bus
from vtx.machine.cpu import Cpu
from vtx.machine.memory import PhysicalMemory
from vtx.spec import MSRS, control, profiles
from vtx.spec import field as vmcs_field
from vtx.vmx.capability import REVISION, capability_msrs, profile_number

HOST_CODE, HOST_TABLES = 0x1000, 0x2000
VMXON_REGION, VMCS = 0x6000, 0x7000
GUEST_CODE, GUEST_TABLES, GUEST_STACK = 0x10000, 0x20000, 0x18000
GUEST_IDT, GUEST_GDT, GUEST_HANDLER = 0x11000, 0x12000, 0x13000
EPT_TABLES = 0x30000
CPUID = b"\x0f\xa2"
UD2 = b"\x0f\x0b"
NOP = b"\x90"

CR0, CR4, EFER = 0x8001_0031, 0x2020, 0x500


def true_default(word: str) -> int:
    """The control word with nothing but its fixed bits set."""
    msr = {
        "pin": MSRS.IA32_VMX_TRUE_PINBASED_CTLS,
        "proc": MSRS.IA32_VMX_TRUE_PROCBASED_CTLS,
        "exit": MSRS.IA32_VMX_TRUE_EXIT_CTLS,
        "entry": MSRS.IA32_VMX_TRUE_ENTRY_CTLS,
        "sec": MSRS.IA32_VMX_PROCBASED_CTLS2,
    }[word]
    return capability_msrs(profiles()[0])[msr] & 0xFFFF_FFFF


def controls(word: str, *names: str) -> int:
    """A legal control word with the named controls (without the word) set."""
    value = true_default(word)
    for name in names:
        value |= control(f"{word}.{name}").mask
    return value


SECONDARY = "ACTIVATE_SECONDARY_CONTROLS"


def legal_fields() -> dict[str, int]:
    """Fields of a VMCS with which VM entry succeeds: a 64-bit guest, a 64-bit host."""
    values = {
        "PINBASED_CONTROLS": controls("pin"),
        "PROCBASED_CONTROLS": controls("proc"),
        "SECONDARY_PROCBASED_CONTROLS": 0,
        "VMEXIT_CONTROLS": controls("exit", "HOST_ADDRESS_SPACE_SIZE"),
        "VMENTRY_CONTROLS": controls("entry", "IA32E_MODE_GUEST"),
        "VMCS_LINK_POINTER": (1 << 64) - 1,
        "HOST_CR0": CR0, "HOST_CR3": HOST_TABLES, "HOST_CR4": CR4,
        "HOST_CS_SELECTOR": 8, "HOST_SS_SELECTOR": 0x10, "HOST_TR_SELECTOR": 0x18,
        "HOST_RIP": HOST_CODE, "HOST_RSP": 0x5000, "HOST_IA32_EFER": EFER,
        "HOST_FS_BASE": 0x1234, "HOST_GDTR_BASE": 0x4000, "HOST_IDTR_BASE": 0x4800,
        "GUEST_CR0": CR0, "GUEST_CR3": GUEST_TABLES, "GUEST_CR4": CR4,
        "GUEST_DR7": 0x400, "GUEST_RIP": GUEST_CODE, "GUEST_RSP": GUEST_STACK,
        "GUEST_RFLAGS": 2, "GUEST_IA32_EFER": EFER,
        "GUEST_GDTR_BASE": GUEST_GDT, "GUEST_GDTR_LIMIT": 0xFF,
        "GUEST_IDTR_BASE": GUEST_IDT, "GUEST_IDTR_LIMIT": 0xFFF,
        "GUEST_TR_SELECTOR": 0x18, "GUEST_TR_LIMIT": 0x67, "GUEST_TR_ACCESS_RIGHTS": 0x8B,
        "GUEST_LDTR_ACCESS_RIGHTS": 0x10000,
    }  # fmt: skip
    for name in ("CS", "SS", "DS", "ES", "FS", "GS"):
        values[f"GUEST_{name}_SELECTOR"] = 8 if name == "CS" else 0x10
        values[f"GUEST_{name}_LIMIT"] = 0xFFFF_FFFF
        values[f"GUEST_{name}_ACCESS_RIGHTS"] = 0xA09B if name == "CS" else 0xC093
    return values


def long_mode_tables(base: int) -> Iterator[tuple[int, int]]:
    """(address, entry) of 4-level tables at `base` that map 512 pages one to one."""
    for level in range(3):
        yield base + 0x1000 * level, (base + 0x1000 * (level + 1)) | 3
    for page in range(512):
        yield base + 0x3000 + 8 * page, page << 12 | 3


def ept_tables(base: int) -> Iterator[tuple[int, int]]:
    """(address, entry) of 4-level EPT tables at `base` that map 512 pages one to one, WB, RWX."""
    for level in range(3):
        yield base + 0x1000 * level, (base + 0x1000 * (level + 1)) | 7
    for page in range(512):
        yield base + 0x3000 + 8 * page, page << 12 | 6 << 3 | 7


@dataclass
class Bench:
    """A CPU in VMX root operation with a current, clear VMCS."""

    engine_name: str
    profile: str = "haswell"
    guest: bytes = CPUID + UD2
    fields: dict[str, int] = field(default_factory=dict)
    start: bool = True
    """Enter VMX operation; otherwise the test does, with instructions."""

    def __post_init__(self) -> None:
        self.cpu = Cpu(Bus(PhysicalMemory(1 << 20)))
        self.state = self.cpu.state
        self._boot_host()
        self.engine = make_engine(self.engine_name, self.cpu, features_of(self.profile))
        self.runner = Runner(self.engine, python_root=True)
        for place, entry in (*long_mode_tables(HOST_TABLES), *long_mode_tables(GUEST_TABLES)):
            self.cpu.bus.store(place, 64, entry)
        self.cpu.bus.write_bytes(GUEST_CODE, self.guest)
        self.cpu.bus.store(VMXON_REGION, 32, REVISION)
        self.cpu.bus.store(VMCS, 32, REVISION)
        if not self.start:
            return
        assert self.call("vmx_vmxon", VMXON_REGION) == (0,)
        assert self.call("vmx_vmclear", VMCS) == (0,)
        assert self.call("vmx_vmptrld", VMCS) == (0,)
        for name, value in {**legal_fields(), **self.fields}.items():
            self.vmwrite(name, value)

    def _boot_host(self) -> None:
        state = self.state
        state.write("cpu_profile", profile_number(self.profile))
        state.write("feature_control", 5)
        state.write("cr4_allowed", cr4_allowed(features_of(self.profile)))
        state.write("vmcs_pointer", (1 << 64) - 1)
        for name, value in (("cr0", CR0), ("cr4", CR4), ("cr3", HOST_TABLES), ("efer", EFER)):
            state.write(name, value)
        state.write_segment("cs", 8, 0, 0xFFFF_FFFF, 0xA09B)
        state.write_segment("ss", 0x10, 0, 0xFFFF_FFFF, 0xC093)
        state.write("rip", HOST_CODE)
        self.cpu.switch_context()

    def call(self, name: str, *args: int) -> tuple[int, ...] | None:
        return self.engine.call(name, *args)

    def vmwrite(self, name: str, value: int) -> None:
        assert self.call("vmx_vmwrite", vmcs_field(name).encoding, value) == (0,), name

    def vmread(self, name: str) -> int:
        result = self.call("vmx_vmread", vmcs_field(name).encoding)
        assert result is not None and result[1] == 0, name
        return result[0]

    def enter(self, launch: int = 1) -> int:
        """VM entry alone: the status."""
        result = self.call("vmx_enter", launch)
        assert result is not None
        self.engine.settle(0)
        return result[0]

    def run(self, launch: int = 1, limit: int = 10_000) -> int:
        """Enter the guest and run it to its next VM exit: EXIT_REASON."""
        assert self.enter(launch) == 0, f"VM-instruction error {self.error}"
        ended = self.runner.run(limit)
        assert ended is Ended.VM_EXIT, ended
        return self.vmread("EXIT_REASON")

    def host(self, code: bytes, count: int) -> None:
        """Run `count` instructions of host code at HOST_CODE."""
        self.cpu.bus.write_bytes(HOST_CODE, code)
        self.engine.forget_blocks()
        self.state.write("rip", HOST_CODE)
        self.engine.settle(0)
        before = self.word("retired")
        runner = Runner(self.engine)
        runner.run(self.cpu.now() + count)
        assert self.word("retired") == before + count

    def use_idt(self, vector: int, handler: bytes) -> None:
        """Give the guest a GDT with a 64-bit code segment, and a gate with a handler."""
        store = self.cpu.bus.store
        store(GUEST_GDT + 8, 64, 0x00AF_9B00_0000_FFFF)
        store(GUEST_GDT + 16, 64, 0x00CF_9300_0000_FFFF)
        low = (GUEST_HANDLER & 0xFFFF) | 8 << 16 | 0x8E00 << 32 | (GUEST_HANDLER >> 16) << 48
        store(GUEST_IDT + 16 * vector, 64, low)
        store(GUEST_IDT + 16 * vector + 8, 64, 0)
        self.cpu.bus.write_bytes(GUEST_HANDLER, handler)

    @property
    def error(self) -> int:
        return self.vmread("VM_INSTRUCTION_ERROR")

    def word(self, slot: str) -> int:
        return self.cpu.words[SLOTS[slot]]

    def use_ept(self, *more: str, eptp_flags: int = 0) -> None:
        """Turn on EPT over an identity map, and other secondary controls."""
        for place, entry in ept_tables(EPT_TABLES):
            self.cpu.bus.store(place, 64, entry)
        self.vmwrite("PROCBASED_CONTROLS", controls("proc", SECONDARY))
        self.vmwrite("SECONDARY_PROCBASED_CONTROLS", controls("sec", "ENABLE_EPT", *more))
        self.vmwrite("EPT_POINTER", EPT_TABLES | 3 << 3 | 6 | eptp_flags)
