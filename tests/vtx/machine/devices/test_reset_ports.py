"""Every way to reset a PC asks for a reset, and nothing near it does."""

import pytest

from vtx.machine.devices.reset_ports import KeyboardController, PciConfigPorts, SystemControlA


@pytest.fixture
def resets():
    return []


def device_of(kind, resets):
    return kind(lambda: resets.append(1))


@pytest.mark.parametrize(
    ("kind", "writes", "count"),
    [
        (KeyboardController, [(0x64, 0xFE)], 1),
        (KeyboardController, [(0x64, 0xFF)], 0),
        (KeyboardController, [(0x60, 0xFE)], 0),
        (KeyboardController, [(0x64, 0xD1), (0x60, 0xFE)], 1),
        (KeyboardController, [(0x64, 0xD1), (0x60, 0xDF)], 0),
        (KeyboardController, [(0x64, 0xD1), (0x60, 0xDF), (0x60, 0xFE)], 0),
        (SystemControlA, [(0x92, 0x03)], 1),
        (SystemControlA, [(0x92, 0x02)], 0),
        (PciConfigPorts, [(0xCF9, 0x06)], 1),
        (PciConfigPorts, [(0xCF9, 0x02)], 0),
    ],
)
def test_resets(kind, writes, count, resets):
    device = device_of(kind, resets)
    for port, value in writes:
        device.port_out(port, 8, value)
    assert len(resets) == count


def test_pci_configuration_reads_ones_and_an_address_is_no_reset(resets):
    ports = device_of(PciConfigPorts, resets)
    ports.port_out(0xCF8, 32, 0x8000_0600)

    assert ports.port_in(0xCF8, 32) == ports.port_in(0xCFC, 32) == 0xFFFFFFFF
    assert resets == []


def test_the_keyboard_controller_answers_its_tests(resets):
    keyboard = device_of(KeyboardController, resets)
    assert keyboard.port_in(0x64, 8) & 0x03 == 0
    keyboard.port_out(0x64, 8, 0xAA)
    assert keyboard.port_in(0x64, 8) & 0x03 == 1
    assert keyboard.port_in(0x60, 8) == 0x55
    assert keyboard.port_in(0x64, 8) & 0x03 == 0
    keyboard.port_out(0x64, 8, 0x60)
    keyboard.port_out(0x60, 8, 0x47)
    keyboard.port_out(0x64, 8, 0x20)
    assert keyboard.port_in(0x60, 8) == 0x47


def test_the_fast_a20_gate_keeps_its_bit(resets):
    gate = device_of(SystemControlA, resets)
    gate.port_out(0x92, 8, 0x00)
    assert gate.port_in(0x92, 8) == 0x00
    gate.port_out(0x92, 8, 0x02)
    assert gate.port_in(0x92, 8) == 0x02
