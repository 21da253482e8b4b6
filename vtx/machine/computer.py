"""A physical computer: RAM, a PC platform and its CPUs, wired together and reset.

It holds no executor: whoever runs it brings one for each CPU. At any time one CPU runs, and it is
the clock. A virtual machine is not a Computer; it has its own platform and borrows this one's CPU
(see vtx.vmm).
"""

from collections.abc import Callable

from vtx.isa.layout import SLOTS
from vtx.machine.bus import FrameMap
from vtx.machine.code_watch import CodeWatch
from vtx.machine.cpu import Cpu
from vtx.machine.cpu_model import CpuModel
from vtx.machine.loader import BootState
from vtx.machine.memory import PhysicalMemory
from vtx.machine.platform import Platform
from vtx.machine.reset import init_cpu, reset_cpu
from vtx.machine.services import PcServices
from vtx.spec import cpuid_words

MOST_CPUS = 255
"""An 8-bit APIC ID tells so many apart: 255 means all of them."""
_IDLE = SLOTS["idle"]

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
    """One PC with CPUs of the model `cpu`. `ram_size` counts from address 0.

    `cpu` is the first of `cpus`, the bootstrap processor; the others wait for start-up IPIs.
    """

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
        cpu_count: int = 1,
    ) -> None:
        self.clock = CpuClock()
        self.model = cpu
        self.features = cpu.shown(vmx=vmx, cpus=cpu_count)
        self.memory = memory or PhysicalMemory(ram_size)
        self.platform = Platform(
            self.clock, self.memory, ram_size=ram_size, frames=frames, cpu_count=cpu_count,
            serial=serial, debug=debug,
        )  # fmt: skip
        code = code or CodeWatch()
        self.cpus = [Cpu(self.platform.bus, code) for _ in range(cpu_count)]
        self.cpu = self.clock.cpu = self.cpus[0]
        self.services = self._wire(0)
        for index in range(1, cpu_count):
            self._wire(index)
        for index, one in enumerate(self.cpus):
            reset_cpu(one, self.features, cpu.silicon.name)
            if index:
                init_cpu(one)
                one.state.write("apic_base", self.platform.lapics[index].base.value)

    def _wire(self, index: int) -> PcServices:
        """Connect a CPU to its local APIC and to what it asks of the platform."""
        cpu, lapic = self.cpus[index], self.platform.lapics[index]
        lapic.on_init, lapic.on_startup = cpu.signals.raise_init, cpu.signals.raise_startup
        cpu.signals.on_init = lapic.initialize
        cpu.signals.on_restart = self.platform.restart
        words = cpuid_words(self.features, self.model.silicon, cpus=len(self.cpus), apic_id=index)
        return PcServices(cpu, self.platform, words, index)

    def run_as(self, index: int) -> None:
        """CPU number `index` runs from now on; time goes on where it is."""
        now, cpu = self.clock.now(), self.cpus[index]
        cpu.words[_IDLE] += now - cpu.now()
        self.clock.cpu = cpu
        self.platform.run_as(index)


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
