"""VMMs that are wrong in one place each, for `vtx compare` to find out.

Every class is a working style with one fault; `SkipsInvd` is right, as a control.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from vtx.vmm import Action, Complete, Ept, Exit, Inject, Resume, Shadow, Skip
from vtx.vmm.shadow_tables import NX, W

ALL_ONES = (1 << 64) - 1


def rewrite(vmm: Any, field: str, wrong: Callable[[int], int]) -> None:
    """Let every VMWRITE of `field` write something else."""
    vmwrite = vmm.port.vmwrite
    vmm.port.vmwrite = lambda name, value: vmwrite(name, wrong(value) if name == field else value)


# --- nested paging ---------------------------------------------------------------------------


class LateInterrupt(Ept):
    """Comes back for a due timer one instruction late."""

    def set_up(self) -> None:
        super().set_up()
        rewrite(self, "PREEMPTION_TIMER_VALUE", lambda value: value + 1)


class WrongFrame(Ept):
    """One page leads to its neighbour's frame."""

    def handle_ept_violation(self, exit: Exit) -> Action:
        if exit.gpa >> 12 != 0x402:
            return super().handle_ept_violation(exit)
        return super().handle_ept_violation(replace(exit, gpa=exit.gpa ^ 0x1000)) and self._map()

    def _map(self) -> Action:
        self.tables.map(0x402000, self.vm.frames.frame_of(0x403))
        return Resume()


class WrongLength(Ept):
    """Skips one byte too many."""

    def handle_invd(self, exit: Exit) -> Action:
        return Skip()

    def _apply(self, action: Action, exit: Exit) -> None:
        length = exit.instruction_length + isinstance(action, Skip)
        super()._apply(action, replace(exit, instruction_length=length))


class SkipsInvd(Ept):
    """INVD has no effect here: skipping it is right."""

    def handle_invd(self, exit: Exit) -> Action:
        return Skip()


class StaleInterruptibility(SkipsInvd):
    """The shadow of STI outlives the instruction that was skipped in it."""

    def set_up(self) -> None:
        super().set_up()
        self.events.end_shadow = lambda: None


class CpuidBit(Ept):
    """One bit of CPUID's EBX is flipped."""

    def handle_cpuid(self, exit: Exit) -> Action:
        self.complete(exit)
        self.port.set_register("rbx", self.port.register("rbx") ^ 1 << 7)
        return Resume()


class SignExtendedPort(Ept):
    """IN AL changes all of RAX."""

    def handle_io_instruction(self, exit: Exit) -> Action:
        self.complete(exit)
        is_in, is_byte = exit.qualification & 8, exit.qualification & 7 == 0
        if is_in and is_byte and self.port.register("rax") & 0x80:
            self.port.set_register("rax", self.port.register("rax") | ALL_ONES ^ 0xFF)
        return Resume()


class WidePort(Ept):
    """IN AX reads only AL."""

    def handle_io_instruction(self, exit: Exit) -> Action:
        before = self.port.register("rax")
        self.complete(exit)
        if exit.qualification & 0xF == 9:
            after = self.port.register("rax")
            self.port.set_register("rax", before & ~0xFF & ~0xFF00 | after & 0xFF)
        return Resume()


class TscOffset(Ept):
    """The guest's time-stamp counter is one ahead."""

    def set_up(self) -> None:
        super().set_up()
        rewrite(self, "TSC_OFFSET", lambda value: value + 1)


class Cr4Shadow(Ept):
    """The guest can see CR4.VMXE."""

    def set_up(self) -> None:
        super().set_up()
        rewrite(self, "CR4_READ_SHADOW", lambda value: value | 1 << 13)


class LostMsrWrite(Ept):
    """WRMSR is skipped."""

    def handle_wrmsr(self, exit: Exit) -> Action:
        return Skip()


class NotCounted(Ept):
    """A completed CPUID does not count as retired."""

    def handle_cpuid(self, exit: Exit) -> Action:
        self.complete(exit)
        self.vm.count_retired(-1)
        return Resume()


class LostEvent(Ept):
    """An event whose delivery exited is forgotten."""

    def set_up(self) -> None:
        super().set_up()
        self.events.redeliver = lambda exit: None


# --- shadow paging ---------------------------------------------------------------------------


class _WithFlag(Shadow):
    """Takes `lost` back out of the guest's page-table entry after filling from it."""

    lost = 0

    def _map(self, gva: int, gpn: int) -> bool:
        writable = super()._map(gva, gpn)
        if self._chain and gva >> 39 == 1:
            gpa, width = self._chain[-1]
            bus = self.vm.platform.bus
            bus.store(gpa, width, bus.load(gpa, width) & ~self.lost)
        return writable


class LostDirty(_WithFlag):
    """The guest never sees a dirty flag."""

    lost = 1 << 6


class LostAccessed(_WithFlag):
    """The guest never sees an accessed flag."""

    lost = 1 << 5


class _WithLeaves(Shadow):
    """Leaves are changed on their way into the hardware's tables."""

    def leaf(self, entry: int) -> int:
        return entry

    def set_up(self) -> None:
        super().set_up()
        enter = self.tree.map
        self.tree.map = lambda space, gva, entry, gpn: enter(space, gva, self.leaf(entry), gpn)


class ExtraRight(_WithLeaves):
    """Every page is writable."""

    def leaf(self, entry: int) -> int:
        return entry | W


class NoNx(_WithLeaves):
    """Every page is executable."""

    def leaf(self, entry: int) -> int:
        return entry & ~NX


class WrongShadowFrame(_WithLeaves):
    """Every page of the guest's own leads one frame too far."""

    def set_up(self) -> None:
        super().set_up()
        frame_of = self.vm.frames.frame_of
        self.wrong = {frame_of(0x400): frame_of(0x404)}

    def leaf(self, entry: int) -> int:
        frame = entry & 0x7F_FFFF_F000
        return entry ^ frame | self.wrong.get(frame, frame)


class UnseenWrites(Shadow):
    """Pages that hold page tables stay writable, and nobody looks whether they change."""

    def _track(self, gpn: int) -> None:
        self.sources.tracked = lambda gpn: False


class StaleShadow(Shadow):
    """A leaf whose page-table entry changed stays, even after INVLPG."""

    def _zap(self, name: tuple[int, int]) -> None:
        pass


class WrongErrorCode(Shadow):
    """A page fault says user where the kernel was at fault."""

    def _true_fault(self, exit: Exit) -> Action:
        action = super()._true_fault(exit)
        assert isinstance(action, Inject)
        return replace(action, error_code=(action.error_code or 0) ^ 4)


class LostCr2(Shadow):
    """A page fault does not say where."""

    def _true_fault(self, exit: Exit) -> Action:
        action = super()._true_fault(exit)
        return replace(action, cr2=None) if isinstance(action, Inject) else Complete()


class LateShadowInterrupt(Shadow):
    """Comes back for a due timer one instruction late."""

    def set_up(self) -> None:
        super().set_up()
        rewrite(self, "PREEMPTION_TIMER_VALUE", lambda value: value + 1)
