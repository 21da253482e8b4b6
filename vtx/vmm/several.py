"""A guest on the physical machine itself, which has several CPUs.

It puts together executors, turns and the trace; who runs when is `engine.round_robin`'s business.
In a trace `retired` counts what all CPUs have retired, and `vcpu` is the number of one.
"""

from collections.abc import Callable

from vtx.engine.boundary import InterruptSource
from vtx.engine.choice import CODE_CACHE, make_engines
from vtx.engine.probes import Hit, Probes
from vtx.engine.round_robin import RoundRobin
from vtx.engine.run import Ended, Runner
from vtx.isa.layout import SLOTS
from vtx.machine.computer import Computer, apply_boot_state
from vtx.machine.cpu_events import CpuEvents
from vtx.machine.loader import BootState
from vtx.machine.signals import Kind
from vtx.machine.walk_counts import WalkCounts
from vtx.trace import Event, Probe, Startup
from vtx.vmm.ending import Ending
from vtx.vmm.probing import Places, resolve_probes
from vtx.vmm.session import MachineSession, Observed, guest_registers

_RETIRED = SLOTS["retired"]
_UNLIMITED = 1 << 62


class SmpSession(MachineSession):
    """The image is started on the first CPU; what starts the others is its own business."""

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
        places = resolve_probes(probes, boot.symbols) if trace is not None else {}
        self.engines = make_engines(engine, computer.cpus, computer.features, code_cache=code_cache)
        runners = []
        for index, executor in enumerate(self.engines):
            source: InterruptSource = CpuEvents(computer.platform, index)
            if trace is not None:
                source = Observed(source, trace, lambda: self.retired, index)
                self._note_signals(index, trace)
                if places:
                    executor.set_probes(self._probes(index, places, trace))
            runners.append(Runner(executor, source, takes_turns=True))
        self._turns = RoundRobin(computer, runners)

    def _note_signals(self, index: int, trace: Callable[[Event], None]) -> None:
        """Trace what initializes and starts a CPU."""

        def taken(kind: Kind, vector: int) -> None:
            trace(Startup(retired=self.retired, how=kind, vector=vector, vcpu=index))

        self.computer.cpus[index].signals.on_taken = taken

    def _probes(self, index: int, places: Places, trace: Callable[[Event], None]) -> Probes:
        """Probes of one CPU; its own count of instructions becomes the machine's."""

        def report(hit: Hit) -> None:
            others = sum(
                cpu.words[_RETIRED] for n, cpu in enumerate(self.computer.cpus) if n != index
            )
            trace(
                Probe(
                    retired=hit.retired + others, rip=hit.rip, symbol=places[hit.gva],
                    cr3=hit.cr3, vcpu=index,
                )
            )  # fmt: skip

        return Probes(places, report)

    @property
    def retired(self) -> int:
        return self._turns.retired

    def run(self, instructions: int | None) -> Ending | None:
        while instructions is None or self.retired < instructions:
            room = _UNLIMITED if instructions is None else instructions - self.retired
            ended = self._turns.run(room)
            if ended is not Ended.LIMIT:
                number = self._turns.current
                rip = self.computer.cpus[number].state.read("rip")
                return self._ending(ended, f"of CPU {number} at rip {rip:#x}")
        return None

    def registers(self) -> dict[str, int]:
        """Those of the first CPU by their names, those of the others as `cpuN.NAME`."""
        first, *others = (guest_registers(cpu.state) for cpu in self.computer.cpus)
        for number, registers in enumerate(others, 1):
            first |= {f"cpu{number}.{name}": value for name, value in registers.items()}
        return first

    @property
    def walks(self) -> WalkCounts:
        """Page walks of all CPUs."""
        total = WalkCounts()
        for cpu in self.computer.cpus:
            total.add(cpu.walks)
        return total

    @property
    def problem(self) -> str | None:
        return next((engine.problem for engine in self.engines if engine.problem), None)
