"""The PC's two 8259A interrupt controllers in cascade.

Interrupt requests come in on lines 0-15, one output goes to the CPU (or LINT0). It must not
know which device drives a line. Source: 8259A data sheet; ELCR as in Intel's PC chipsets.
"""

from __future__ import annotations

from typing import Final

from vtx.machine.devices.lines import InterruptLine, Wire
from vtx.spec.places import port_range

MASTER_PORT: Final = port_range("pic1").first
SLAVE_PORT: Final = port_range("pic2").first
ELCR_PORT: Final = port_range("elcr").first
CASCADE_INPUT: Final = 2
SPURIOUS_INPUT: Final = 7

ICW1_IC4, ICW1_SINGLE, ICW1_LEVEL, ICW1_INIT = 0x01, 0x02, 0x08, 0x10
ICW4_AEOI, ICW4_SFNM = 0x02, 0x10
OCW3: Final = 0x08
POLL_PENDING: Final = 0x80

# Inputs whose trigger mode is fixed to edge: timer, keyboard, cascade; RTC and FPU error.
ELCR_MASKS: Final = (0xF8, 0xDE)


class Pic8259:
    """One 8259A. `output` follows its INT pin; lines and registers are 8-bit masks."""

    def __init__(self, output: InterruptLine, *, cascade_inputs: int = 0) -> None:
        self.output = output
        self.cascade_inputs = cascade_inputs
        self.lines = 0
        self.edges = 0  # inputs that rose since they were last acknowledged and are still high
        self.elcr = 0
        self.isr = 0
        self.imr = 0
        self.vector_base = 0
        self.lowest_priority = 7
        self.level_triggered = False
        self.auto_eoi = False
        self.rotate_on_auto_eoi = False
        self.special_fully_nested = False
        self.special_mask = False
        self.read_isr = False
        self.poll = False
        self.init_words: list[int] = []  # ICW numbers still expected

    @property
    def irr(self) -> int:
        """Requests: levels on level-triggered inputs, remembered rises on the others. A request
        that goes away before it is acknowledged is forgotten (and its vector is spurious)."""
        level = 0xFF if self.level_triggered else self.elcr
        return self.lines & level | self.edges & ~level

    def set_line(self, number: int, level: bool) -> None:
        bit = 1 << number
        if level:
            if not self.lines & bit:
                self.edges |= bit
            self.lines |= bit
        else:
            self.lines &= ~bit
            self.edges &= ~bit
        self._update()

    def pending(self) -> int | None:
        """The input that INT is raised for: the highest request above everything in service."""
        in_service = self.isr
        if self.special_mask:
            in_service &= ~self.imr
        blocked = in_service
        if self.special_fully_nested:
            blocked &= ~self.cascade_inputs  # a slave in service may ask again
        requests = self.irr & ~self.imr
        for number in self._by_priority():
            if blocked >> number & 1:
                return None
            if requests >> number & 1:
                return number
        return None

    def acknowledge(self) -> int:
        """INTA: the input now in service; 7, with nothing in service, if none asks any more."""
        number = self.pending()
        if number is None:
            return SPURIOUS_INPUT
        self.edges &= ~(1 << number)
        if self.auto_eoi:
            if self.rotate_on_auto_eoi:
                self.lowest_priority = number
        else:
            self.isr |= 1 << number
        self.output.set(False)  # INT drops with INTA; another request raises it again
        self._update()
        return number

    def read(self, port: int) -> int:
        """Read port 0 (IRR or ISR) or 1 (IMR); either after a poll command is the poll byte."""
        if self.poll:
            self.poll = False
            asking = self.pending() is not None
            return POLL_PENDING | self.acknowledge() if asking else 0
        if port & 1:
            return self.imr
        return self.isr if self.read_isr else self.irr

    def write(self, port: int, value: int) -> None:
        """Write a command word: which one depends on the port and on bits 4 and 3."""
        if port & 1:
            self._write_data(value)
        elif value & ICW1_INIT:
            self._start_initialization(value)
        elif value & OCW3:
            self._write_ocw3(value)
        else:
            self._write_ocw2(value)
        self._update()

    def _start_initialization(self, icw1: int) -> None:
        self.edges = 0  # an input must rise again to be seen
        self.isr = 0
        self.imr = 0
        self.lowest_priority = 7
        self.level_triggered = bool(icw1 & ICW1_LEVEL)
        self.auto_eoi = self.rotate_on_auto_eoi = self.special_fully_nested = False
        self.special_mask = self.read_isr = self.poll = False
        self.init_words = [2]
        if not icw1 & ICW1_SINGLE:
            self.init_words.append(3)
        if icw1 & ICW1_IC4:
            self.init_words.append(4)

    def _write_data(self, value: int) -> None:
        if not self.init_words:
            self.imr = value
            return
        word = self.init_words.pop(0)
        if word == 2:
            self.vector_base = value & 0xF8
        elif word == 4:
            self.auto_eoi = bool(value & ICW4_AEOI)
            self.special_fully_nested = bool(value & ICW4_SFNM)
        # ICW3 tells the chips how they are wired; on a PC they cannot be wired otherwise.

    def _write_ocw2(self, value: int) -> None:
        level = value & 7
        match value >> 5:
            case 0b000 | 0b100:
                self.rotate_on_auto_eoi = bool(value & 0x80)
            case 0b001 | 0b101:
                ended = self._end_highest()
                if value & 0x80 and ended is not None:
                    self.lowest_priority = ended
            case 0b011 | 0b111:
                self.isr &= ~(1 << level)
                if value & 0x80:
                    self.lowest_priority = level
            case 0b110:
                self.lowest_priority = level

    def _end_highest(self) -> int | None:
        """Non-specific EOI. In special mask mode it does not end masked levels."""
        candidates = self.isr & ~self.imr if self.special_mask else self.isr
        for number in self._by_priority():
            if candidates >> number & 1:
                self.isr &= ~(1 << number)
                return number
        return None

    def _write_ocw3(self, value: int) -> None:
        if value & 0x02:
            self.read_isr = bool(value & 0x01)
        if value & 0x40:
            self.special_mask = bool(value & 0x20)
        if value & 0x04:
            self.poll = True

    def _by_priority(self) -> list[int]:
        return [(self.lowest_priority + 1 + i) & 7 for i in range(8)]

    def _update(self) -> None:
        self.output.set(self.pending() is not None)


class DualPic:
    """Both chips as the PC wires them; `output` is INTR. The slave's INT is the master's IR2."""

    def __init__(self, output: InterruptLine) -> None:
        self.master = Pic8259(output, cascade_inputs=1 << CASCADE_INPUT)
        self.slave = Pic8259(Wire(self._cascade))

    def _cascade(self, level: bool) -> None:
        self.master.set_line(CASCADE_INPUT, level)

    def set_irq(self, irq: int, level: bool) -> None:
        """Drive IRQ line 0-15. Line 2 is the cascade; a PC routes what means IRQ 2 to line 9."""
        chip = self.slave if irq >= 8 else self.master
        chip.set_line(irq & 7, level)

    def acknowledge(self) -> int:
        """The vector that the two INTA cycles put on the bus."""
        number = self.master.acknowledge()
        if number == CASCADE_INPUT:
            return self.slave.vector_base | self.slave.acknowledge()
        return self.master.vector_base | number

    def may_interrupt(self, irq: int) -> bool:
        """Whether a request on `irq` could come through the masks."""
        if irq < 8:
            return not self.master.imr >> irq & 1
        return not (self.slave.imr >> (irq & 7) & 1 or self.master.imr >> CASCADE_INPUT & 1)

    def port_in(self, port: int, width_bits: int) -> int:
        if port & ~1 == ELCR_PORT:
            return (self.slave if port & 1 else self.master).elcr
        return self._chip(port).read(port)

    def port_out(self, port: int, width_bits: int, value: int) -> None:
        if port & ~1 == ELCR_PORT:
            chip = self.slave if port & 1 else self.master
            chip.elcr = value & ELCR_MASKS[port & 1]
            chip._update()
        else:
            self._chip(port).write(port, value)

    def _chip(self, port: int) -> Pic8259:
        return self.slave if port & ~1 == SLAVE_PORT else self.master
