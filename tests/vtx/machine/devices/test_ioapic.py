"""The I/O APIC: redirection, edges and levels, remote IRR, masking."""

import pytest

from vtx.machine.devices.apic_messages import (
    BROADCAST,
    ApicBus,
    DeliveryMode,
    InterruptMessage,
)
from vtx.machine.devices.ioapic import IoApic


class Listener:
    apic_id = 0
    tpr = 0

    def __init__(self):
        self.messages = []

    def is_destination(self, message):
        return True

    def accept(self, message):
        self.messages.append(message)


class Board:
    def __init__(self):
        bus = ApicBus()
        self.listener = Listener()
        bus.receivers.append(self.listener)
        self.ioapic = IoApic(bus)

    def __getitem__(self, register):
        self.ioapic.store(0, 32, register)
        return self.ioapic.load(0x10, 32)

    def __setitem__(self, register, value):
        self.ioapic.store(0, 32, register)
        self.ioapic.store(0x10, 32, value)

    def entry(self, pin, low, high=0):
        self[0x11 + 2 * pin] = high
        self[0x10 + 2 * pin] = low

    def vectors(self):
        got = [message.vector for message in self.listener.messages]
        self.listener.messages.clear()
        return got


@pytest.fixture
def board():
    return Board()


def test_it_has_24_pins_all_masked_at_reset(board):
    assert board[1] == 0x0017_0011
    assert [board[0x10 + 2 * pin] for pin in range(24)] == [0x10000] * 24
    board[0] = 0x0F000000
    assert board[0] == board[2] == 0x0F000000


def test_an_edge_is_delivered_once(board):
    board.entry(4, 0x34, high=0x03000000)
    board.ioapic.set_pin(4, True)
    board.ioapic.set_pin(4, True)
    assert board.listener.messages == [InterruptMessage(0x34, DeliveryMode.FIXED, 3)]
    board.ioapic.set_pin(4, False)
    board.ioapic.set_pin(4, True)
    assert board.vectors() == [0x34, 0x34]


def test_a_message_carries_mode_destination_and_trigger(board):
    board.entry(5, 0x8900 | 0x35, high=0xFF000000)
    board.ioapic.set_pin(5, True)
    board.entry(6, 0x0400, high=0xFF000000)
    board.ioapic.set_pin(6, True)
    level = InterruptMessage(0x35, DeliveryMode.LOWEST_PRIORITY, 0xFF, True, True)
    assert board.listener.messages == [level, InterruptMessage(0, DeliveryMode.NMI, BROADCAST)]


def test_an_edge_on_a_masked_pin_is_lost(board):
    board.ioapic.set_pin(4, True)
    board.entry(4, 0x34)
    assert board.vectors() == []


def test_a_level_waits_for_eoi_and_comes_back_while_high(board):
    board.entry(9, 0x8039)
    board.ioapic.set_pin(9, True)
    assert board[0x10 + 18] == 0xC039
    board.ioapic.set_pin(9, False)
    board.ioapic.set_pin(9, True)
    assert board.vectors() == [0x39]
    board.ioapic.end_of_interrupt(0x38)
    assert board.vectors() == []
    board.ioapic.end_of_interrupt(0x39)
    assert board.vectors() == [0x39]
    board.ioapic.set_pin(9, False)
    board.ioapic.end_of_interrupt(0x39)
    assert board.vectors() == []
    assert board[0x10 + 18] == 0x8039


def test_unmasking_a_high_level_delivers_it(board):
    board.ioapic.set_pin(9, True)
    board.entry(9, 0x18039)
    assert board.vectors() == []
    assert not board.ioapic.may_interrupt(9)
    board.entry(9, 0x8039)
    assert board.vectors() == [0x39]


def test_turning_an_entry_to_edge_clears_its_remote_irr(board):
    board.entry(9, 0x8039)
    board.ioapic.set_pin(9, True)
    board[0x10 + 18] = 0x10039
    assert board[0x10 + 18] == 0x10039


def test_read_only_bits_are_not_writable(board):
    board.entry(3, 0xFFFFFFFF, high=0xFFFFFFFF)
    assert board[0x10 + 6] == 0x1AFFF
    assert board[0x11 + 6] == 0xFF000000


def test_registers_that_do_not_exist(board):
    board[0x80] = 0
    assert board[0x80] == 0xFFFFFFFF
    assert board.ioapic.load(0x20, 32) == 0
