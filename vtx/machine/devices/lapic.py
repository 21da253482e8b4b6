"""A local APIC: registers by MMIO (xAPIC) or MSR (x2APIC), vectors and their priorities.

It must not know who else is on the APIC bus or what a CPU does with a vector. An MSR access
that the architecture refuses is answered with None or False; the CPU makes the #GP of it.
Source: SDM 3A, Advanced Programmable Interrupt Controller (APIC), all sections.
"""

from __future__ import annotations

from collections.abc import Callable

from vtx.machine.devices import lapic_registers as reg
from vtx.machine.devices.apic_messages import (
    BROADCAST,
    ApicBus,
    DeliveryMode,
    InterruptMessage,
    Shorthand,
    decode_icr,
    matches_x2apic_logical,
    matches_xapic_logical,
)
from vtx.machine.devices.lapic_base import ApicBase
from vtx.machine.devices.lapic_timer import TSC_DEADLINE, LapicTimer
from vtx.machine.devices.lapic_vectors import FIRST_LEGAL_VECTOR, VectorState
from vtx.machine.devices.timebase import Clock
from vtx.spec.registers import MAXPHYADDR


class LocalApic:
    """The local APIC of one CPU. `on_nmi`, `on_init` and `on_startup(vector)` tell the CPU of
    messages that are not vectors; `on_base_change` tells the address space that
    IA32_APIC_BASE moved, enabled or hid the registers."""

    def __init__(
        self, clock: Clock, bus: ApicBus, *, apic_id: int = 0, physical_bits: int = MAXPHYADDR
    ) -> None:
        self.clock = clock
        self.bus = bus
        self.initial_id = apic_id
        self.base = ApicBase(bootstrap=apic_id == 0, physical_bits=physical_bits)
        self.on_nmi: Callable[[], None] = lambda: None
        self.on_init: Callable[[], None] = lambda: None
        self.on_startup: Callable[[int], None] = lambda vector: None
        self.on_base_change: Callable[[], None] = lambda: None
        self.lint0 = False
        self.lint1 = False
        self.tsc_offset = 0
        self._reset_registers()
        bus.receivers.append(self)

    def _reset_registers(self) -> None:
        self.apic_id = self.initial_id
        self.vectors = VectorState()
        self.ldr = 0
        self.dfr = 0xFFFF_FFFF
        self.svr = 0xFF
        self.esr = 0
        self.errors = 0  # gathered until the next write of ESR shows them
        self.icr = 0
        self.lvt = dict.fromkeys(reg.LVTS, reg.LVT_MASKED)
        self.timer = LapicTimer()
        self.timer.tsc_offset = self.tsc_offset

    def initialize(self) -> None:
        """The CPU takes INIT: everything as after reset but IA32_APIC_BASE and the IDs. What is
        logical in x2APIC mode follows from the ID."""
        apic_id, ldr = self.apic_id, self.ldr
        self._reset_registers()
        self.apic_id = apic_id
        if self.x2apic:
            self.ldr = ldr

    # --- modes ----------------------------------------------------------------------------

    @property
    def enabled(self) -> bool:
        """Whether IA32_APIC_BASE enables the APIC at all."""
        return self.base.enabled

    @property
    def x2apic(self) -> bool:
        return self.base.x2apic

    @property
    def mmio_gpa(self) -> int | None:
        """Where the registers are in memory space; None unless in xAPIC mode."""
        return self.base.mmio_gpa

    @property
    def software_enabled(self) -> bool:
        return bool(self.svr & reg.SVR_ENABLE)

    def _write_base(self, value: int) -> bool:
        if not self.base.is_legal(value):
            return False
        was_enabled, was_x2apic = self.enabled, self.x2apic
        self.base.write(value)
        if was_enabled and not self.enabled:
            self._reset_registers()
        elif self.x2apic and not was_x2apic:
            self.apic_id = self.initial_id
            self.ldr = self.apic_id >> 4 << 16 | 1 << (self.apic_id & 0xF)
            self.icr &= 0xFFFF_FFFF
        self.on_base_change()
        return True

    def set_tsc_offset(self, offset: int) -> None:
        """The TSC is virtual time plus `offset` modulo 2^64 from now on; deadlines follow it."""
        self.tsc_offset = offset
        self.timer.set_tsc_offset(offset, self.clock.now())

    # --- time -----------------------------------------------------------------------------

    def next_event(self) -> int | None:
        """When the timer interrupts next; None while it is stopped or masked."""
        masked = self.lvt[reg.LVT_TIMER] & reg.LVT_MASKED
        return None if masked or not self.enabled else self.timer.next_expiry()

    def advance(self, now: int) -> None:
        """Deliver the timer interrupt if it is due."""
        if self.timer.take_expiries(now):
            self._deliver_local(reg.LVT_TIMER)

    # --- vectors --------------------------------------------------------------------------

    def pending_vector(self) -> int | None:
        """The vector to interrupt with now, if any is above the processor priority."""
        return self.vectors.pending() if self.enabled else None

    def acknowledge(self) -> int:
        """Take the pending vector into service. Only to be called while there is one."""
        return self.vectors.acknowledge()

    def eoi(self) -> None:
        """End of the highest interrupt in service; level-triggered ones are broadcast."""
        ended = self.vectors.end_highest()
        if ended is not None and ended.level_triggered:
            self._end_level_lint0(ended.vector)
            self.bus.on_eoi(ended.vector)

    @property
    def tpr(self) -> int:
        """The task priority register, 8 bits."""
        return self.vectors.tpr

    @property
    def cr8(self) -> int:
        """TPR's class as MOV CR8 sees it."""
        return self.vectors.tpr >> 4

    @cr8.setter
    def cr8(self, value: int) -> None:
        self.vectors.tpr = (value & 0xF) << 4

    def accept(self, message: InterruptMessage) -> None:
        """A message for this APIC arrives."""
        if not self.enabled:
            return
        match message.mode:
            case DeliveryMode.FIXED | DeliveryMode.LOWEST_PRIORITY:
                if self.software_enabled:
                    self._accept_vector(message.vector, message.level_triggered)
            case DeliveryMode.NMI:
                self.on_nmi()
            case DeliveryMode.INIT:
                self.on_init()
            case DeliveryMode.STARTUP:
                self.on_startup(message.vector)
            case _:
                pass  # no SMM here; EXTINT comes over the LINT0 line

    def _accept_vector(self, vector: int, level_triggered: bool) -> None:
        if vector < FIRST_LEGAL_VECTOR:
            self._report_error(reg.ESR_RECEIVE_ILLEGAL)
            return
        self.vectors.request(vector, level_triggered)

    def _report_error(self, bit: int) -> None:
        if not self.errors & bit:
            self.errors |= bit
            # An illegal vector in the error entry itself must not report for ever.
            self._deliver_local(reg.LVT_ERROR)

    def is_destination(self, message: InterruptMessage) -> bool:
        """Whether a message without shorthand is meant for this APIC."""
        if not message.logical or message.destination == BROADCAST:
            return message.destination in (self.apic_id, BROADCAST)
        if self.x2apic:
            return matches_x2apic_logical(message.destination, self.ldr)
        return matches_xapic_logical(message.destination, self.ldr, flat=self.dfr >> 28 == 0xF)

    # --- local interrupts -----------------------------------------------------------------

    def _deliver_local(self, index: int) -> None:
        entry = self.lvt[index]
        if entry & reg.LVT_MASKED or not self.enabled:
            return
        has_mode = index not in (reg.LVT_TIMER, reg.LVT_ERROR)
        mode = DeliveryMode(entry >> reg.LVT_MODE_SHIFT & 7) if has_mode else DeliveryMode.FIXED
        level = index == reg.LVT_LINT0 and bool(entry & reg.LVT_LEVEL)
        level = level and mode == DeliveryMode.FIXED
        if level:
            self.lvt[index] |= reg.LVT_REMOTE_IRR
        self.accept(InterruptMessage(entry & reg.LVT_VECTOR, mode, level_triggered=level))

    def set_lint0(self, level: bool) -> None:
        """The LINT0 pin, which the PIC drives."""
        rose = level and not self.lint0
        self.lint0 = level
        if rose and not self.lvt[reg.LVT_LINT0] & reg.LVT_REMOTE_IRR:
            self._deliver_local(reg.LVT_LINT0)

    def set_lint1(self, level: bool) -> None:
        """The LINT1 pin, which carries NMI."""
        rose = level and not self.lint1
        self.lint1 = level
        if not rose:
            return
        if self.enabled:
            self._deliver_local(reg.LVT_LINT1)
        else:
            self.on_nmi()

    def _end_level_lint0(self, vector: int) -> None:
        entry = self.lvt[reg.LVT_LINT0]
        if entry & reg.LVT_REMOTE_IRR and entry & reg.LVT_VECTOR == vector:
            self.lvt[reg.LVT_LINT0] &= ~reg.LVT_REMOTE_IRR
            if self.lint0:
                self._deliver_local(reg.LVT_LINT0)

    def passes_extint(self) -> bool:
        """Whether the PIC's request reaches the CPU: LINT0 is unmasked for it, or the APIC is
        disabled and its pin is INTR."""
        if not self.enabled:
            return True
        entry = self.lvt[reg.LVT_LINT0]
        mode = entry >> reg.LVT_MODE_SHIFT & 7
        return not entry & reg.LVT_MASKED and mode == DeliveryMode.EXTINT

    # --- access ---------------------------------------------------------------------------

    def load(self, offset: int, width_bits: int) -> int:
        """Read from the xAPIC page. Registers are 32 bits at 16-byte steps; the bytes between
        them read zero, as do registers that do not exist."""
        self.advance(self.clock.now())
        index = offset >> 4
        if index in reg.XAPIC_READABLE:
            return self._read(index) >> 8 * (offset & 0xF)
        self._report_error(reg.ESR_ILLEGAL_REGISTER)
        return 0

    def store(self, offset: int, width_bits: int, value: int) -> None:
        """Write to the xAPIC page. Only aligned writes of at least 32 bits have an effect."""
        if offset & 0xF or width_bits < 32:
            return
        self.advance(self.clock.now())
        index = offset >> 4
        if index in reg.XAPIC_WRITABLE:
            self._write(index, value & reg.XAPIC_WRITABLE[index])
        elif index not in reg.XAPIC_READABLE:
            self._report_error(reg.ESR_ILLEGAL_REGISTER)

    def read_msr(self, index: int) -> int | None:
        """RDMSR of IA32_APIC_BASE, IA32_TSC_DEADLINE or an x2APIC register; None is #GP."""
        self.advance(self.clock.now())
        if index == reg.IA32_APIC_BASE:
            return self.base.value
        if index == reg.IA32_TSC_DEADLINE:
            return self.timer.deadline
        register = index - reg.X2APIC_FIRST_MSR
        if not self.x2apic or register not in reg.READABLE:
            return None
        return self.icr if register == reg.ICR_LOW else self._read(register)

    def write_msr(self, index: int, value: int) -> bool:
        """WRMSR of one of those; False is #GP, and nothing has changed."""
        self.advance(self.clock.now())
        if index == reg.IA32_APIC_BASE:
            return self._write_base(value)
        if index == reg.IA32_TSC_DEADLINE:
            self.timer.write_deadline(value, self.clock.now())
            self.advance(self.clock.now())
            return True
        register = index - reg.X2APIC_FIRST_MSR
        writable = reg.X2APIC_WRITABLE.get(register)
        if not self.x2apic or writable is None or value & ~writable:
            return False
        self._write(register, value)
        return True

    def _read(self, index: int) -> int:
        if reg.ISR <= index < reg.IRR + 8:
            sets = (self.vectors.isr, self.vectors.tmr, self.vectors.irr)
            return sets[index - reg.ISR >> 3] >> 32 * (index & 7) & 0xFFFF_FFFF
        if index in self.lvt:
            return self.lvt[index]
        match index:
            case reg.ID:
                return self.apic_id if self.x2apic else self.apic_id << 24
            case reg.VERSION:
                return reg.VERSION_VALUE
            case reg.TPR:
                return self.vectors.tpr
            case reg.PPR | reg.APR:
                return self.vectors.ppr
            case reg.LDR:
                return self.ldr
            case reg.DFR:
                return self.dfr
            case reg.SVR:
                return self.svr
            case reg.ESR:
                return self.esr
            case reg.ICR_LOW:
                return self.icr & 0xFFFF_FFFF
            case reg.ICR_HIGH:
                return self.icr >> 32
            case reg.INITIAL_COUNT:
                return self.timer.initial
            case reg.CURRENT_COUNT:
                return self.timer.current_count(self.clock.now())
            case reg.DIVIDE:
                return self.timer.divide
            case _:
                return 0

    def _write(self, index: int, value: int) -> None:
        """A write whose reserved bits are dealt with."""
        now = self.clock.now()
        if index in self.lvt:
            self._write_lvt(index, value)
            return
        match index:
            case reg.ID:
                self.apic_id = value >> 24
            case reg.TPR:
                self.vectors.tpr = value
            case reg.EOI:
                self.eoi()
            case reg.LDR:
                self.ldr = value
            case reg.DFR:
                self.dfr = value | 0x0FFF_FFFF
            case reg.SVR:
                self.svr = value
                if not self.software_enabled:
                    for entry in self.lvt:
                        self.lvt[entry] |= reg.LVT_MASKED
            case reg.ESR:
                self.esr, self.errors = self.errors, 0
            case reg.ICR_LOW:
                self.icr = value if self.x2apic else self.icr & ~0xFFFF_FFFF | value
                self._send_ipi()
            case reg.ICR_HIGH:
                self.icr = self.icr & 0xFFFF_FFFF | value << 32
            case reg.INITIAL_COUNT:
                self.timer.write_initial(value, now)
            case reg.DIVIDE:
                self.timer.write_divide(value, now)
            case reg.SELF_IPI:
                self._send(InterruptMessage(value, DeliveryMode.FIXED), Shorthand.SELF)

    def _write_lvt(self, index: int, value: int) -> None:
        if not self.software_enabled:
            value |= reg.LVT_MASKED
        kept = reg.LVT_REMOTE_IRR if value & reg.LVT_LEVEL else 0
        self.lvt[index] = value | self.lvt[index] & kept
        if index == reg.LVT_TIMER:
            mode = value >> reg.TIMER_MODE_SHIFT & 3
            self.timer.set_mode(min(mode, TSC_DEADLINE))

    def _send_ipi(self) -> None:
        decoded = decode_icr(self.icr, x2apic=self.x2apic)
        if decoded is not None:
            self._send(*decoded)

    def _send(self, message: InterruptMessage, shorthand: Shorthand) -> None:
        carries_vector = message.mode in (DeliveryMode.FIXED, DeliveryMode.LOWEST_PRIORITY)
        if carries_vector and message.vector < FIRST_LEGAL_VECTOR:
            self._report_error(reg.ESR_SEND_ILLEGAL)
            return
        self.bus.send(message, shorthand, self)
