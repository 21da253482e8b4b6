"""A virtual machine: its own PC platform, memory and clock, and the vCPU's completing CPU.

It borrows the physical CPU while it runs; everything else is its own. It does not know how its
memory is virtualized.
"""

from vtx.engine.boundary import Boundary
from vtx.engine.choice import make_engine
from vtx.isa.layout import SLOTS
from vtx.machine.bus import FrameMap
from vtx.machine.code_watch import CodeWatch
from vtx.machine.computer import Computer, Sink, discard
from vtx.machine.cpu_model import CpuModel
from vtx.machine.memory import PhysicalMemory
from vtx.vmm.walk_memory import WalkMemory

_RETIRED, _IDLE = SLOTS["retired"], SLOTS["idle"]


class VirtualMachine:
    """One VM. Its clock counts what it retired and what was completed for it.

    `soft` is a CPU on the VM's own bus: it holds the vCPU's registers while Python completes an
    instruction, and its retired and idle words are the VM's clock.
    """

    def __init__(
        self,
        *,
        cpu: CpuModel,
        ram_size: int,
        memory: PhysicalMemory,
        frames: FrameMap,
        code: CodeWatch,
        serial: Sink = discard,
        engine: str = "reference",
    ) -> None:
        self.frames = frames
        self.computer = Computer(
            cpu=cpu, ram_size=ram_size, memory=memory, frames=frames,
            serial=serial, code=code,
        )  # fmt: skip
        self.platform = self.computer.platform
        self.soft = self.computer.cpu
        self.engine = make_engine(engine, self.soft, self.computer.features)
        WalkMemory(self.soft)
        self._boundary = Boundary(self.engine, None)

    @property
    def bus_size(self) -> int:
        return self.platform.ram_size

    # --- the VM's clock ----------------------------------------------------------------------
    @property
    def now(self) -> int:
        """The VM's virtual time."""
        return self.soft.now()

    @property
    def retired(self) -> int:
        return self.soft.words[_RETIRED]

    def count_retired(self, instructions: int) -> None:
        """The guest retired `instructions` in VMX non-root operation."""
        self.soft.words[_RETIRED] += instructions

    def skip_idle_to(self, time: int) -> None:
        """The vCPU sleeps until `time`."""
        self.soft.words[_IDLE] += max(0, time - self.now)

    # --- completing --------------------------------------------------------------------------
    def complete_instruction(self) -> None:
        """Run one instruction of the vCPU in the completing CPU, faults and traps included.

        Its registers must have been loaded into `soft`. What its translations assume may have
        changed since the last time, so no translation is kept across calls unlooked at.
        """
        self.soft.tlb.flush()
        self.soft.switch_context()
        self.engine.settle(0)
        self._boundary.step()

    def translate(self, gva: int, access: int) -> tuple[int, int] | None:
        """The guest's own translation of `gva`, accessed and dirty flags set as by hardware.

        None: it faults; the fault's slots are filled.
        """
        return self.soft.translator(gva, access)
