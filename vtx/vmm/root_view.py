"""A VMM that runs on the emulated CPU, seen from outside: its guest's registers and its exits.

The guest's state is in the CPU while it runs, and while the VMM runs it is in the VMCS, in the
CPU registers that nobody saves, and in the words that the VMM's own symbols name. Exits are
seen when the instructions at those symbols retire. Nothing here changes the machine. It does not
know how the VMM answers an exit.
"""

from collections.abc import Callable

from vtx.engine.probes import Hit, Probes
from vtx.engine.reference import Reference
from vtx.isa.layout import GPR_NAMES, SLOTS
from vtx.machine.bus import PcFrames
from vtx.machine.computer import Computer
from vtx.machine.loader import SymbolTable
from vtx.spec import field, fields
from vtx.trace import Event, Interrupt
from vtx.vmm.exits import ENTRY_FAILURE, Exit, Resume
from vtx.vmm.observe import Observer
from vtx.vmm.port import Port
from vtx.vmm.vcpu import HELD_FIELDS, Vcpu
from vtx.vmm.vm import VirtualMachine
from vtx.vmx.vmcs import OFFSETS, VMCS_BYTES

_VMX, _ROOT, _NON_ROOT = SLOTS["vmx"], 1, 2
_DEADLINE, _VMCS = SLOTS["preemption_deadline"], SLOTS["vmcs_pointer"]
_SAVED_GPRS = tuple(f"guest_{name}" for name in GPR_NAMES)
_EVENT_TYPE = 0x700


class RootPort(Port):
    """The port of somebody who only looks: VMCS fields come from memory, words by symbol."""

    def __init__(self, computer: Computer, engine: Reference, symbols: SymbolTable) -> None:
        super().__init__(computer, engine)
        self.symbols = symbols
        self._vmcs_before = b""
        self.saved = True
        """The guest's general registers are in the VMM's memory, not in the CPU."""

    @property
    def guest_runs(self) -> bool:
        """The CPU is in VMX non-root operation."""
        return self.words[_VMX] == _NON_ROOT

    def word(self, name: str, width: int = 64) -> int:
        """The VMM's variable `name`."""
        hpa = self.symbols.address_of(name)
        assert hpa is not None, f"the VMM in firmware/ has no symbol {name}"
        return self.computer.memory.load(hpa, width)

    def vmread(self, name: str) -> int:
        return self.computer.memory.load(self.words[_VMCS] + OFFSETS[name], field(name).bits)

    def register(self, slot: str) -> int:
        if self.saved and f"guest_{slot}" in _SAVED_GPRS:
            return self.word(f"guest_{slot}")
        return super().register(slot)

    def record_writes(self) -> None:
        self._vmcs_before = self._vmcs()

    def recorded_writes(self) -> dict[str, int]:
        before, after = self._vmcs_before, self._vmcs()
        changed = {}
        for row in fields():
            at = OFFSETS[row.name]
            if before[at : at + 8] != after[at : at + 8]:
                changed[row.name] = int.from_bytes(after[at : at + row.bits // 8], "little")
        return changed

    def _vmcs(self) -> bytes:
        return self.computer.memory.read(self.words[_VMCS], VMCS_BYTES)

    @property
    def retired(self) -> int:
        """Guest instructions retired: what the VMM has counted and what runs now."""
        counted = self.word("guest_retired")
        if self.guest_runs:
            left = max(0, self.words[_DEADLINE] - self.now)
        elif self.word("guest_runs", 8):  # it has exited, or is about to be entered
            left = self.vmread("PREEMPTION_TIMER_VALUE")
        else:
            return counted
        return counted + self.word("timer_start") - left


class GuestRegisters:
    """What the guest would read of its registers now, by state slot."""

    def __init__(self, port: RootPort) -> None:
        self._port = port

    @property
    def rflags(self) -> int:
        port = self._port
        return port.cpu.state.rflags if port.guest_runs else port.vmread("GUEST_RFLAGS")

    def read(self, slot: str) -> int:
        """Slots as vtx.isa.layout names them."""
        port = self._port
        if slot in ("cr0", "cr4"):  # the VMM owns every bit: the guest reads the shadow
            return port.vmread(f"{slot.upper()}_READ_SHADOW")
        if slot == "tsc_adjust":
            return port.word("guest_tsc_adjust")
        if slot == "activity":
            if port.word("monitor_verdict", 8) == TRIPLE_FAULT:
                return 2
            return port.word("guest_halted", 8)
        if port.guest_runs:
            return port.cpu.state.read(slot)
        if slot == "efer":
            return port.vmread("GUEST_IA32_EFER")
        held = HELD_FIELDS.get(slot)
        return port.vmread(held) if held is not None else port.register(slot)


TRIPLE_FAULT = 3
"""`monitor_verdict` of a guest that triple-faulted."""


class RootObserver:
    """The exits of a VMM in VMX root mode as trace events.

    An exit is complete when the VMM is about to enter again; an interrupt is injected when it
    is queued for that entry.
    """

    def __init__(
        self, port: RootPort, ram_size: int, guest_symbols: SymbolTable,
        emit: Callable[[Event], None],
    ) -> None:  # fmt: skip
        self._port, self._emit = port, emit
        self._ram_size, self._symbols = ram_size, guest_symbols
        self._observer: Observer | None = None
        self._vm: VirtualMachine | None = None
        self._exit: Exit | None = None
        places = {"vm_exit": self._exited, "enter_guest": self._entering,
                  "queue_interrupt": self._queued}  # fmt: skip
        self._places: dict[int, Callable[[], None]] = {}
        for name, handler in places.items():
            gva = port.symbols.address_of(name)
            assert gva is not None, f"the VMM in firmware/ has no symbol {name}"
            self._places[gva] = handler
        port.engine.set_probes(Probes(self._places, self._hit))

    def _hit(self, hit: Hit) -> None:
        if self._port.words[_VMX] == _ROOT:  # the guest has the same linear addresses
            self._places[hit.gva]()

    def finish(self) -> None:
        """The run is over: an exit that was being handled is complete."""
        self._entering()

    def _exited(self) -> None:
        port = self._port
        port.saved = False
        vm, observer = self._looking_glass()
        for slot in ("cr0", "cr4"):
            vm.soft.state.write(slot, port.vmread(f"GUEST_{slot.upper()}"))
        vm.soft.state.write("efer", port.vmread("GUEST_IA32_EFER"))
        vm.count_retired(port.retired - vm.retired)
        self._exit = self._read_exit(vm)
        observer.before(self._exit)
        port.saved = True

    def _entering(self) -> None:
        if self._exit is None or self._observer is None:
            return
        self._observer.after(self._exit, Resume("handled in VMX root mode"))
        self._exit = None

    def _queued(self) -> None:
        info = self._port.words[SLOTS["rax"]]
        if not info & _EVENT_TYPE:
            retired, vector = self._port.retired, info & 0xFF
            self._emit(Interrupt(retired=retired, vector=vector, how="injected"))

    def _looking_glass(self) -> tuple[VirtualMachine, Observer]:
        """A VM over the guest's memory, by which instructions are found: it runs nothing."""
        if self._vm is None or self._observer is None:
            port, computer = self._port, self._port.computer
            frames = PcFrames(self._ram_size, port.word("guest_base"))
            self._vm = VirtualMachine(
                cpu=computer.model, ram_size=self._ram_size, memory=computer.memory,
                frames=frames, code=computer.cpu.code,
            )  # fmt: skip
            vcpu = Vcpu(port, self._vm.soft.state)
            self._observer = Observer(self._emit, port, self._vm, vcpu, self._symbols)
        return self._vm, self._observer

    def _read_exit(self, vm: VirtualMachine) -> Exit:
        read = self._port.vmread
        reason = read("EXIT_REASON")
        return Exit(
            reason=reason & 0xFFFF,
            failed_entry=bool(reason & ENTRY_FAILURE),
            qualification=read("EXIT_QUALIFICATION"),
            instruction_length=read("EXIT_INSTRUCTION_LENGTH"),
            instruction_info=read("EXIT_INSTRUCTION_INFO"),
            rip=read("GUEST_RIP"),
            gla=read("GUEST_LINEAR_ADDRESS"),
            gpa=read("GUEST_PHYSICAL_ADDRESS"),
            interruption_info=read("EXIT_INTERRUPTION_INFO"),
            interruption_error=read("EXIT_INTERRUPTION_ERROR_CODE"),
            idt_vectoring_info=read("IDT_VECTORING_INFO"),
            idt_vectoring_error=read("IDT_VECTORING_ERROR_CODE"),
            now=vm.retired + self._port.word("guest_idle"),
            retired=vm.retired,
        )


__all__ = ["GuestRegisters", "RootObserver", "RootPort"]
