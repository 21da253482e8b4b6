"""Engines with one thing broken each, to see that the comparison notices."""

from vtx.engine.reference import Reference
from vtx.isa.layout import SLOTS
from vtx.isa.program import Flush, Service
from vtx.machine.cpu import Cpu

_AF, _RETIRED, _CR2 = SLOTS["af"], SLOTS["retired"], SLOTS["cr2"]


class LosesFlag(Reference):
    """AF is lost behind a block of several instructions."""

    def run_block(self, room: int) -> bool:
        before = self.cpu.words[_RETIRED]
        left = super().run_block(room)
        if self.cpu.words[_RETIRED] > before + 2:
            self.cpu.words[_AF] = 0
        return left


class LateInterrupt(Reference):
    """An interrupt is delivered one instruction late."""

    def deliver(self, routine: str, *args: int) -> None:
        if routine == "deliver_interrupt":
            super().run_block(1)
        super().deliver(routine, *args)


class IgnoresNewCode(Reference):
    """A write into code changes nothing that is already translated."""

    def _depend(self, *what: object) -> None:
        """Nothing is watched for what is translated."""


class KeepsTranslations(Reference):
    """INVLPG and loads of CR3 leave the TLB as it was."""

    def __init__(self, cpu: Cpu, features: frozenset[str]) -> None:
        cpu.services[Service.FLUSH_TLB] = self._flush
        super().__init__(cpu, features)

    def _flush(self, kind: int, first: int, second: int) -> None:
        if kind not in (Flush.PAGE, Flush.PCID_LOCAL, Flush.LOCAL):
            self.cpu.flush(kind, first, second)


class MiscountsFaults(Reference):
    """An instruction that faults counts as retired."""

    def settle(self, status: int) -> None:
        if status == 1:
            self.cpu.words[_RETIRED] += 1
        super().settle(status)


class RunsOver(Reference):
    """A block is not cut short where the budget ends."""

    def run_block(self, room: int) -> bool:
        return super().run_block(room + 3)


class ForgetsCr2(Reference):
    """CR2 is rounded down to its page."""

    def settle(self, status: int) -> None:
        super().settle(status)
        self.cpu.words[_CR2] &= ~0xFFF


BROKEN = (LosesFlag, LateInterrupt, IgnoresNewCode, KeepsTranslations, MiscountsFaults, RunsOver,
          ForgetsCr2)  # fmt: skip
