"""The local APIC: modes, priorities, local interrupts, IPIs, refused accesses."""

import pytest

from vtx.machine.devices import lapic_registers as reg
from vtx.machine.devices.apic_messages import (
    ApicBus,
    DeliveryMode,
    InterruptMessage,
)
from vtx.machine.devices.lapic import LocalApic
from vtx.machine.devices.timebase import ManualClock

BASE_MSR = 0x1B
XAPIC, X2APIC, DISABLED = 0x800, 0xC00, 0


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
        return self.apic.write_msr(BASE_MSR, 0xFEE00000 | 0x100 | bits)

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
def cpu():
    return Cpu()


def test_reset_values():
    apic = LocalApic(ManualClock(), ApicBus())
    read = lambda index: apic.load(index << 4, 32)  # noqa: E731

    assert apic.read_msr(BASE_MSR) == 0xFEE00900
    assert read(reg.VERSION) == 0x50014
    assert read(reg.SVR) == 0xFF
    assert read(reg.DFR) == 0xFFFFFFFF
    for lvt in range(0x32, 0x38):
        assert read(lvt) == 0x10000


def test_only_the_first_apic_is_the_bootstrap_processors():
    assert LocalApic(ManualClock(), ApicBus(), apic_id=1).read_msr(BASE_MSR) == 0xFEE00800


def test_a_vector_interrupts_above_the_processor_priority_only(cpu):
    cpu.self_ipi(0x45)
    cpu[reg.TPR] = 0x40
    assert cpu.apic.pending_vector() is None
    cpu[reg.TPR] = 0x3F
    assert cpu.apic.pending_vector() == 0x45
    assert cpu.apic.acknowledge() == 0x45
    assert cpu[reg.PPR] == 0x40
    cpu.self_ipi(0x4F)
    assert cpu.apic.pending_vector() is None  # same class as the one in service
    cpu.self_ipi(0x51)
    assert cpu.apic.pending_vector() == 0x51


def test_eoi_ends_the_highest_in_service(cpu):
    for vector in (0x31, 0x62):
        cpu.self_ipi(vector)
        cpu.apic.acknowledge()
    assert cpu[reg.ISR + 1] == 1 << 17
    assert cpu[reg.ISR + 3] == 1 << 2
    cpu[reg.EOI] = 0
    assert cpu[reg.ISR + 3] == 0
    assert cpu[reg.PPR] == 0x30
    cpu[reg.EOI] = 0
    assert cpu[reg.PPR] == 0


def test_task_priority_shows_whole_in_ppr_unless_service_is_higher(cpu):
    cpu[reg.TPR] = 0x35
    assert cpu[reg.PPR] == 0x35
    cpu.self_ipi(0x77)
    cpu.apic.acknowledge()
    assert cpu[reg.PPR] == 0x70


def test_cr8_is_the_class_of_tpr(cpu):
    cpu.apic.cr8 = 9
    assert cpu[reg.TPR] == 0x90
    cpu[reg.TPR] = 0x4F
    assert cpu.apic.cr8 == 4


def test_level_triggered_interrupts_broadcast_their_eoi(cpu):
    ended = []
    cpu.bus.on_eoi = ended.append
    cpu.bus.send(InterruptMessage(0x50, DeliveryMode.FIXED, 0, level_triggered=True))
    assert cpu[reg.TMR + 2] == 1 << 16
    cpu.apic.acknowledge()
    cpu[reg.EOI] = 0
    cpu.self_ipi(0x50)
    cpu.apic.acknowledge()
    cpu[reg.EOI] = 0

    assert ended == [0x50]


def test_a_software_disabled_apic_masks_its_lvts_and_takes_only_nmi(cpu):
    cpu[reg.LVT_LINT1] = 0x400
    cpu[reg.SVR] = 0xFF
    assert cpu[reg.LVT_LINT1] == 0x10400
    cpu[reg.LVT_LINT1] = 0x400
    assert cpu[reg.LVT_LINT1] == 0x10400
    cpu.bus.send(InterruptMessage(0x50, DeliveryMode.FIXED, 0))
    cpu.bus.send(InterruptMessage(0, DeliveryMode.NMI, 0))
    assert cpu.apic.pending_vector() is None
    assert cpu.nmis == 1


# --- the timer ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "divisor"),
    [(0, 2), (1, 4), (2, 8), (3, 16), (8, 32), (9, 64), (10, 128), (11, 1)],
)
def test_one_shot_expires_after_initial_count_times_divisor_and_once(cpu, code, divisor):
    cpu[reg.DIVIDE] = code
    cpu[reg.LVT_TIMER] = 0x40
    cpu[reg.INITIAL_COUNT] = 100

    cpu.clock.time += 30 * divisor
    assert cpu[reg.CURRENT_COUNT] == 70
    cpu.clock.time += divisor - 1
    assert cpu[reg.CURRENT_COUNT] == 70
    assert cpu.expiry_times(10**9) == [1000 + 100 * divisor]
    assert cpu[reg.CURRENT_COUNT] == 0


def test_periodic_expires_exactly_every_period_however_late_it_is_asked(cpu):
    cpu[reg.DIVIDE] = 0
    cpu[reg.LVT_TIMER] = 0x20040
    cpu[reg.INITIAL_COUNT] = 333
    assert cpu.expiry_times(1000 + 666 * 5) == [1000 + 666 * i for i in range(1, 6)]
    cpu.clock.time = 1000 + 666 * 100 + 6
    cpu.apic.advance(cpu.clock.time)
    assert cpu[reg.CURRENT_COUNT] == 330
    assert cpu.apic.next_event() == 1000 + 666 * 101


def test_a_masked_timer_counts_but_neither_interrupts_nor_makes_events(cpu):
    cpu[reg.DIVIDE] = 11
    cpu[reg.LVT_TIMER] = 0x10040
    cpu[reg.INITIAL_COUNT] = 50
    assert cpu.apic.next_event() is None
    cpu.clock.time += 49
    assert cpu[reg.CURRENT_COUNT] == 1
    cpu.clock.time += 1
    assert cpu[reg.CURRENT_COUNT] == 0
    cpu[reg.LVT_TIMER] = 0x40
    assert cpu.apic.pending_vector() is None


def test_initial_count_zero_stops_the_timer(cpu):
    cpu[reg.LVT_TIMER] = 0x40
    cpu[reg.INITIAL_COUNT] = 100
    cpu[reg.INITIAL_COUNT] = 0
    assert cpu.apic.next_event() is None


def test_changing_the_divisor_keeps_the_count(cpu):
    cpu[reg.DIVIDE] = 11
    cpu[reg.LVT_TIMER] = 0x40
    cpu[reg.INITIAL_COUNT] = 100
    cpu.clock.time += 60
    cpu[reg.DIVIDE] = 3
    assert cpu[reg.CURRENT_COUNT] == 40
    assert cpu.apic.next_event() == 1060 + 40 * 16


def test_tsc_deadline_interrupts_at_the_deadline_and_disarms(cpu):
    cpu[reg.LVT_TIMER] = 0x40040
    assert cpu.apic.write_msr(0x6E0, 5000)
    assert cpu.apic.read_msr(0x6E0) == 5000
    assert cpu.apic.next_event() == 5000
    cpu.clock.time = 4999
    cpu.apic.advance(4999)
    assert cpu.apic.pending_vector() is None
    cpu.clock.time = 5000
    assert cpu.apic.read_msr(0x6E0) == 0
    assert cpu.apic.pending_vector() == 0x40
    assert cpu.apic.next_event() is None


def test_a_deadline_in_the_past_interrupts_at_once_and_zero_disarms(cpu):
    cpu[reg.LVT_TIMER] = 0x40040
    cpu.apic.write_msr(0x6E0, 9999)
    cpu.apic.write_msr(0x6E0, 0)
    assert cpu.apic.next_event() is None
    cpu.apic.write_msr(0x6E0, 1)
    assert cpu.apic.pending_vector() == 0x40


def test_deadlines_follow_the_tsc_when_it_is_moved(cpu):
    cpu[reg.LVT_TIMER] = 0x40040
    cpu.apic.write_msr(0x6E0, 5000)
    cpu.apic.set_tsc_offset(-1000)
    assert cpu.apic.next_event() == 6000
    cpu.apic.set_tsc_offset((1 << 64) - 1000)
    assert cpu.apic.next_event() == 6000
    cpu.apic.set_tsc_offset(4500)
    assert cpu.apic.next_event() == cpu.clock.time


def test_deadline_and_count_belong_to_their_modes(cpu):
    cpu[reg.LVT_TIMER] = 0x40
    cpu.apic.write_msr(0x6E0, 5000)
    assert cpu.apic.read_msr(0x6E0) == 0
    cpu[reg.INITIAL_COUNT] = 10
    cpu[reg.LVT_TIMER] = 0x40040
    assert cpu.apic.next_event() is None
    cpu[reg.INITIAL_COUNT] = 10
    assert cpu.apic.next_event() is None


# --- modes and MSRs -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ([DISABLED], True),
        ([X2APIC], True),
        ([DISABLED, XAPIC], True),
        ([X2APIC, DISABLED], True),
        ([X2APIC, X2APIC], True),
        ([X2APIC, XAPIC], False),
        ([DISABLED, X2APIC], False),
        ([0x400], False),
        ([X2APIC, 0x400], False),
    ],
)
def test_apic_base_changes_mode_only_along_the_legal_transitions(cpu, path, allowed):
    for bits in path[:-1]:
        assert cpu.mode(bits)
    before = cpu.apic.read_msr(BASE_MSR)
    assert cpu.mode(path[-1]) is allowed
    if not allowed:
        assert cpu.apic.read_msr(BASE_MSR) == before


@pytest.mark.parametrize("bit", [0, 7, 9, 39, 63])
def test_reserved_bits_of_apic_base_are_refused(cpu, bit):
    assert not cpu.apic.write_msr(BASE_MSR, 0xFEE00900 | 1 << bit)


def test_moving_or_hiding_the_registers_is_announced(cpu):
    seen = []
    cpu.apic.on_base_change = lambda: seen.append(cpu.apic.mmio_gpa)
    cpu.apic.write_msr(BASE_MSR, 0xFED00900)
    cpu.mode(X2APIC)
    cpu.mode(DISABLED)
    cpu.mode(XAPIC)
    assert seen == [0xFED00000, None, None, 0xFEE00000]


def test_disabling_resets_the_registers(cpu):
    cpu[reg.TPR] = 0x20
    cpu.mode(DISABLED)
    cpu.mode(XAPIC)
    assert (cpu[reg.TPR], cpu[reg.SVR]) == (0, 0xFF)


def test_x2apic_registers_are_msrs_and_only_then(cpu):
    apic = cpu.apic
    assert apic.read_msr(0x808) is None
    assert not apic.write_msr(0x808, 0)
    cpu.mode(X2APIC)
    assert apic.write_msr(0x808, 0x35)
    assert apic.read_msr(0x808) == 0x35
    assert apic.read_msr(0x803) == 0x50014


@pytest.mark.parametrize("msr", [0x800, 0x80B, 0x80E, 0x831, 0x83F, 0x8FF])
def test_msrs_without_a_readable_register_are_refused(cpu, msr):
    cpu.mode(X2APIC)
    assert cpu.apic.read_msr(msr) is None


@pytest.mark.parametrize(
    ("msr", "value"),
    [
        (0x808, 0x100),  # TPR above 8 bits
        (0x80B, 1),  # EOI must be zero
        (0x828, 1),  # so must ESR
        (0x80F, 0x400),
        (0x832, 1 << 19),
        (0x83E, 4),
        (0x802, 0),  # read-only registers
        (0x803, 0),
        (0x80D, 0),
        (0x80A, 0),
        (0x810, 0),
        (0x839, 0),
        (0x831, 0),
        (0x838, 1 << 32),
        (0x83F, 0x100),
    ],
)
def test_x2apic_refuses_reserved_bits_and_read_only_registers(cpu, msr, value):
    cpu.mode(X2APIC)
    assert not cpu.apic.write_msr(msr, value)


def test_x2apic_ids_are_32_bits_and_derive_the_logical_id():
    cpu = Cpu(apic_id=0x25)
    assert cpu[reg.ID] == 0x25 << 24
    cpu.apic.write_msr(BASE_MSR, 0xFEE00000 | X2APIC)
    assert cpu.apic.read_msr(0x802) == 0x25
    assert cpu.apic.read_msr(0x80D) == 2 << 16 | 1 << 5


def test_the_x2apic_self_ipi_register_requests_its_vector(cpu):
    cpu.mode(X2APIC)
    assert cpu.apic.write_msr(0x83F, 0x66)
    assert cpu.apic.acknowledge() == 0x66
    assert cpu.apic.write_msr(0x80B, 0)
    assert cpu.apic.read_msr(0x813) == 0


# --- local interrupt pins, IPIs, errors -------------------------------------------------------


def test_lint0_passes_the_pic_while_set_to_extint_and_unmasked(cpu):
    assert not cpu.apic.passes_extint()
    cpu[reg.LVT_LINT0] = 0x700
    assert cpu.apic.passes_extint()
    cpu[reg.LVT_LINT0] = 0x10700
    assert not cpu.apic.passes_extint()
    cpu.mode(DISABLED)
    assert cpu.apic.passes_extint()


def test_lint0_as_fixed_edge_requests_its_vector_on_each_rise(cpu):
    cpu[reg.LVT_LINT0] = 0x71
    for _ in range(2):
        cpu.apic.set_lint0(True)
        assert cpu.apic.acknowledge() == 0x71
        cpu.apic.eoi()
        assert cpu.apic.pending_vector() is None
        cpu.apic.set_lint0(False)


def test_lint0_as_fixed_level_asks_again_after_eoi_while_high(cpu):
    cpu[reg.LVT_LINT0] = 0x8071
    cpu.apic.set_lint0(True)
    assert cpu[reg.LVT_LINT0] == 0xC071
    assert cpu.apic.acknowledge() == 0x71
    cpu.apic.eoi()
    assert cpu.apic.acknowledge() == 0x71
    cpu.apic.set_lint0(False)
    cpu.apic.eoi()
    assert cpu.apic.pending_vector() is None
    assert cpu[reg.LVT_LINT0] == 0x8071


def test_lint1_is_nmi_on_its_rising_edge(cpu):
    cpu[reg.LVT_LINT1] = 0x400
    cpu.apic.set_lint1(True)
    cpu.apic.set_lint1(True)
    assert cpu.nmis == 1


def pair():
    bus, clock = ApicBus(), ManualClock()
    return Cpu(bus, 0, clock), Cpu(bus, 1, clock)


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
def test_ipis_reach_exactly_their_destination(icr, destination, targets):
    cpus = pair()
    for number, cpu in enumerate(cpus):
        cpu[reg.LDR] = 1 << (24 + number)
    cpus[0][reg.ICR_HIGH] = destination << 24
    cpus[0][reg.ICR_LOW] = icr | 0x55

    reached = {i for i, cpu in enumerate(cpus) if cpu.apic.pending_vector() == 0x55}
    assert reached == targets


def test_lowest_priority_prefers_the_lower_task_priority():
    cpus = pair()
    cpus[0][reg.TPR] = 0x20
    cpus[0].bus.send(InterruptMessage(0x55, DeliveryMode.LOWEST_PRIORITY))
    assert cpus[1].apic.pending_vector() == 0x55
    assert cpus[0].apic.pending_vector() is None


def test_the_cluster_model_matches_cluster_and_member():
    cpus = pair()
    for number, cpu in enumerate(cpus):
        cpu[reg.DFR] = 0
        cpu[reg.LDR] = (0x10 | 1 << number) << 24
    for destination, reached in ((0x12, {1}), (0x21, set()), (0xF3, {0, 1})):
        message = InterruptMessage(0x55, DeliveryMode.FIXED, destination, logical=True)
        assert {i for i, cpu in enumerate(cpus) if cpu.apic.is_destination(message)} == reached


def test_init_and_startup_are_told_to_the_cpu():
    cpus = pair()
    seen = []
    cpus[1].apic.on_init = lambda: seen.append("init")
    cpus[1].apic.on_startup = lambda vector: seen.append(vector)
    for icr in (0xC500, 0x8500, 0x4608):
        cpus[0][reg.ICR_HIGH] = 1 << 24
        cpus[0][reg.ICR_LOW] = icr
    assert seen == ["init", 0x08]


def test_illegal_vectors_show_in_esr_after_it_is_written(cpu):
    cpu.self_ipi(0x0F)
    cpu.bus.send(InterruptMessage(0x03, DeliveryMode.FIXED, 0))
    assert cpu[reg.ESR] == 0
    cpu[reg.ESR] = 0
    assert cpu[reg.ESR] == 0x60
    cpu[reg.ESR] = 0
    assert cpu[reg.ESR] == 0


def test_an_illegal_register_raises_the_error_interrupt(cpu):
    cpu[reg.LVT_ERROR] = 0x7E
    assert cpu[0x3A] == 0
    assert cpu.apic.acknowledge() == 0x7E
    cpu[reg.ESR] = 0
    assert cpu[reg.ESR] == 0x80


def test_an_error_vector_that_is_illegal_itself_does_not_recurse(cpu):
    cpu[reg.LVT_ERROR] = 0x05
    cpu.self_ipi(0x01)
    cpu[reg.ESR] = 0
    assert cpu[reg.ESR] == 0x60


def test_narrow_and_unaligned_writes_have_no_effect(cpu):
    cpu.apic.store(reg.TPR << 4, 8, 0x50)
    cpu.apic.store((reg.TPR << 4) + 4, 32, 0x50)
    assert cpu[reg.TPR] == 0
    cpu[reg.TPR] = 0x50
    assert cpu.apic.load((reg.SVR << 4) + 1, 8) & 0xFF == 0x01
