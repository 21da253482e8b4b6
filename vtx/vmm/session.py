"""A guest being run in one style: started once, run in pieces, looked at in between.

`Session` is what launching and comparing need of a run; `BareSession` is the machine without a
VMM. The VMM's session is in vtx.vmm.virtual.
"""

from collections.abc import Callable
from hashlib import sha256
from typing import Protocol

from vtx.engine.boundary import InterruptSource
from vtx.engine.choice import CODE_CACHE, make_engine
from vtx.engine.run import Ended, Runner
from vtx.isa.layout import GPR_NAMES, SEGMENT_NAMES
from vtx.machine.bus import Bus
from vtx.machine.computer import Computer, apply_boot_state
from vtx.machine.loader import BootState
from vtx.machine.platform import Platform
from vtx.trace import Event, Interrupt
from vtx.vmm.ending import Ending, requested
from vtx.vmm.explain import explain_root_failure
from vtx.vmm.probing import probe_bare, resolve_probes

_HASH_CHUNK = 1 << 20


class Session(Protocol):
    """One run of one guest."""

    def run(self, instructions: int | None) -> Ending | None:
        """Run until the guest has retired `instructions` in all (None: no limit).

        None when the limit was reached; the run can then go on.
        """
        ...

    @property
    def retired(self) -> int:
        """Guest instructions retired so far."""
        ...

    def registers(self) -> dict[str, int]:
        """The guest's registers as it reads them."""
        ...

    def memory_sha256(self) -> str:
        """Hash of guest memory from 0 to its size."""
        ...

    def memory(self, gpa: int, count: int) -> bytes: ...

    def exits(self) -> dict[str, int]: ...

    @property
    def problem(self) -> str | None:
        """Why the executor had to run something more slowly than it should, if so."""
        ...

    def receive(self, data: bytes) -> None:
        """Console input."""
        ...


_READ = (
    *GPR_NAMES, "rip", "cr0", "cr2", "cr3", "cr4", "efer", "dr0", "dr1", "dr2", "dr3", "dr6",
    "dr7", "star", "lstar", "cstar", "fmask", "kernel_gs_base", "sysenter_cs", "sysenter_esp",
    "sysenter_eip", "pat", "tsc_aux", "tsc_adjust", "gdtr_base", "gdtr_limit", "idtr_base",
    "idtr_limit", "interruptibility", "activity",
    *(f"{segment}_{part}" for segment in SEGMENT_NAMES for part in ("sel", "base", "limit", "ar")),
)  # fmt: skip


class Readable(Protocol):
    """Registers by their state slots, wherever they are."""

    @property
    def rflags(self) -> int: ...

    def read(self, slot: str) -> int: ...


def guest_registers(state: Readable) -> dict[str, int]:
    """Everything a guest can read of its own registers, by name."""
    values = {name: state.read(name) for name in _READ}
    values["rflags"] = state.rflags
    for segment in SEGMENT_NAMES:
        if values[f"{segment}_ar"] & (1 << 16):  # hidden parts of an unusable register mean nothing
            values[f"{segment}_limit"] = 0
            values[f"{segment}_ar"] = (1 << 16) | (values[f"{segment}_ar"] & 0x60)
    return values


def hash_memory(bus: Bus, size: int) -> str:
    """SHA-256 of the RAM behind `bus` from 0 to `size`, as the guest addresses it."""
    digest = sha256()
    for gpa in range(0, size, _HASH_CHUNK):
        digest.update(bus.read_bytes(gpa, min(_HASH_CHUNK, size - gpa)))
    return digest.hexdigest()


class Observed:
    """A source of interrupts, with each one that CPU number `vcpu` takes noted in a trace.

    `retired` are the instructions that the machine has retired.
    """

    def __init__(
        self, source: InterruptSource, trace: Callable[[Event], None], retired: Callable[[], int],
        vcpu: int = 0,
    ) -> None:  # fmt: skip
        self._source, self._trace, self._retired, self._vcpu = source, trace, retired, vcpu
        self.interrupt_pending = source.interrupt_pending
        self.nmi_pending, self.take_nmi = source.nmi_pending, source.take_nmi
        self.next_event, self.advance = source.next_event, source.advance

    def acknowledge_interrupt(self) -> int:
        vector = self._source.acknowledge_interrupt()
        self._trace(Interrupt(retired=self._retired(), vector=vector, vcpu=self._vcpu))
        return vector


class MachineSession:
    """What sessions on the physical machine have in common, however many CPUs it has."""

    def __init__(self, computer: Computer) -> None:
        self.computer = computer

    @property
    def platform(self) -> Platform:
        return self.computer.platform

    def _ending(self, ended: Ended, where: str) -> Ending:
        """`where` names the instruction at which the machine ended."""
        request = self.platform.stop_request
        if ended is Ended.STOP and request is not None:
            return requested(request)
        if ended is Ended.SHUTDOWN:
            return Ending("triple_fault", message=f"triple fault {where}")
        return Ending("halted")

    def memory_sha256(self) -> str:
        return hash_memory(self.platform.bus, self.platform.ram_size)

    def memory(self, gpa: int, count: int) -> bytes:
        return self.platform.bus.read_bytes(gpa, count)

    def exits(self) -> dict[str, int]:
        return {}

    def receive(self, data: bytes) -> None:
        self.platform.uart.receive(data)


class BareSession(MachineSession):
    """The guest on the physical machine itself, which has one CPU."""

    def __init__(
        self,
        computer: Computer,
        boot: BootState,
        *,
        engine: str = "reference",
        code_cache: int = CODE_CACHE,
        trace: Callable[[Event], None] | None = None,
        probes: tuple[str, ...] = (),
    ) -> None:
        """`probes` are reported to `trace`. Raises ProbeError for one that has no place."""
        super().__init__(computer)
        apply_boot_state(computer.cpu, boot)
        self.engine = make_engine(engine, computer.cpu, computer.features, code_cache=code_cache)
        self.walks = computer.cpu.walks
        source: InterruptSource = computer.platform
        if trace is not None:
            source = Observed(source, trace, lambda: self.retired)
            if probes:
                probe_bare(self.engine, resolve_probes(probes, boot.symbols), trace)
        self._runner = Runner(self.engine, source)

    @property
    def retired(self) -> int:
        return self.computer.cpu.state.read("retired")

    def run(self, instructions: int | None) -> Ending | None:
        cpu = self.computer.cpu
        while instructions is None or self.retired < instructions:
            room = 1 << 62 if instructions is None else instructions - self.retired
            ended = self._runner.run(cpu.now() + room)
            if ended is not Ended.LIMIT:
                return self._ending(ended, f"at rip {cpu.state.read('rip'):#x}")
        return None

    def registers(self) -> dict[str, int]:
        return guest_registers(self.computer.cpu.state)

    @property
    def problem(self) -> str | None:
        return self.engine.problem

    def failed_entry(self) -> str | None:
        """One line if the guest is a VMM whose last VM entry failed: which rule refused it."""
        return explain_root_failure(self.computer, self.engine)
