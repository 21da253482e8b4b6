"""A physical computer: RAM, a PC platform and one CPU, wired together and reset.

It holds no executor: whoever runs it brings one. A virtual machine is not a Computer; it has
its own platform and borrows this one's CPU (see vtx.vmm).
"""

from collections.abc import Callable

from vtx.isa.layout import SEGMENT_NAMES
from vtx.isa.msrs import slot_of
from vtx.machine.built import cr4_allowed
from vtx.machine.bus import FrameMap
from vtx.machine.code_watch import CodeWatch
from vtx.machine.cpu import Cpu
from vtx.machine.cpu_model import CpuModel
from vtx.machine.loader import BootState
from vtx.machine.memory import PhysicalMemory
from vtx.machine.platform import Platform
from vtx.machine.services import PcServices
from vtx.spec import cpuid_words, msrs, profiles

DR6_RESET, DR7_RESET = 0xFFFF_0FF0, 0x400
NO_POINTER = (1 << 64) - 1
"""What the VMXON and current-VMCS pointers hold while there is none."""

Sink = Callable[[bytes], None]


class CpuClock:
    """Virtual time as the CPU counts it."""

    def __init__(self) -> None:
        self.cpu: Cpu | None = None

    def now(self) -> int:
        return 0 if self.cpu is None else self.cpu.now()


def discard(data: bytes) -> None:
    """A console nobody reads."""


class Computer:
    """One PC with one CPU of the model `cpu`. `ram_size` counts from address 0."""

    def __init__(
        self,
        *,
        cpu: CpuModel,
        ram_size: int,
        memory: PhysicalMemory | None = None,
        frames: FrameMap | None = None,
        vmx: bool = False,
        serial: Sink = discard,
        debug: Sink = discard,
        code: CodeWatch | None = None,
    ) -> None:
        self.clock = CpuClock()
        self.model = cpu
        self.features = cpu.shown(vmx=vmx)
        self.memory = memory or PhysicalMemory(ram_size)
        self.platform = Platform(
            self.clock, self.memory, ram_size=ram_size, frames=frames, serial=serial, debug=debug
        )
        self.cpu = Cpu(self.platform.bus, code)
        self.clock.cpu = self.cpu
        words = cpuid_words(self.features, cpu.silicon)
        self.services = PcServices(self.cpu, self.platform, words)
        reset_cpu(self.cpu, self.features, cpu.silicon.name)


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
        state.write_segment(name, 0, 0, 0xFFFF, 0x93)


def apply_boot_state(cpu: Cpu, boot: BootState) -> None:
    """Put a CPU where an image expects to be started."""
    state = cpu.state
    for register, value in boot.registers.items():
        state.write(register, value)
    state.write("rip", boot.entry)
    state.rflags = boot.rflags
    for name in ("cr0", "cr3", "cr4", "efer"):
        state.write(name, getattr(boot, name))
    for name, table in (("gdtr", boot.gdt), ("idtr", boot.idt)):
        state.write(f"{name}_base", table.base)
        state.write(f"{name}_limit", table.limit)
    for name, segment in boot.segments.items():
        state.write_segment(
            name, segment.selector, segment.base, segment.limit, segment.access_rights
        )
    cpu.switch_context()
