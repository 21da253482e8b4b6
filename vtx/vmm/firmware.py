"""A guest under the VMM in assembly (firmware/), which runs in VMX root mode on the emulated CPU.

The machine gets more memory than the guest: the VMM is booted as an image with VMX shown, the
guest's image is its first module, and the guest's memory is a piece of the machine's. Python
starts the machine, looks at it from outside (vtx.vmm.root_view) and names how it ended; it
handles no exit. It does not know how the VMM does its work, only some of its symbols.
"""

from collections.abc import Callable

from vtx.engine.choice import CODE_CACHE, make_engine
from vtx.engine.run import Ended, Runner
from vtx.machine.bus import Bus, PcFrames
from vtx.machine.computer import Computer, Sink, apply_boot_state
from vtx.machine.cpu_model import CpuModel
from vtx.machine.loader import BootState, load_image
from vtx.machine.memory import PhysicalMemory
from vtx.machine.memory_map import MIB, PAGE_SIZE, RAM_HOLE_BASE
from vtx.spec import SpecError, exit_reason
from vtx.trace import Event
from vtx.vmm.ending import Ending, requested
from vtx.vmm.root_view import TRIPLE_FAULT, GuestRegisters, RootObserver, RootPort
from vtx.vmm.session import guest_registers, hash_memory

ENTRY_FAILED, NO_ANSWER, HALTED = 1, 2, 4
"""Values of the VMM's `monitor_verdict`; see firmware/shutdown.inc."""
_REASONS = 70
_LOW_MEMORY, _POOL_PAGES = 2 * MIB, 64
"""Room for the loader's data and the VMM, and page tables that are not counted by size."""


class FirmwareError(Exception):
    """The VMM in assembly cannot run this; one line that says why."""


def host_memory(ram_size: int, module_bytes: int) -> int:
    """Bytes of the machine: the VMM, the modules, the guest's memory, its EPT."""
    tables = (ram_size // (PAGE_SIZE * 512) + _POOL_PAGES) * PAGE_SIZE
    return -(-(_LOW_MEMORY + module_bytes + ram_size + tables) // MIB) * MIB


class FirmwareSession:
    """One guest under firmware/."""

    def __init__(
        self,
        firmware: bytes,
        image: bytes,
        *,
        name: str,
        cpu: CpuModel,
        ram_size: int,
        command_line: str,
        modules: tuple[tuple[bytes, str], ...],
        serial: Sink,
        trace: Callable[[Event], None] | None,
        engine: str,
        code_cache: int = CODE_CACHE,
    ) -> None:
        """Load everything. Raises ImageError and FirmwareError."""
        guest = _check_guest(image, name, command_line, modules, ram_size)
        parts = ((image, command_line), *modules)
        size = host_memory(ram_size, sum(len(data) + PAGE_SIZE for data, _ in parts))
        if size > RAM_HOLE_BASE:
            raise FirmwareError(f"-m {ram_size >> 20}M: the VMM and its guest must fit in 3 GiB")
        self._ram_size = ram_size
        self._log = bytearray()
        self.computer = Computer(
            cpu=cpu, ram_size=size, vmx=True, serial=serial, debug=self._log.extend
        )
        bus = self.computer.platform.bus
        boot = load_image(
            firmware, bus, command_line=f"memory={ram_size}", modules=parts, ram_size=size,
            name="firmware/firmware.s",
        )  # fmt: skip
        apply_boot_state(self.computer.cpu, boot)
        self.engine = make_engine(
            engine, self.computer.cpu, self.computer.features, code_cache=code_cache
        )
        self.walks = self.computer.cpu.walks
        self.port = RootPort(self.computer, self.engine, boot.symbols)
        self.observer: RootObserver | None = None
        if trace is not None:
            self.observer = RootObserver(self.port, ram_size, guest.symbols, trace)
        self._runner = Runner(self.engine, self.computer.platform)

    @property
    def retired(self) -> int:
        return self.port.retired

    def run(self, instructions: int | None) -> Ending | None:
        """See Session. What the VMM has begun at the limit it brings to its next VM entry, for
        only then is the guest's state in one piece."""
        cpu = self.computer.cpu
        while True:
            room = 1 << 62 if instructions is None else instructions - self.retired
            if room <= 0 and self.port.guest_runs:
                return None
            ended = self._runner.run(cpu.now() + max(room, 1))
            if ended is not Ended.LIMIT:
                if self.observer is not None:
                    self.observer.finish()
                return self._ending(ended)

    def _ending(self, ended: Ended) -> Ending:
        request = self.computer.platform.stop_request
        if ended is Ended.STOP and request is not None:
            return requested(request)
        verdict = self.port.word("monitor_verdict", 8)
        if ended is Ended.HALTED and verdict == HALTED:
            return Ending("halted")
        if ended is Ended.HALTED and verdict == TRIPLE_FAULT:
            rip = self.port.vmread("GUEST_RIP")
            return Ending("triple_fault", message=f"triple fault at rip {rip:#x}")
        said = self._log.decode("ascii", "replace")
        if ended is Ended.HALTED and verdict == ENTRY_FAILED:
            return Ending("entry_failed", message=f"--vmm firmware: {said}")
        if ended is not Ended.HALTED or verdict != NO_ANSWER:
            rip = self.computer.cpu.state.read("rip")
            said = f"the VMM itself ended in {ended.value} at rip {rip:#x}"
        return Ending("vmm_error", message=f"--vmm firmware: {said}")

    def registers(self) -> dict[str, int]:
        return guest_registers(GuestRegisters(self.port))

    def memory_sha256(self) -> str:
        return hash_memory(self._guest_bus(), self._ram_size)

    def memory(self, gpa: int, count: int) -> bytes:
        return self._guest_bus().read_bytes(gpa, count)

    def _guest_bus(self) -> Bus:
        frames = PcFrames(self._ram_size, self.port.word("guest_base"))
        return Bus(self.computer.memory, frames)

    def exits(self) -> dict[str, int]:
        """Exits by reason as the VMM has counted them, most frequent first."""
        first = self.port.symbols.address_of("exit_counts")
        assert first is not None
        counts = {}
        for number in range(_REASONS):
            count = self.computer.memory.load(first + 8 * number, 64)
            if count:
                counts[_reason(number)] = count
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    @property
    def problem(self) -> str | None:
        return self.engine.problem

    def receive(self, data: bytes) -> None:
        self.computer.platform.uart.receive(data)


def _reason(number: int) -> str:
    try:
        return exit_reason(number).name
    except SpecError:
        return f"REASON_{number}"


def _check_guest(
    image: bytes,
    name: str,
    command_line: str,
    modules: tuple[tuple[bytes, str], ...],
    ram_size: int,
) -> BootState:
    """What vtx's own loader makes of the guest: an image that no style boots is told as in any
    other, and its symbols name places in traces. Raises ImageError and FirmwareError."""
    bus = Bus(PhysicalMemory(max(PAGE_SIZE, ram_size)), PcFrames(ram_size))
    boot = load_image(
        image, bus, command_line=command_line, modules=modules, ram_size=ram_size, name=name
    )
    if boot.protocol == "pvh":
        raise FirmwareError(f"{name}: boots by PVH, which the VMM in assembly does not know")
    return boot
