"""A 16550A UART: the PC's serial port.

It must not know where its bytes go or come from. Transmission takes no time: a byte written
to THR is at the sink at once, so THR is always empty again. Received bytes wait in a backlog
until the receiver has room, so nothing is ever overrun. The interrupt output is not gated by
MCR.OUT2 as PC boards do: virtual machines do not gate it and small kernels rely on that.
Source: PC16550D data sheet, register descriptions and interrupt priorities.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from vtx.machine.devices.lines import InterruptLine
from vtx.spec.places import port_range

COM1_PORT: Final = port_range("com1").first
PORT_COUNT: Final = 8

# Register numbers (offset from the base port).
RBR_THR, IER, IIR_FCR, LCR, MCR, LSR, MSR, SCR = range(8)

IER_RECEIVED, IER_THR_EMPTY, IER_LINE_STATUS, IER_MODEM = 1, 2, 4, 8
IIR_NONE, IIR_MODEM, IIR_THR_EMPTY, IIR_RECEIVED, IIR_LINE_STATUS, IIR_TIMEOUT = (
    0x1,
    0x0,
    0x2,
    0x4,
    0x6,
    0xC,
)
FCR_ENABLE, FCR_CLEAR_RECEIVER, FCR_CLEAR_TRANSMITTER = 1, 2, 4
LCR_BREAK, LCR_DLAB = 0x40, 0x80
MCR_LOOP: Final = 0x10
LSR_DATA_READY, LSR_OVERRUN, LSR_BREAK = 0x01, 0x02, 0x10
LSR_ERRORS: Final = 0x1E
LSR_THR_EMPTY, LSR_TRANSMITTER_EMPTY = 0x20, 0x40
MSR_CTS, MSR_DSR, MSR_RI, MSR_DCD = 0x10, 0x20, 0x40, 0x80
MSR_TERI: Final = 0x04

FIFO_DEPTH: Final = 16
TRIGGER_LEVELS: Final = (1, 4, 8, 14)


class Uart16550:
    """One UART at `base`. Bytes the guest sends go to `sink`; `receive` brings bytes to it."""

    def __init__(
        self, line: InterruptLine, sink: Callable[[bytes], None], base: int = COM1_PORT
    ) -> None:
        self.line = line
        self.sink = sink
        self.base = base
        self.ier = 0
        self.fcr = 0
        self.lcr = 0
        self.mcr = 0
        self.scr = 0
        self.divisor = 12  # 9600 baud from the usual 1.8432 MHz crystal
        self.line_errors = 0
        self.modem_status = MSR_CTS | MSR_DSR | MSR_DCD
        self.thr_empty_pending = False
        self.fifo: deque[int] = deque()
        self.backlog: deque[int] = deque()

    def receive(self, data: bytes) -> None:
        """Bytes arrive on the wire. In loopback the receiver is cut off, so they wait."""
        self.backlog.extend(data)
        self._refill()
        self._update_line()

    def port_in(self, port: int, width_bits: int) -> int:
        register = port - self.base
        value = self._read(register)
        self._update_line()
        return value

    def port_out(self, port: int, width_bits: int, value: int) -> None:
        self._write(port - self.base, value & 0xFF)
        self._update_line()

    def _read(self, register: int) -> int:
        match register:
            case 0 if self.lcr & LCR_DLAB:
                return self.divisor & 0xFF
            case 1 if self.lcr & LCR_DLAB:
                return self.divisor >> 8
            case 0:
                return self._take_received()
            case 1:
                return self.ier
            case 2:
                return self._take_interrupt_identity()
            case 3:
                return self.lcr
            case 4:
                return self.mcr
            case 5:
                return self._take_line_status()
            case 6:
                return self._take_modem_status()
            case _:
                return self.scr

    def _write(self, register: int, value: int) -> None:
        match register:
            case 0 if self.lcr & LCR_DLAB:
                self.divisor = self.divisor & 0xFF00 | value
            case 1 if self.lcr & LCR_DLAB:
                self.divisor = self.divisor & 0x00FF | value << 8
            case 0:
                self._transmit(value)
            case 1:
                # Enabling the THR-empty interrupt while THR is empty raises it at once.
                if value & IER_THR_EMPTY and not self.ier & IER_THR_EMPTY:
                    self.thr_empty_pending = True
                self.ier = value & 0x0F
            case 2:
                self._write_fifo_control(value)
            case 3:
                self.lcr = value
                if value & LCR_BREAK and self.mcr & MCR_LOOP:
                    self._loop_back_break()
            case 4:
                self._write_modem_control(value & 0x1F)
            case 7:
                self.scr = value
            case _:
                pass  # LSR and MSR are for reading; writes are for factory tests

    def _transmit(self, value: int) -> None:
        self.thr_empty_pending = True
        if not self.mcr & MCR_LOOP:
            self.sink(bytes([value]))
        elif len(self.fifo) < self._capacity():
            self.fifo.append(value & self._character_mask())
        else:
            self.line_errors |= LSR_OVERRUN
            if not self.fcr & FCR_ENABLE:
                self.fifo[-1] = value & self._character_mask()

    def _loop_back_break(self) -> None:
        self.line_errors |= LSR_BREAK
        if len(self.fifo) < self._capacity():
            self.fifo.append(0)

    def _character_mask(self) -> int:
        return (1 << (5 + (self.lcr & 3))) - 1

    def _capacity(self) -> int:
        return FIFO_DEPTH if self.fcr & FCR_ENABLE else 1

    def _refill(self) -> None:
        if self.mcr & MCR_LOOP:
            return
        while self.backlog and len(self.fifo) < self._capacity():
            self.fifo.append(self.backlog.popleft())

    def _take_received(self) -> int:
        value = self.fifo.popleft() if self.fifo else 0
        self._refill()
        return value

    def _take_line_status(self) -> int:
        status = LSR_THR_EMPTY | LSR_TRANSMITTER_EMPTY | self.line_errors
        if self.fifo:
            status |= LSR_DATA_READY
        self.line_errors = 0
        return status

    def _take_modem_status(self) -> int:
        status = self.modem_status
        self.modem_status &= 0xF0  # reading clears the four change bits
        return status

    def _take_interrupt_identity(self) -> int:
        identity = self._interrupt_identity()
        if identity == IIR_THR_EMPTY:
            self.thr_empty_pending = False
        return identity | (0xC0 if self.fcr & FCR_ENABLE else 0)

    def _write_fifo_control(self, value: int) -> None:
        if (value ^ self.fcr) & FCR_ENABLE:  # changing the mode empties both FIFOs
            self.fifo.clear()
        if value & FCR_CLEAR_RECEIVER:
            self.fifo.clear()
        # The other bits are programmed only together with the enable bit.
        self.fcr = value & 0xC9 if value & FCR_ENABLE else 0
        self._refill()

    def _write_modem_control(self, value: int) -> None:
        self.mcr = value
        if value & MCR_LOOP:
            # DTR->DSR, RTS->CTS, OUT1->RI, OUT2->DCD inside the chip.
            level = (value & 1) << 5 | (value & 2) << 3 | (value & 4) << 4 | (value & 8) << 4
        else:
            level = MSR_CTS | MSR_DSR | MSR_DCD
        before = self.modem_status
        changed = (before ^ level) >> 4 & 0xB
        if before & MSR_RI and not level & MSR_RI:
            changed |= MSR_TERI  # only the trailing edge of RI counts
        self.modem_status = level | before & 0x0F | changed
        self._refill()

    def _interrupt_identity(self) -> int:
        """What IIR would say: the highest of the enabled, pending sources."""
        if self.ier & IER_LINE_STATUS and self.line_errors:
            return IIR_LINE_STATUS
        if self.ier & IER_RECEIVED and self.fifo:
            if not self.fcr & FCR_ENABLE or len(self.fifo) >= TRIGGER_LEVELS[self.fcr >> 6]:
                return IIR_RECEIVED
            # Fewer bytes than the trigger level and no more coming now: a time-out, at once.
            return IIR_TIMEOUT
        if self.ier & IER_THR_EMPTY and self.thr_empty_pending:
            return IIR_THR_EMPTY
        if self.ier & IER_MODEM and self.modem_status & 0x0F:
            return IIR_MODEM
        return IIR_NONE

    def _update_line(self) -> None:
        self.line.set(self._interrupt_identity() != IIR_NONE)
