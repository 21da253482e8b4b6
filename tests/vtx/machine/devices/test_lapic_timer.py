"""The APIC timer: exact expiries in its three modes."""

import pytest

from vtx.machine.devices import lapic_registers as reg


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
