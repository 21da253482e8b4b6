"""Several CPUs of one machine take turns, in the order of their numbers.

A turn ends after a fixed number of instructions, or when the CPU falls asleep; a CPU that sleeps
is passed over. One CPU runs at any time, so whatever an instruction does is seen whole by the
others, and time is the same for all: `now` is what all CPUs have retired, and time in which all
of them slept. It does not know what a CPU executes, nor who may interrupt it.
"""

from collections.abc import Sequence

from vtx.engine.run import NEVER, Ended, Runner
from vtx.isa.layout import SLOTS
from vtx.machine.computer import Computer
from vtx.spec import turn_instructions

_RETIRED, _IDLE = SLOTS["retired"], SLOTS["idle"]
_MOST_VAIN_EVENTS = 1 << 16
"""Events in a row after which nobody woke, before the machine counts as halted for good: a timer
may go on interrupting a CPU that has interrupts disabled."""


class RoundRobin:
    """The CPUs of `computer`, each with its runner (`takes_turns` set).

    It may be run in pieces of any size: a turn goes on where it was interrupted.
    """

    def __init__(self, computer: Computer, runners: Sequence[Runner]) -> None:
        self._computer, self._runners = computer, runners
        self._turn = turn_instructions()
        self._left = self._turn
        self.current = 0
        """Number of the CPU whose turn it is."""
        self._sleepers = 0
        """CPUs that were found asleep since the last one that was not."""
        self._vain = 0

    @property
    def retired(self) -> int:
        """Instructions retired by all CPUs."""
        return sum(cpu.words[_RETIRED] for cpu in self._computer.cpus)

    def run(self, room: int) -> Ended:
        """Execute at most `room` instructions in all; LIMIT when that many were executed."""
        while room > 0:
            cpu, runner = self._computer.cpus[self.current], self._runners[self.current]
            before = cpu.words[_RETIRED]
            ended = runner.run(cpu.now() + min(self._left, room))
            done = cpu.words[_RETIRED] - before
            room -= done
            self._left -= done
            if done:
                self._sleepers = self._vain = 0
            if ended is Ended.ASLEEP:
                self._sleepers += 1
                if self._sleepers >= len(self._runners) and not self._sleep():
                    return Ended.HALTED
                self._pass_on()
            elif ended is not Ended.LIMIT:
                return ended
            elif not self._left:
                self._pass_on()
        return Ended.LIMIT

    def _pass_on(self) -> None:
        """The next CPU's turn, at the same time."""
        self.current = (self.current + 1) % len(self._runners)
        self._left = self._turn
        self._computer.run_as(self.current)

    def _sleep(self) -> bool:
        """All CPUs sleep: let time pass until something may wake one. False if nothing will."""
        due = min(runner.wakes_at() for runner in self._runners)
        self._vain += 1
        if due >= NEVER or self._vain > _MOST_VAIN_EVENTS:
            return False
        cpu = self._computer.cpus[self.current]
        cpu.words[_IDLE] += max(0, due - cpu.now())
        self._sleepers = 0
        return True
