"""What a CPU asks of its surroundings, answered by a PC: ports, APIC, CPUID, time, chance.

Each function here is one `Service`. It must not know why the CPU asks.
"""

from collections.abc import Mapping

from vtx.isa.layout import SLOTS
from vtx.isa.program import Service
from vtx.machine.cpu import Cpu
from vtx.machine.platform import Platform
from vtx.spec import feature, rdrand_seed, read_cpuid

_STOP, _CR4, _TSC_ADJUST = SLOTS["stop"], SLOTS["cr4"], SLOTS["tsc_adjust"]
_APIC_BASE, _DEADLINE = 0x1B, 0x6E0
_OSXSAVE = 1 << 18
_FEATURES = 1
"""The leaf of CPUID that shows state."""
_MASK64 = (1 << 64) - 1
_STREAMS = 0xD6E8_FEB8_6659_FD93
"""How far apart the random numbers of two CPUs begin: odd, so that no two begin at one place."""

CpuidWords = Mapping[tuple[int, int], tuple[int, int, int, int]]


class PcServices:
    """Binds one CPU to its platform."""

    def __init__(self, cpu: Cpu, platform: Platform, cpuid: CpuidWords, index: int = 0) -> None:
        self._cpu, self._platform, self._cpuid, self._index = cpu, platform, cpuid, index
        self.random_state = (rdrand_seed() + index * _STREAMS) & _MASK64
        cpu.constant_cpuid = self.constant_cpuid
        cpu.services.update(
            {
                Service.PORT_IN: self.port_in,
                Service.PORT_OUT: self.port_out,
                Service.CPUID: self.cpuid,
                Service.RANDOM: self.random,
                Service.APIC_READ: self.apic_read,
                Service.APIC_WRITE: self.apic_write,
                Service.APIC_BASE: self.apic_base,
                Service.TSC_DEADLINE: self.tsc_deadline,
                Service.TSC_DEADLINE_READ: self.tsc_deadline_read,
                Service.TSC_WRITTEN: self.tsc_written,
                Service.TPR_READ: self.tpr_read,
                Service.TPR_WRITE: self.tpr_write,
                Service.VMENTRY: self._nothing,
                Service.VMEXIT: self._nothing,
            }
        )

    def port_in(self, port: int, size: int) -> int:
        """IN: `size` bytes from `port`."""
        value = self._platform.bus.port_in(port, 8 * size)
        self._cpu.breakpoints.port(port, size)
        return value

    def port_out(self, port: int, size: int, value: int) -> None:
        """OUT; a device may ask the machine to stop."""
        self._platform.bus.port_out(port, 8 * size, value)
        self._cpu.breakpoints.port(port, size)
        if self._platform.stop_request is not None:
            self._cpu.words[_STOP] = 1

    def cpuid(self, leaf: int, subleaf: int) -> tuple[int, int, int, int]:
        """CPUID with the bits that follow the machine's state."""
        eax, ebx, ecx, edx = read_cpuid(self._cpuid, leaf, subleaf)
        if not self.constant_cpuid(leaf):
            if not self._platform.lapics[self._index].enabled:
                edx &= ~feature("APIC").mask
            if self._cpu.words[_CR4] & _OSXSAVE:
                ecx |= feature("OSXSAVE").mask
        return eax, ebx, ecx, edx

    @staticmethod
    def constant_cpuid(leaf: int) -> bool:
        """Nothing of the machine's state shows in a leaf, whatever the subleaf."""
        return leaf != _FEATURES

    def random(self) -> int:
        """The next number of the seeded sequence (a 64-bit SplitMix step)."""
        self.random_state = (self.random_state + 0x9E37_79B9_7F4A_7C15) & _MASK64
        z = self.random_state
        z = ((z ^ (z >> 30)) * 0xBF58_476D_1CE4_E5B9) & _MASK64
        z = ((z ^ (z >> 27)) * 0x94D0_49BB_1331_11EB) & _MASK64
        return z ^ (z >> 31)

    def apic_read(self, msr: int) -> tuple[int, int]:
        """RDMSR of a local APIC register: legal, value."""
        value = self._platform.read_msr(msr, self._index)
        return (0, 0) if value is None else (1, value)

    def apic_write(self, msr: int, value: int) -> int:
        return int(self._platform.write_msr(msr, value, self._index))

    def apic_base(self, value: int) -> int:
        """WRMSR of IA32_APIC_BASE; the register page moves, so translations are dropped."""
        legal = self._platform.write_msr(_APIC_BASE, value, self._index)
        self._cpu.tlb.flush()
        return int(legal)

    def tsc_deadline(self, value: int) -> None:
        self._platform.write_msr(_DEADLINE, value, self._index)

    def tsc_deadline_read(self) -> int:
        return self._platform.read_msr(_DEADLINE, self._index) or 0

    def tsc_written(self) -> None:
        """The TSC moved against virtual time: deadlines follow it."""
        self._platform.lapics[self._index].set_tsc_offset(self._cpu.words[_TSC_ADJUST])

    def tpr_read(self) -> int:
        return self._platform.lapics[self._index].cr8

    def tpr_write(self, value: int) -> None:
        self._platform.lapics[self._index].cr8 = value

    def _nothing(self) -> None:
        """Nothing outside the CPU core follows VM transitions on a plain PC."""
