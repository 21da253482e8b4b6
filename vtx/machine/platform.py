"""The whole PC around the CPUs: bus, devices and the wires between them.

It must not know what executes: CPUs come to it for the bus, interrupts, MSRs of the local
APIC and the time of the next event; it is told which of them runs. The physical machine and
every VM have one each.

Firmware is not run. Its work that kernels rely on is done here: ACPI tables and BIOS data in
memory, the PIC at vectors 8 and 0x70 with everything masked but the cascade, counter 0 of the
PIT at 18.2 Hz, the first local APIC enabled with the PIC on LINT0 and NMI on LINT1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

from vtx.machine.bus import Bus, FrameMap, PcFrames
from vtx.machine.devices import lapic_registers as reg
from vtx.machine.devices.acpi_pm import STATUS_PORT, TIMER_PORT, AcpiPm
from vtx.machine.devices.apic_messages import ApicBus
from vtx.machine.devices.debug_ports import (
    DEBUG_EXIT_PORT,
    DEBUG_EXIT_SIZE,
    DEBUGCON_PORT,
    DebugConsole,
    DebugExit,
)
from vtx.machine.devices.fw_cfg import DATA_PORT, SELECTOR_PORT, FwCfg
from vtx.machine.devices.ioapic import IoApic
from vtx.machine.devices.lapic import LocalApic
from vtx.machine.devices.lines import Wire
from vtx.machine.devices.pic import ELCR_PORT, MASTER_PORT, SLAVE_PORT, DualPic
from vtx.machine.devices.pit import FIRST_PORT, SYSTEM_CONTROL_PORT, Pit8254
from vtx.machine.devices.reset_ports import (
    COMMAND_PORT,
    PCI_CONFIG_PORT,
    SYSTEM_CONTROL_A_PORT,
    KeyboardController,
    PciConfigPorts,
    SystemControlA,
)
from vtx.machine.devices.reset_ports import DATA_PORT as KEYBOARD_DATA_PORT
from vtx.machine.devices.rtc import INDEX_PORT, Rtc
from vtx.machine.devices.timebase import Clock
from vtx.machine.devices.uart import COM1_PORT, PORT_COUNT, Uart16550
from vtx.machine.firmware_tables import write_firmware_tables
from vtx.machine.memory import PhysicalMemory
from vtx.machine.memory_map import IOAPIC_BASE, PAGE_SIZE
from vtx.spec.registers import MAXPHYADDR

IRQ_TIMER, IRQ_COM1, IRQ_RTC, IRQ_SCI = 0, 4, 8, 9
ISA_IRQS: Final = 16
TIMER_PIN: Final = 2  # where ISA IRQ 0 enters the IOAPIC

# What firmware writes, in order: both PICs to 8086 mode and masked, counter 0 in mode 2 with
# the largest count.
FIRMWARE_PORT_WRITES: Final = (
    (0x43, 0x34),
    (0x40, 0x00),
    (0x40, 0x00),
    (MASTER_PORT, 0x11),
    (SLAVE_PORT, 0x11),
    (MASTER_PORT + 1, 0x08),
    (SLAVE_PORT + 1, 0x70),
    (MASTER_PORT + 1, 0x04),
    (SLAVE_PORT + 1, 0x02),
    (MASTER_PORT + 1, 0x01),
    (SLAVE_PORT + 1, 0x01),
    (MASTER_PORT + 1, 0xFB),
    (SLAVE_PORT + 1, 0xFF),
)
FIRMWARE_LINT0, FIRMWARE_LINT1 = 0x700, 0x400  # ExtINT and NMI, unmasked
FIRMWARE_SVR: Final = 0x1FF
RESTARTED: Final = "reset: INIT sent the bootstrap processor to the reset vector"


@dataclass(frozen=True, slots=True)
class StopRequest:
    """Why the machine asks to stop. `code` is what was written to debug-exit, otherwise 0;
    `message` says more where the kind does not say enough."""

    kind: Literal["power_off", "debug_exit", "reset"]
    code: int = 0
    message: str | None = None


class _LapicWindow:
    """The page at which each CPU sees its own local APIC: whoever runs is `current`."""

    def __init__(self, current: LocalApic) -> None:
        self.current = current

    def load(self, offset: int, width_bits: int) -> int:
        return self.current.load(offset, width_bits)

    def store(self, offset: int, width_bits: int, value: int) -> None:
        self.current.store(offset, width_bits, value)


class Platform:
    """A PC with `ram_size` bytes of RAM and `cpu_count` local APICs.

    `frames` says which frames of `memory` hold the RAM (default: the PC layout from frame 0
    on). `serial` and `debug` take what COM1 and debugcon print.
    """

    def __init__(
        self,
        clock: Clock,
        memory: PhysicalMemory,
        *,
        ram_size: int,
        frames: FrameMap | None = None,
        cpu_count: int = 1,
        serial: Callable[[bytes], None] = lambda data: None,
        debug: Callable[[bytes], None] = lambda data: None,
        physical_bits: int = MAXPHYADDR,
    ) -> None:
        self.clock = clock
        self.ram_size = ram_size
        self.stop_request: StopRequest | None = None
        self.bus = Bus(memory, frames if frames is not None else PcFrames(ram_size))
        self.apic_bus = ApicBus()
        self.lapics = [
            LocalApic(clock, self.apic_bus, apic_id=cpu, physical_bits=physical_bits)
            for cpu in range(cpu_count)
        ]
        self.ioapic = IoApic(self.apic_bus)
        self.apic_bus.on_eoi = self.ioapic.end_of_interrupt
        self.intr = Wire(self.lapics[0].set_lint0)
        self.pic = DualPic(self.intr)
        self.irqs = [self._irq_wire(irq) for irq in range(ISA_IRQS)]
        self.nmi = Wire(*(lapic.set_lint1 for lapic in self.lapics))
        self._nmis = [False] * cpu_count

        self.pit = Pit8254(clock, self.irqs[IRQ_TIMER])
        self.rtc = Rtc(clock, self.irqs[IRQ_RTC], ram_size)
        self.uart = Uart16550(self.irqs[IRQ_COM1], serial)
        self.acpi = AcpiPm(clock, self.irqs[IRQ_SCI], partial(self._stop, "power_off"))
        self.fw_cfg = FwCfg(ram_size=ram_size, cpu_count=cpu_count)
        self.debug_console = DebugConsole(debug)
        self.debug_exit = DebugExit(partial(self._stop, "debug_exit"))
        reset = partial(self._stop, "reset")
        self.keyboard = KeyboardController(reset)
        self.system_control_a = SystemControlA(reset)
        self.pci_config = PciConfigPorts(reset)

        self._attach_ports()
        self._attach_memory()
        for cpu, lapic in enumerate(self.lapics):
            lapic.on_nmi = partial(self._raise_nmi, cpu)
        self._act_as_firmware()
        self.bus.synchronize = self._synchronize

    def _irq_wire(self, irq: int) -> Wire:
        pin = TIMER_PIN if irq == IRQ_TIMER else irq
        return Wire(partial(self.pic.set_irq, irq), partial(self.ioapic.set_pin, pin))

    def _attach_ports(self) -> None:
        attach = self.bus.attach_ports
        for port in (MASTER_PORT, SLAVE_PORT, ELCR_PORT):
            attach(port, 2, self.pic)
        attach(FIRST_PORT, 4, self.pit)
        attach(SYSTEM_CONTROL_PORT, 1, self.pit)
        attach(INDEX_PORT, 2, self.rtc)
        attach(COM1_PORT, PORT_COUNT, self.uart)
        attach(STATUS_PORT, 6, self.acpi, width_bits=16)
        attach(TIMER_PORT, 4, self.acpi, width_bits=32)
        attach(SELECTOR_PORT, 1, self.fw_cfg)
        attach(DATA_PORT, 1, self.fw_cfg)
        attach(DEBUGCON_PORT, 1, self.debug_console)
        attach(DEBUG_EXIT_PORT, DEBUG_EXIT_SIZE, self.debug_exit, width_bits=32)
        for port in (KEYBOARD_DATA_PORT, COMMAND_PORT):
            attach(port, 1, self.keyboard)
        attach(SYSTEM_CONTROL_A_PORT, 1, self.system_control_a)
        attach(PCI_CONFIG_PORT, 8, self.pci_config, width_bits=32)

    def _attach_memory(self) -> None:
        self.bus.attach_mmio(IOAPIC_BASE, PAGE_SIZE, self.ioapic)
        self.lapic_window = _LapicWindow(self.lapics[0])
        self._lapic_gpa: int | None = None
        for lapic in self.lapics:
            lapic.on_base_change = self._place_lapic
        self._place_lapic()

    def run_as(self, cpu: int) -> None:
        """`cpu` is the one that accesses the bus from now on: it sees its own local APIC."""
        self.lapic_window.current = self.lapics[cpu]
        self._place_lapic()

    def _place_lapic(self) -> None:
        """Follow IA32_APIC_BASE of the CPU that runs: each has its registers where it says."""
        gpa = self.lapic_window.current.mmio_gpa
        if gpa == self._lapic_gpa:
            return
        if self._lapic_gpa is not None:
            self.bus.detach_mmio(self._lapic_gpa, PAGE_SIZE)
            self.bus.attach_mmio(IOAPIC_BASE, PAGE_SIZE, self.ioapic)
        if gpa is not None:
            self.bus.attach_mmio(gpa, PAGE_SIZE, self.lapic_window)
        self._lapic_gpa = gpa

    def _act_as_firmware(self) -> None:
        write_firmware_tables(self.bus, cpu_count=len(self.lapics))
        for port, value in FIRMWARE_PORT_WRITES:
            self.bus.port_out(port, 8, value)
        first = self.lapics[0]
        first.store(reg.SVR << 4, 32, FIRMWARE_SVR)
        first.store(reg.LVT_LINT0 << 4, 32, FIRMWARE_LINT0)
        first.store(reg.LVT_LINT1 << 4, 32, FIRMWARE_LINT1)

    def _stop(self, kind: Literal["power_off", "debug_exit", "reset"], code: int = 0) -> None:
        if self.stop_request is None:
            self.stop_request = StopRequest(kind, code)

    def restart(self) -> None:
        """INIT for the bootstrap processor. It would start at the reset vector, where firmware
        would make a whole new start of it; there is none, so this is the machine's reset."""
        if self.stop_request is None:
            self.stop_request = StopRequest("reset", message=RESTARTED)

    # --- interrupts -----------------------------------------------------------------------

    def interrupt_pending(self, cpu: int = 0) -> bool:
        """Whether `cpu` would take an external interrupt now if it had interrupts enabled."""
        return self._extint_pending(cpu) or self.lapics[cpu].pending_vector() is not None

    def _extint_pending(self, cpu: int) -> bool:
        return cpu == 0 and self.intr.level and self.lapics[0].passes_extint()

    def acknowledge_interrupt(self, cpu: int = 0) -> int:
        """Take the pending interrupt: its vector. The PIC's request comes first, for it takes
        no part in the local APIC's priorities."""
        if self._extint_pending(cpu):
            return self.pic.acknowledge()
        return self.lapics[cpu].acknowledge()

    def _raise_nmi(self, cpu: int) -> None:
        self._nmis[cpu] = True

    def nmi_pending(self, cpu: int = 0) -> bool:
        """Whether an NMI waits for `cpu`; any number of requests are one NMI until taken."""
        return self._nmis[cpu]

    def take_nmi(self, cpu: int = 0) -> None:
        """The CPU delivers the waiting NMI."""
        self._nmis[cpu] = False

    # --- time -----------------------------------------------------------------------------

    def next_event(self) -> int | None:
        """The earliest time at which a device may change what interrupts a CPU, or None.

        Sources whose line is masked everywhere are left out: they are caught up with before
        any device is touched, so unmasking them later loses nothing. A CPU that halts while
        this is None halts for good.
        """
        return self._earliest([lapic.next_event() for lapic in self.lapics])

    def next_event_of(self, cpu: int) -> int | None:
        """The same for what may interrupt `cpu`: the local APICs of others do not count."""
        return self._earliest([self.lapics[cpu].next_event()])

    def _earliest(self, due: list[int | None]) -> int | None:
        if self._heard(IRQ_TIMER):
            due.append(self.pit.next_event())
        if self._heard(IRQ_RTC):
            due.append(self.rtc.next_event())
        if self._heard(IRQ_SCI):
            due.append(self.acpi.next_event())
        return min((time for time in due if time is not None), default=None)

    def _heard(self, irq: int) -> bool:
        """Whether a change of `irq` can be noticed through the PIC or the IOAPIC."""
        if self.ioapic.may_interrupt(TIMER_PIN if irq == IRQ_TIMER else irq):
            return True
        first = self.lapics[0]
        pic_heard = not first.enabled or not first.lvt[reg.LVT_LINT0] & reg.LVT_MASKED
        return pic_heard and self.pic.may_interrupt(irq)

    def advance(self, now: int) -> None:
        """Bring every device up to `now`. Calling it more often changes nothing."""
        self._advance_shared(now)
        for lapic in self.lapics:
            lapic.advance(now)

    def advance_of(self, cpu: int, now: int) -> None:
        """The same for what `cpu` can notice: local APICs of others may lag behind until they
        are looked at."""
        self._advance_shared(now)
        self.lapics[cpu].advance(now)

    def _advance_shared(self, now: int) -> None:
        self.pit.advance(now)
        self.rtc.advance(now)
        self.acpi.advance(now)

    def _synchronize(self) -> None:
        self.advance(self.clock.now())

    # --- local APIC as CPU registers --------------------------------------------------------

    def read_msr(self, index: int, cpu: int = 0) -> int | None:
        """RDMSR of a local APIC MSR (`handles_msr`); None is #GP(0)."""
        self._synchronize()
        return self.lapics[cpu].read_msr(index)

    def write_msr(self, index: int, value: int, cpu: int = 0) -> bool:
        """WRMSR of a local APIC MSR; False is #GP(0)."""
        self._synchronize()
        return self.lapics[cpu].write_msr(index, value)

    @staticmethod
    def handles_msr(index: int) -> bool:
        """Whether the MSR belongs to the local APIC."""
        x2apic = reg.X2APIC_FIRST_MSR <= index <= reg.X2APIC_LAST_MSR
        return x2apic or index in (reg.IA32_APIC_BASE, reg.IA32_TSC_DEADLINE)
