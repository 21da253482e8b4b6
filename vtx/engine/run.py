"""The loop that runs a CPU: blocks while nothing is due, events when they are.

It ends when the machine stops, the CPU sleeps for good, a VM exit reaches a VMM written in
Python, or virtual time reaches a limit. It knows neither the instruction set nor the VMM.
"""

from dataclasses import dataclass
from enum import Enum

from vtx.engine.boundary import (
    RFLAGS_IF,
    SHUTDOWN,
    WAIT_FOR_SIPI,
    Boundary,
    InterruptSource,
)
from vtx.engine.reference import Reference
from vtx.isa.layout import SLOTS

NEVER = 1 << 64
"""A time that does not come."""
_STOP, _ACTIVITY, _RFLAGS = SLOTS["stop"], SLOTS["activity"], SLOTS["rflags"]


class Ended(Enum):
    """Why `Runner.run` returned."""

    STOP = "stop"  # a device asked for it
    HALTED = "halted"  # asleep, and nothing can wake the CPU
    SHUTDOWN = "shutdown"  # triple fault
    VM_EXIT = "vm_exit"  # a VM exit to a VMM outside the emulated CPU
    LIMIT = "limit"  # virtual time reached the limit
    ASLEEP = "asleep"  # nothing to do now, but other CPUs may have


@dataclass(slots=True)
class Runner:
    """One CPU with its executor and its sources of events."""

    engine: Reference
    source: InterruptSource | None = None
    python_root: bool = False
    """VMX root mode is played by Python: leaving non-root operation ends the run."""
    takes_turns: bool = False
    """Other CPUs run while this one sleeps: falling asleep ends the run."""

    def run(self, limit: int) -> Ended:
        """Execute until something ends it, at the latest when now() reaches `limit`."""
        boundary = Boundary(self.engine, self.source)
        cpu, words = self.engine.cpu, self.engine.cpu.words
        self.engine.python_root, self.engine.source = self.python_root, self.source
        while True:
            if words[_STOP]:
                return Ended.STOP
            if self.python_root and words[SLOTS["vmx"]] != 2:
                return Ended.VM_EXIT
            if boundary.settle():
                continue
            if words[_ACTIVITY] == SHUTDOWN and words[SLOTS["vmx"]] != 2:
                return Ended.SHUTDOWN
            now = cpu.now()
            if now >= limit:
                return Ended.LIMIT
            deadline = boundary.deadline(limit)
            if boundary.asleep:
                if self.takes_turns:
                    return Ended.ASLEEP
                if self._sleeps_for_good(boundary):
                    return Ended.HALTED
                boundary.skip_idle(deadline)
                continue
            if boundary.slow:
                boundary.step()
                continue
            self._blocks(deadline)

    def _blocks(self, deadline: int) -> None:
        """Run blocks until `deadline` or until one of them may have changed what is due."""
        engine, cpu = self.engine, self.engine.cpu
        cpu.attention = False
        room = deadline - cpu.now()
        while room > 0:
            if engine.run_block(room) or cpu.attention:
                return
            room = deadline - cpu.now()

    def _sleeps_for_good(self, boundary: Boundary) -> bool:
        """Asleep with interrupts off, or with no event to come: nothing wakes the CPU."""
        return self._wakes_at(boundary) >= NEVER

    def _wakes_at(self, boundary: Boundary) -> int:
        words = self.engine.cpu.words
        if words[SLOTS["vmx"]] != 2 and not words[_RFLAGS] & RFLAGS_IF:
            return NEVER
        if words[_ACTIVITY] == WAIT_FOR_SIPI:  # of a guest, which only another CPU wakes
            return NEVER
        return boundary.deadline(NEVER)

    def wakes_at(self) -> int:
        """When time alone may wake the sleeping CPU; NEVER if it does not."""
        return self._wakes_at(Boundary(self.engine, self.source))
