"""IA32_APIC_BASE: whether and how a local APIC can be reached.

Three modes: disabled, xAPIC (registers in memory) and x2APIC (registers as MSRs). It must not
know the registers themselves. Source: SDM 3A, Local APIC Status and Location; SDM 3A, x2APIC
State Transitions.
"""

from __future__ import annotations

from vtx.machine.devices.lapic_registers import BASE_BSP, BASE_ENABLE, BASE_X2APIC
from vtx.machine.memory_map import LAPIC_BASE, PAGE_SIZE


class ApicBase:
    """The MSR's value, as after reset, on a CPU with `physical_bits` of physical address."""

    def __init__(self, *, bootstrap: bool, physical_bits: int) -> None:
        self.value = LAPIC_BASE | BASE_ENABLE | (BASE_BSP if bootstrap else 0)
        self.physical_bits = physical_bits

    @property
    def enabled(self) -> bool:
        return bool(self.value & BASE_ENABLE)

    @property
    def x2apic(self) -> bool:
        return bool(self.value & BASE_X2APIC)

    @property
    def mmio_gpa(self) -> int | None:
        """Where the registers are in memory space; None unless in xAPIC mode."""
        return self.value & ~(PAGE_SIZE - 1) if self.enabled and not self.x2apic else None

    def is_legal(self, value: int) -> bool:
        """Whether WRMSR of `value` is allowed: no reserved bit, and a transition that exists.
        x2APIC is entered only from xAPIC and left only to disabled."""
        legal = (1 << self.physical_bits) - PAGE_SIZE | BASE_BSP | BASE_X2APIC | BASE_ENABLE
        enable, extended = value & BASE_ENABLE, value & BASE_X2APIC
        if value & ~legal or (extended and not enable):
            return False
        if self.x2apic and enable and not extended:
            return False
        return self.enabled or not extended

    def write(self, value: int) -> None:
        """Take over a legal value. The bootstrap flag stays as the hardware set it."""
        self.value = value & ~BASE_BSP | self.value & BASE_BSP
