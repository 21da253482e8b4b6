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

X2APIC, DISABLED = 0xC00, 0
BASE_MSR = 0x1B


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


def test_disabling_resets_the_registers(cpu):
    cpu[reg.TPR] = 0x20
    cpu.mode(DISABLED)
    cpu.mode(0x800)
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


def test_x2apic_ids_are_32_bits_and_derive_the_logical_id(make_cpu):
    cpu = make_cpu(apic_id=0x25)
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
