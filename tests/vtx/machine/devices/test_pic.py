"""The 8259A pair: priorities, ends of interrupt, masks, trigger modes, the odd cases."""

import pytest

from vtx.machine.devices.lines import Wire
from vtx.machine.devices.pic import DualPic


class Pc:
    """A pair initialized as a PC does: vectors 0x20 and 0x28, nothing masked."""

    def __init__(self, icw1=0x11, icw4=0x01):
        self.intr = Wire()
        self.pic = DualPic(self.intr)
        self.initialize(icw1, icw4)

    def initialize(self, icw1=0x11, icw4=0x01):
        for base, vector, wiring in ((0x20, 0x20, 4), (0xA0, 0x28, 2)):
            self.out(base, icw1)
            for value in (vector, wiring, icw4):
                self.out(base + 1, value)

    def out(self, port, value):
        self.pic.port_out(port, 8, value)

    def read(self, port):
        return self.pic.port_in(port, 8)

    def pulse(self, *irqs):
        for irq in irqs:
            self.pic.set_irq(irq, False)
            self.pic.set_irq(irq, True)

    def take(self):
        return self.pic.acknowledge() if self.intr.level else None

    def in_service(self, port=0x20):
        self.out(port, 0x0B)
        return self.read(port)

    def requested(self, port=0x20):
        self.out(port, 0x0A)
        return self.read(port)


@pytest.fixture
def pc():
    return Pc()


def test_requests_are_served_highest_first_and_block_what_is_below(pc):
    pc.pulse(5, 3)
    assert pc.take() == 0x23
    assert pc.in_service() == 1 << 3
    assert pc.take() is None
    pc.pulse(1)
    assert pc.take() == 0x21
    pc.out(0x20, 0x20)
    assert pc.in_service() == 1 << 3
    assert pc.take() is None
    pc.out(0x20, 0x20)
    assert pc.take() == 0x25


def test_an_edge_triggered_request_needs_a_new_edge_after_it_was_taken(pc):
    pc.pulse(4)
    assert pc.take() == 0x24
    pc.out(0x20, 0x20)
    assert pc.take() is None
    pc.pulse(4)
    assert pc.take() == 0x24


def test_a_level_triggered_request_returns_while_the_line_is_high(pc):
    pc.out(0x4D0, 1 << 5)
    pc.pic.set_irq(5, True)
    assert pc.take() == 0x25
    pc.out(0x20, 0x20)
    assert pc.take() == 0x25
    pc.pic.set_irq(5, False)
    pc.out(0x20, 0x20)
    assert pc.take() is None


def test_the_fixed_edge_inputs_cannot_be_made_level_triggered(pc):
    pc.out(0x4D0, 0xFF)
    pc.out(0x4D1, 0xFF)

    assert (pc.read(0x4D0), pc.read(0x4D1)) == (0xF8, 0xDE)


def test_the_slave_comes_through_input_2_with_its_own_vector(pc):
    pc.pulse(12)
    assert pc.take() == 0x2C
    assert (pc.in_service(0x20), pc.in_service(0xA0)) == (1 << 2, 1 << 4)
    pc.pulse(8)
    assert pc.take() is None  # input 2 is in service
    pc.out(0xA0, 0x20)
    pc.out(0x20, 0x20)
    assert pc.take() == 0x28


def test_special_fully_nested_mode_lets_a_higher_slave_request_through():
    pc = Pc(icw4=0x11)
    pc.pulse(12)
    assert pc.take() == 0x2C
    pc.pulse(8)
    assert pc.take() == 0x28
    pc.pulse(14)
    assert pc.take() is None


def test_masked_inputs_keep_their_request(pc):
    pc.out(0x21, 1 << 3)
    pc.pulse(3)
    assert pc.read(0x21) == 1 << 3
    assert pc.take() is None
    assert pc.requested() == 1 << 3
    pc.out(0x21, 0)
    assert pc.take() == 0x23


def test_a_request_gone_before_acknowledge_gives_the_spurious_vector(pc):
    pc.pulse(3)
    pc.pic.set_irq(3, False)
    assert pc.intr.level is False
    assert pc.pic.acknowledge() == 0x27
    assert pc.in_service() == 0


def test_a_spurious_slave_request_leaves_input_2_in_service(pc):
    master = pc.pic.master
    master.set_line(2, True)  # the slave's INT fell between the two INTA cycles

    assert pc.pic.acknowledge() == 0x2F
    assert (pc.in_service(0x20), pc.in_service(0xA0)) == (1 << 2, 0)


def test_automatic_eoi_leaves_nothing_in_service():
    pc = Pc(icw4=0x03)
    pc.pulse(3, 5)
    assert pc.take() == 0x23
    assert pc.in_service() == 0
    assert pc.take() == 0x25


def test_automatic_eoi_serves_both_of_two_slave_requests():
    pc = Pc(icw4=0x03)
    pc.pulse(9, 10)

    assert [pc.take(), pc.take(), pc.take()] == [0x29, 0x2A, None]


def test_rotation_in_automatic_eoi_mode_makes_the_served_input_lowest():
    pc = Pc(icw4=0x03)
    pc.out(0x20, 0x80)
    pc.pulse(3, 4)
    assert pc.take() == 0x23
    pc.pulse(3)
    assert pc.take() == 0x24
    assert pc.take() == 0x23


def test_specific_eoi_ends_the_level_it_names(pc):
    pc.pulse(5)
    pc.take()
    pc.pulse(1)
    pc.take()
    pc.out(0x20, 0x65)
    assert pc.in_service() == 1 << 1


@pytest.mark.parametrize(("command", "name"), [(0xA0, "non-specific"), (0xE3, "specific")])
def test_rotating_eoi_makes_the_ended_input_lowest(pc, command, name):
    pc.pulse(3)
    pc.take()
    pc.out(0x20, command)
    pc.pulse(3, 4)
    assert pc.take() == 0x24


def test_set_priority_names_the_lowest_input(pc):
    pc.out(0x20, 0xC4)
    pc.pulse(0, 5)
    assert pc.take() == 0x25


def test_special_mask_mode_lets_lower_requests_past_a_masked_level_in_service(pc):
    pc.pulse(3)
    pc.take()
    pc.pulse(6)
    assert pc.take() is None
    pc.out(0x21, 1 << 3)
    pc.out(0x20, 0x68)
    assert pc.take() == 0x26
    pc.out(0x20, 0x20)  # non-specific: the masked level 3 is not ended
    assert pc.in_service() == 1 << 3
    pc.out(0x20, 0x48)
    pc.pulse(6)
    assert pc.take() is None


def test_poll_acknowledges_like_inta(pc):
    pc.out(0x20, 0x0C)
    assert pc.read(0x20) == 0
    pc.pulse(5)
    pc.out(0x20, 0x0C)
    assert pc.read(0x20) == 0x85
    assert pc.in_service() == 1 << 5


def test_initialization_clears_masks_and_forgets_edges(pc):
    pc.out(0x21, 0xFF)
    pc.pic.set_irq(3, True)
    pc.initialize()
    assert pc.read(0x21) == 0
    assert pc.take() is None
    pc.pulse(3)
    assert pc.take() == 0x23


def test_initialization_without_icw4_ends_after_icw3():
    pc = Pc(icw4=0x03)
    for value in (0x10,):
        pc.out(0x20, value)
    for value in (0x40, 4, 0xFE):
        pc.out(0x21, value)
    assert pc.read(0x21) == 0xFE
    pc.pulse(0)
    assert pc.take() == 0x40
    assert pc.in_service() == 1  # ICW4 was reset with the rest: no automatic EOI


def test_an_interrupt_can_pass_only_where_both_masks_are_open(pc):
    assert pc.pic.may_interrupt(12)
    pc.out(0x21, 1 << 2)
    assert not pc.pic.may_interrupt(12)
    assert pc.pic.may_interrupt(3)
