"""The ways software resets a PC: keyboard controller, port 0x92 and port 0xCF9.

The keyboard controller has no keyboard; what is here answers the programs that probe it,
gate A20 or reset through it. A20 is always open: the gate's bit is kept, memory ignores it.
Source: IBM PC/AT Technical Reference (8042 commands); Intel chipset manuals for 0x92 and 0xCF9.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from vtx.spec.places import port_range

DATA_PORT: Final = port_range("keyboard").first
COMMAND_PORT: Final = port_range("keyboard_status").first
SYSTEM_CONTROL_A_PORT: Final = port_range("port92").first
PCI_CONFIG_PORT: Final = port_range("pci_config").first
RESET_CONTROL_PORT: Final = PCI_CONFIG_PORT + 1

STATUS_OUTPUT_FULL, STATUS_SYSTEM, STATUS_COMMAND = 0x01, 0x04, 0x08
COMMAND_READ_CONFIG, COMMAND_WRITE_CONFIG = 0x20, 0x60
COMMAND_SELF_TEST, COMMAND_PORT_TEST = 0xAA, 0xAB
COMMAND_READ_OUTPUT, COMMAND_WRITE_OUTPUT = 0xD0, 0xD1
COMMAND_PULSE: Final = 0xF0  # low nibble: output bits not to pulse
OUTPUT_NO_RESET, OUTPUT_A20 = 0x01, 0x02
SELF_TEST_PASSED, PORT_TEST_PASSED = 0x55, 0x00


class KeyboardController:
    """An 8042 without a keyboard."""

    def __init__(self, reset: Callable[[], None]) -> None:
        self.reset = reset
        self.config = 0x04  # the system flag: self test passed
        self.output_port = 0xCC | OUTPUT_NO_RESET | OUTPUT_A20
        self.answer: int | None = None
        self.last_answer = 0
        self.parameter_of: int | None = None
        self.command_last = False

    def port_in(self, port: int, width_bits: int) -> int:
        if port == COMMAND_PORT:
            status = STATUS_OUTPUT_FULL if self.answer is not None else 0
            status |= self.config & STATUS_SYSTEM
            return status | (STATUS_COMMAND if self.command_last else 0)
        if self.answer is not None:
            self.last_answer, self.answer = self.answer, None
        return self.last_answer

    def port_out(self, port: int, width_bits: int, value: int) -> None:
        self.command_last = port == COMMAND_PORT
        if port == COMMAND_PORT:
            self._command(value)
        elif self.parameter_of == COMMAND_WRITE_CONFIG:
            self.config = value
        elif self.parameter_of == COMMAND_WRITE_OUTPUT:
            self.output_port = value
            if not value & OUTPUT_NO_RESET:
                self.reset()
        if port == DATA_PORT:
            self.parameter_of = None

    def _command(self, value: int) -> None:
        answers = {
            COMMAND_READ_CONFIG: self.config,
            COMMAND_SELF_TEST: SELF_TEST_PASSED,
            COMMAND_PORT_TEST: PORT_TEST_PASSED,
            COMMAND_READ_OUTPUT: self.output_port,
        }
        self.parameter_of = value if value in (COMMAND_WRITE_CONFIG, COMMAND_WRITE_OUTPUT) else None
        if value in answers:
            self.answer = answers[value]
        elif value >= COMMAND_PULSE and not value & OUTPUT_NO_RESET:
            self.reset()


class SystemControlA:
    """Port 0x92: bit 0 resets, bit 1 is the fast A20 gate."""

    def __init__(self, reset: Callable[[], None]) -> None:
        self.reset = reset
        self.value = 0x02

    def port_in(self, port: int, width_bits: int) -> int:
        return self.value

    def port_out(self, port: int, width_bits: int, value: int) -> None:
        if value & 1 and not self.value & 1:
            self.reset()
        self.value = value & ~1


class PciConfigPorts:
    """Ports 0xCF8-0xCFF of a PC without PCI: all ones; a byte at 0xCF9 is the reset control."""

    def __init__(self, reset: Callable[[], None]) -> None:
        self.reset = reset
        self.reset_control = 0

    def port_in(self, port: int, width_bits: int) -> int:
        if port == RESET_CONTROL_PORT and width_bits == 8:
            return self.reset_control
        return (1 << width_bits) - 1

    def port_out(self, port: int, width_bits: int, value: int) -> None:
        if port == RESET_CONTROL_PORT and width_bits == 8:
            self.reset_control = value & 0x0E
            if value & 0x04:
                self.reset()
