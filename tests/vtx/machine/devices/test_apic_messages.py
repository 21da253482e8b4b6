"""Messages on the APIC bus reach exactly the local APICs they are meant for."""

import pytest

from vtx.machine.devices import lapic_registers as reg
from vtx.machine.devices.apic_messages import ApicBus, DeliveryMode, InterruptMessage
from vtx.machine.devices.timebase import ManualClock


@pytest.fixture
def cpus(make_cpu):
    """Two CPUs on one APIC bus."""
    bus, clock = ApicBus(), ManualClock()
    return make_cpu(bus, 0, clock), make_cpu(bus, 1, clock)


@pytest.mark.parametrize(
    ("icr", "destination", "targets"),
    [
        (0x00000, 1, {1}),
        (0x00000, 0, {0}),
        (0x00000, 7, set()),
        (0x00000, 0xFF, {0, 1}),
        (0x40000, 1, {0}),
        (0x80000, 0, {0, 1}),
        (0xC0000, 0, {1}),
        (0x00800, 0b10, {1}),
        (0x00800, 0b11, {0, 1}),
        (0x00100 | 0x800, 0b11, {0}),
    ],
)
def test_ipis_reach_exactly_their_destination(cpus, icr, destination, targets):
    for number, cpu in enumerate(cpus):
        cpu[reg.LDR] = 1 << (24 + number)
    cpus[0][reg.ICR_HIGH] = destination << 24
    cpus[0][reg.ICR_LOW] = icr | 0x55

    reached = {i for i, cpu in enumerate(cpus) if cpu.apic.pending_vector() == 0x55}
    assert reached == targets


def test_lowest_priority_prefers_the_lower_task_priority(cpus):
    cpus[0][reg.TPR] = 0x20
    cpus[0].bus.send(InterruptMessage(0x55, DeliveryMode.LOWEST_PRIORITY))
    assert cpus[1].apic.pending_vector() == 0x55
    assert cpus[0].apic.pending_vector() is None


def test_the_cluster_model_matches_cluster_and_member(cpus):
    for number, cpu in enumerate(cpus):
        cpu[reg.DFR] = 0
        cpu[reg.LDR] = (0x10 | 1 << number) << 24
    for destination, reached in ((0x12, {1}), (0x21, set()), (0xF3, {0, 1})):
        message = InterruptMessage(0x55, DeliveryMode.FIXED, destination, logical=True)
        assert {i for i, cpu in enumerate(cpus) if cpu.apic.is_destination(message)} == reached


def test_init_and_startup_are_told_to_the_cpu(cpus):
    seen = []
    cpus[1].apic.on_init = lambda: seen.append("init")
    cpus[1].apic.on_startup = lambda vector: seen.append(vector)
    for icr in (0xC500, 0x8500, 0x4608):
        cpus[0][reg.ICR_HIGH] = 1 << 24
        cpus[0][reg.ICR_LOW] = icr
    assert seen == ["init", 0x08]


def test_init_resets_an_apic_but_for_its_identity(cpus):
    cpu = cpus[1]
    cpu[reg.ID] = 5 << 24
    cpu[reg.LDR] = 1 << 24
    cpu[reg.TPR] = 0x40
    cpu[reg.LVT_TIMER] = 0x20
    cpu[reg.INITIAL_COUNT] = 1000
    cpu.bus.send(InterruptMessage(0x55, DeliveryMode.FIXED))
    cpu.apic.initialize()

    assert cpu[reg.ID] == 5 << 24
    assert (cpu[reg.LDR], cpu[reg.TPR], cpu[reg.IRR + 2]) == (0, 0, 0)
    assert cpu[reg.LVT_TIMER] == reg.LVT_MASKED
    assert (cpu[reg.SVR], cpu[reg.INITIAL_COUNT]) == (0xFF, 0)
    assert cpu.apic.enabled and cpu.apic.next_event() is None


def test_init_leaves_an_apic_in_x2apic_mode_with_its_logical_id(cpus):
    apic = cpus[1].apic
    assert apic.write_msr(reg.IA32_APIC_BASE, 0xFEE00C00)
    ldr = apic.read_msr(reg.X2APIC_FIRST_MSR + reg.LDR)
    apic.initialize()

    assert apic.x2apic
    assert apic.read_msr(reg.X2APIC_FIRST_MSR + reg.LDR) == ldr == 2
    assert apic.read_msr(reg.X2APIC_FIRST_MSR + reg.ID) == 1
