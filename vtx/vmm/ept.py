"""VT-x with nested paging: the guest's own page tables run on extended page tables.

The guest keeps CR3, its page tables and its page faults to itself. The VMM builds EPT from
guest-physical to host frames, a page when it is first touched; device pages stay out of it,
so that touching one exits (SDM 3C, The Extended Page Table Mechanism (EPT)).
"""

from vtx.spec import CONTROLS
from vtx.vmm.base import Vmm
from vtx.vmm.controls import ControlPlan
from vtx.vmm.exits import Action, Complete, Exit, Resume, Stop
from vtx.vmm.frames import FramePool
from vtx.vmm.port import Port
from vtx.vmm.vcpu import TRANSLATION_CR0, ControlRegisters

READ_WRITE_EXECUTE, WRITE_BACK, LARGE = 7, 6 << 3, 1 << 7
EPTP_4_LEVELS_WRITE_BACK = 3 << 3 | 6
_FRAME = ~0xFFF
PAGE_4K, PAGE_2M = 12, 21
VPID = 1


class EptTables:
    """A 4-level EPT hierarchy in the VMM's own frames."""

    def __init__(self, port: Port, pool: FramePool) -> None:
        self._port, self._pool = port, pool
        self._below: list[int] = []
        self.root = pool.take()

    @property
    def pointer(self) -> int:
        """EPTP: 4 levels, write-back, no accessed and dirty flags."""
        return self.root | EPTP_4_LEVELS_WRITE_BACK

    def map(self, gpa: int, hpa: int, shift: int = PAGE_4K) -> None:
        """Map the page of `gpa` (2 to the power `shift` bytes) to `hpa` with all rights."""
        table = self.root
        for level in range(39, shift, -9):
            place = table + (gpa >> level & 0x1FF) * 8
            entry = self._port.load(place)
            if not entry:
                self._below.append(self._pool.take())
                entry = self._below[-1] | READ_WRITE_EXECUTE
                self._port.store(place, entry)
            table = entry & _FRAME
        inside = (1 << shift) - 1
        leaf = hpa & ~inside | READ_WRITE_EXECUTE | WRITE_BACK
        large = LARGE if shift > PAGE_4K else 0
        self._port.store(table + (gpa >> shift & 0x1FF) * 8, leaf | large)

    def clear(self) -> None:
        """Map nothing; translations derived from the tables are dropped."""
        for place in range(self.root, self.root + 0x1000, 8):
            self._port.store(place, 0)
        for hpa in self._below:
            self._pool.give_back(hpa)
        self._below.clear()
        self._port.invept(self.pointer)


class Ept(Vmm):
    """Nested paging."""

    name = "ept"
    page_shift = PAGE_4K
    _mode = (0, 0, 0)

    def plan(self) -> ControlPlan:
        """Nested paging, tagged TLBs, and guests that run without paging."""
        return (
            super()
            .plan()
            .with_(
                sec=(CONTROLS.ENABLE_EPT, CONTROLS.ENABLE_VPID, CONTROLS.UNRESTRICTED_GUEST),
            )
        )

    def set_up(self) -> None:
        self.tables = EptTables(self.port, self.pool)
        self.port.vmwrite("EPT_POINTER", self.tables.pointer)
        self.port.vmwrite("VPID", VPID)

    def control_registers(self) -> ControlRegisters:
        """The guest's own; a change of what translation means invalidates its VPID."""
        control = super().control_registers()
        mode = (control.cr0 & TRANSLATION_CR0, control.cr4, control.efer)
        if mode != self._mode:
            self._mode = mode
            self.port.invvpid(VPID)
        return control

    def forget_translations(self) -> None:
        """All of EPT: it is filled again as pages are touched."""
        self.tables.clear()

    def handle_ept_violation(self, exit: Exit) -> Action:
        """Map RAM that is touched for the first time; devices are completed."""
        hpa = self.vm.frames.frame_of(exit.gpa >> 12)
        if hpa is None or self.vm.platform.bus.ram_offset(exit.gpa) < 0:
            return Complete("access a device")
        inside = exit.gpa & ((1 << self.page_shift) - 1) & _FRAME
        self.tables.map(exit.gpa, hpa - inside, self.page_shift)
        return Resume("map the page")

    def handle_ept_misconfiguration(self, exit: Exit) -> Action:
        """Only a bug of the VMM makes one."""
        return Stop(f"EPT misconfiguration at guest-physical {exit.gpa:#x}")


class LargeEpt(Ept):
    """Nested paging with 2 MiB EPT pages, where the guest's frames are scattered per 2 MiB."""

    name = "ept-2m"
    page_shift = PAGE_2M
