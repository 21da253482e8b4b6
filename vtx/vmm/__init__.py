"""Virtual machine monitors: the port to the CPU, the base loop, and one file per style.

Reading order: ending, port, exits, frames, vm, vcpu, base, ept, shadow, session, launch,
compare. A VMM here is root-mode software played by Python: it works the CPU only through VMX
instructions, registers and memory. To write your own, subclass `Ept` or `Shadow` (or `Vmm`)
and override `handle_<reason>`.
"""

from vtx.vmm.base import Vmm
from vtx.vmm.ept import Ept
from vtx.vmm.exits import Action, Complete, Exit, Inject, Resume, Skip, Stop
from vtx.vmm.shadow import Shadow

__all__ = [
    "Action", "Complete", "Ept", "Exit", "Inject", "Resume", "Shadow", "Skip", "Stop", "Vmm",
]  # fmt: skip
