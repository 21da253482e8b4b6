"""How a run ends, and the exit status that says so to a shell."""

from dataclasses import dataclass
from typing import Literal

from vtx.machine.platform import StopRequest

How = Literal[
    "power_off", "halted", "debug_exit", "reset", "triple_fault", "entry_failed", "vmm_error",
    "budget", "interrupted",
]  # fmt: skip

_STATUS: dict[str, int] = {
    "power_off": 0, "halted": 0, "reset": 0, "triple_fault": 4, "entry_failed": 6,
    "vmm_error": 8, "budget": 124, "interrupted": 130,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a run is over. `code` is what the guest wrote to debug-exit."""

    how: How
    code: int = 0
    message: str | None = None
    """One line for people, where the end is not a good one."""

    @property
    def exit_status(self) -> int:
        """Exit status of `vtx run` (debug-exit as QEMU's isa-debug-exit computes it)."""
        if self.how == "debug_exit":
            return ((self.code << 1) | 1) & 0xFF
        return _STATUS[self.how]


def requested(request: StopRequest) -> Ending:
    """The ending a device asked for."""
    return Ending(request.kind, request.code, request.message)
