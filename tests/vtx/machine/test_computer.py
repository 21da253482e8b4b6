"""A computer with several CPUs: one clock, one local APIC each, one topology."""

from __future__ import annotations

from vtx.isa.program import Service
from vtx.machine.computer import Computer
from vtx.machine.cpu_model import cpu_model

LAPIC, APIC_BASE_MSR = 0xFEE0_0000, 0x1B


def computer(cpus: int) -> Computer:
    return Computer(cpu=cpu_model("haswell"), ram_size=2 << 20, cpu_count=cpus)


def cpuid(machine: Computer, index: int, leaf: int, subleaf: int = 0) -> tuple[int, ...]:
    found: tuple[int, ...] = machine.cpus[index].services[Service.CPUID](leaf, subleaf)
    return found


def test_time_goes_on_where_it_was_for_the_cpu_that_runs_next() -> None:
    machine = computer(2)
    first, second = machine.cpus
    first.state.write("retired", 500)
    machine.run_as(1)
    assert (machine.clock.now(), second.now()) == (500, 500)
    second.state.write("retired", 30)
    machine.run_as(0)

    assert (machine.clock.now(), first.now()) == (530, 530)
    assert (first.state.read("retired"), second.state.read("retired")) == (500, 30)


def test_each_cpu_sees_its_own_local_apic_at_one_address() -> None:
    machine = computer(3)
    seen = []
    for index in range(3):
        machine.run_as(index)
        seen.append(machine.platform.bus.load(LAPIC + 0x20, 32) >> 24)

    assert seen == [0, 1, 2]


def test_each_cpu_moves_and_hides_its_own_registers_only() -> None:
    machine = computer(2)
    bus = machine.platform.bus
    machine.run_as(1)
    assert machine.cpus[1].services[Service.APIC_BASE](0x10_0000 | 0x800)
    assert bus.load(0x10_0020, 32) == 1 << 24
    assert bus.load(LAPIC + 0x20, 32) == 0xFFFF_FFFF  # nothing is there any more
    machine.run_as(0)
    assert bus.load(LAPIC + 0x20, 32) == 0
    assert bus.ram_offset(0x10_0000) == 0x10_0000  # plain RAM for this CPU

    machine.run_as(1)
    assert machine.cpus[1].services[Service.APIC_BASE](0x10_0000 | 0xC00)
    assert bus.load(0x10_0020, 32) == 0  # in x2APIC mode there are no registers in memory
    assert machine.cpus[1].services[Service.APIC_READ](0x802) == (1, 1)
    machine.run_as(0)
    assert bus.load(LAPIC + 0x20, 32) == 0


def test_cpuid_numbers_the_cpus_and_counts_them() -> None:
    machine = computer(5)
    for index in range(5):
        _, ebx, _, edx = cpuid(machine, index, 1)
        assert (ebx >> 24, ebx >> 16 & 0xFF, edx >> 28 & 1) == (index, 5, 1)
        assert cpuid(machine, index, 0xB, 0) == (0, 1, 0x100, index)
        assert cpuid(machine, index, 0xB, 1) == (3, 5, 0x201, index)
        assert cpuid(machine, index, 4, 0)[0] >> 26 == 7  # ids of cores take three bits


def test_one_cpu_shows_no_hyper_threading() -> None:
    assert cpuid(computer(1), 0, 1)[3] >> 28 & 1 == 0


def test_each_cpu_draws_its_own_random_numbers() -> None:
    machine = computer(4)
    drawn = [machine.cpus[n].services[Service.RANDOM]() for n in range(4) for _ in range(100)]

    assert len(set(drawn)) == len(drawn)
    again = computer(4)
    assert [again.cpus[n].services[Service.RANDOM]() for n in range(4) for _ in range(100)] == drawn
