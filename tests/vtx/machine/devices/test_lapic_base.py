"""IA32_APIC_BASE: legal transitions, reserved bits, where the registers are."""

import pytest

XAPIC, X2APIC, DISABLED = 0x800, 0xC00, 0
BASE_MSR = 0x1B


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
