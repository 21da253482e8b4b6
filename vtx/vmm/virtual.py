"""A guest run under a VMM: physical machine, VM and VMM put together as a session."""

from collections.abc import Callable
from dataclasses import dataclass

from vtx.engine.choice import CODE_CACHE, completing, make_engine
from vtx.machine.computer import Computer, Sink, apply_boot_state
from vtx.machine.cpu_model import CpuModel
from vtx.machine.loader import BootState, load_image
from vtx.machine.memory import PhysicalMemory
from vtx.machine.walk_counts import WalkCounts
from vtx.trace import Event
from vtx.vmm.base import Vmm
from vtx.vmm.ending import Ending
from vtx.vmm.frames import POOL_BYTES, FramePool, OutOfFramesError, ScatteredFrames
from vtx.vmm.observe import Observer
from vtx.vmm.port import Port, VmxError
from vtx.vmm.probing import GuestProbes, resolve_probes
from vtx.vmm.session import guest_registers, hash_memory
from vtx.vmm.vm import VirtualMachine

EventSink = Callable[[Event], None]
MEBIBYTE = 1 << 20
HOST_LOW = 2 * MEBIBYTE
"""Host memory below the guests' frames; nobody's."""


@dataclass
class VirtualSession:
    """One VM under one VMM."""

    vmm: Vmm
    vm: VirtualMachine
    walks: WalkCounts

    @classmethod
    def start(
        cls,
        style: type[Vmm],
        image: bytes,
        *,
        name: str,
        cpu: CpuModel,
        ram_size: int,
        command_line: str,
        modules: tuple[tuple[bytes, str], ...],
        serial: Sink,
        trace: EventSink | None,
        engine: str,
        code_cache: int = CODE_CACHE,
        probes: tuple[str, ...] = (),
    ) -> "VirtualSession":
        """Build host, VM and VMM, and load the image into the VM.

        Raises ImageError, and ProbeError for a probe that has no place.
        """
        unit = 1 << getattr(style, "page_shift", 12)
        frames = ScatteredFrames(ram_size, HOST_LOW + POOL_BYTES, unit)
        host_size = HOST_LOW + POOL_BYTES + frames.size
        computer = Computer(cpu=cpu, ram_size=host_size, memory=PhysicalMemory(host_size), vmx=True)
        executor = make_engine(engine, computer.cpu, computer.features, code_cache=code_cache)
        vm = VirtualMachine(
            cpu=cpu, ram_size=ram_size, memory=computer.memory, frames=frames,
            code=computer.cpu.code, serial=serial, engine=completing(engine),
        )  # fmt: skip
        boot = load_image(
            image, vm.platform.bus, command_line=command_line, modules=modules,
            ram_size=ram_size, name=name,
        )  # fmt: skip
        apply_boot_state(vm.soft, boot)
        pool = FramePool(computer.memory, HOST_LOW, POOL_BYTES)
        vmm = style(Port(computer, executor), vm, pool)
        vmm.start()
        session = cls(vmm, vm, computer.cpu.walks)
        if trace is not None:
            session.observe(trace, boot, probes)
        return session

    def observe(self, trace: EventSink, boot: BootState, probes: tuple[str, ...] = ()) -> None:
        """Write the VMM's exits and the hits of probes to a trace from now on."""
        vmm = self.vmm
        vmm.observer = Observer(trace, vmm.port, self.vm, vmm.vcpu, boot.symbols)
        if probes:
            places = resolve_probes(probes, boot.symbols)
            vmm.probes = GuestProbes(vmm.port, self.vm, vmm.vcpu, places, vmm.observer.probe)

    def run(self, instructions: int | None) -> Ending | None:
        try:
            return self.vmm.run(instructions)
        except (VmxError, OutOfFramesError) as error:
            return Ending("vmm_error", message=f"{self.vmm.name}: {error}")

    @property
    def retired(self) -> int:
        return self.vm.retired

    def registers(self) -> dict[str, int]:
        """The guest's registers; the completing CPU is brought up to date with them."""
        self.vmm.read_guest_state()
        return guest_registers(self.vm.soft.state)

    def memory_sha256(self) -> str:
        return hash_memory(self.vm.platform.bus, self.vm.platform.ram_size)

    def memory(self, gpa: int, count: int) -> bytes:
        return self.vm.platform.bus.read_bytes(gpa, count)

    @property
    def problem(self) -> str | None:
        return self.vmm.port.engine.problem

    def exits(self) -> dict[str, int]:
        """Exits by reason, most frequent first."""
        counts = self.vmm.exit_counts
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def receive(self, data: bytes) -> None:
        self.vm.platform.uart.receive(data)

    def shadow_statistics(self) -> dict[str, int] | None:
        return self.vmm.shadow_statistics()
