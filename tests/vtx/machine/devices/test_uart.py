"""The 16550A: registers, FIFOs, loopback and its interrupts in their order."""

import pytest

from vtx.machine.devices.lines import Wire
from vtx.machine.devices.uart import Uart16550


class Port:
    def __init__(self):
        self.sent = bytearray()
        self.line = Wire()
        self.uart = Uart16550(self.line, self.sent.extend)

    def __getitem__(self, register):
        return self.uart.port_in(0x3F8 + register, 8)

    def __setitem__(self, register, value):
        self.uart.port_out(0x3F8 + register, 8, value)


@pytest.fixture
def com1():
    return Port()


def test_a_byte_written_is_at_the_sink_at_once_and_thr_is_empty_again(com1):
    for byte in b"Hello":
        assert com1[5] & 0x60 == 0x60
        com1[0] = byte

    assert com1.sent == b"Hello"


def test_the_divisor_latch_hides_the_first_two_registers(com1):
    com1[1] = 0x05
    com1[3] = 0x83
    com1[0], com1[1] = 0x34, 0x12
    assert (com1[0], com1[1], com1.uart.divisor) == (0x34, 0x12, 0x1234)
    com1[3] = 0x03
    assert com1[1] == 0x05
    assert com1.sent == b""


def test_scratch_and_reserved_bits(com1):
    com1[7] = 0xA5
    com1[1] = 0xFF
    com1[4] = 0xEF
    assert (com1[7], com1[1], com1[4]) == (0xA5, 0x0F, 0x0F)


def test_received_bytes_come_one_after_the_other_and_none_is_lost(com1):
    com1[2] = 1
    com1.uart.receive(bytes(range(40)))
    got = []
    while com1[5] & 1:
        got.append(com1[0])

    assert got == list(range(40))
    assert com1[5] & 0x1E == 0


def test_without_fifo_the_receiver_holds_one_byte(com1):
    com1.uart.receive(b"ab")
    assert len(com1.uart.fifo) == 1
    assert (com1[0], com1[0], com1[5] & 1) == (ord("a"), ord("b"), 0)


def test_received_data_interrupts_while_there_is_some(com1):
    com1[1] = 0x01
    assert com1[2] == 0x01
    com1.uart.receive(b"x")
    assert com1.line.level
    assert com1[2] == 0x04
    com1[0]
    assert not com1.line.level


def test_below_the_trigger_level_a_time_out_reports_the_data(com1):
    com1[2] = 0x81  # FIFO on, trigger at 8
    com1[1] = 0x01
    com1.uart.receive(b"1234567")
    assert com1[2] == 0xCC
    com1.uart.receive(b"8")
    assert com1[2] == 0xC4


def test_thr_empty_interrupts_when_enabled_and_after_each_byte_until_read(com1):
    com1[1] = 0x02
    assert com1.line.level
    assert com1[2] == 0x02
    assert not com1.line.level
    assert com1[2] == 0x01
    com1[0] = 0x41
    assert com1.line.level
    com1[1] = 0
    assert not com1.line.level


def test_reading_a_higher_interrupt_does_not_clear_thr_empty(com1):
    com1[1] = 0x03
    com1.uart.receive(b"x")
    assert com1[2] == 0x04
    com1[0]
    assert com1[2] == 0x02


def test_clearing_the_receiver_fifo_drops_its_bytes(com1):
    com1[2] = 0x01
    com1.uart.receive(b"abc")
    com1[2] = 0x03
    assert com1[5] & 1 == 0


def test_iir_shows_whether_fifos_are_on(com1):
    assert com1[2] & 0xC0 == 0
    com1[2] = 0x01
    assert com1[2] & 0xC0 == 0xC0


def test_loopback_returns_bytes_and_cuts_the_wire(com1):
    com1[3] = 0x03
    com1[4] = 0x10
    com1[0] = 0xAE
    com1.uart.receive(b"z")
    assert com1.sent == b""
    assert (com1[5] & 1, com1[0]) == (1, 0xAE)
    com1[4] = 0
    assert com1[0] == ord("z")


def test_loopback_overrun_is_a_line_status_interrupt_above_received_data(com1):
    com1[3], com1[4], com1[1] = 0x03, 0x10, 0x05
    com1[0] = 1
    com1[0] = 2
    assert com1[2] == 0x06
    assert com1[5] & 0x02
    assert com1[5] & 0x02 == 0
    assert com1[2] == 0x04
    assert com1[0] == 2  # without FIFO the new byte took the old one's place


def test_loopback_feeds_modem_outputs_to_the_modem_inputs(com1):
    com1[4] = 0x10
    com1[6]
    com1[4] = 0x1A
    assert com1[6] == 0x90 | 0x09
    com1[4] = 0x14
    com1[6]
    com1[4] = 0x10
    assert com1[6] == 0x04  # ring went away: the trailing edge


def test_modem_changes_interrupt_last(com1):
    com1[1] = 0x08
    com1[4] = 0x10
    assert com1.line.level
    assert com1[2] == 0x00
    com1[6]
    assert com1[2] == 0x01
