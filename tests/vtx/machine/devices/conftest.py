"""A local APIC with a clock, for the tests of its parts."""

import pytest

from vtx.machine.devices import lapic_registers as reg
from vtx.machine.devices.apic_messages import ApicBus
from vtx.machine.devices.lapic import LocalApic
from vtx.machine.devices.timebase import ManualClock


class Cpu:
    def __init__(self, bus=None, apic_id=0, clock=None):
        self.clock = clock or ManualClock(1000)
        self.bus = bus or ApicBus()
        self.apic = LocalApic(self.clock, self.bus, apic_id=apic_id)
        self.nmis = 0
        self.apic.on_nmi = self.count_nmi
        self[reg.SVR] = 0x1FF

    def count_nmi(self):
        self.nmis += 1

    def __getitem__(self, index):
        return self.apic.load(index << 4, 32) & 0xFFFFFFFF

    def __setitem__(self, index, value):
        self.apic.store(index << 4, 32, value)

    def self_ipi(self, vector):
        self[reg.ICR_LOW] = 0x40000 | vector

    def mode(self, bits):
        return self.apic.write_msr(0x1B, 0xFEE00000 | 0x100 | bits)

    def expiry_times(self, until):
        """When the timer interrupted, up to `until`, taking each at once."""
        times = []
        while (due := self.apic.next_event()) is not None and due <= until:
            self.clock.time = due
            self.apic.advance(due)
            times.append(due)
            self.apic.acknowledge()
            self.apic.eoi()
        return times


@pytest.fixture
def make_cpu():
    return Cpu


@pytest.fixture
def cpu():
    return Cpu()
