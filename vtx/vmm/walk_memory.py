"""Page walks of the completing CPU that need not be made again.

A walk whose entries and registers are what they were leads where it led, and leaves nothing
behind: it has set its accessed and dirty flags before. So what the guest may have changed in the
meantime is looked at, but not walked through. Faults are not remembered.
"""

from vtx.isa.layout import SLOTS
from vtx.machine.cpu import Cpu
from vtx.spec.registers import CR4, EFER

_CR0, _CR3, _CR4, _EFER = (SLOTS[name] for name in ("cr0", "cr3", "cr4", "efer"))
_MOST = 256

_Entries = tuple[tuple[int, int], ...]
"""Number of the 64-bit word of memory that an entry lies in, and its value behind the walk."""


class WalkMemory:
    """Stands before the translator of a CPU that is not in VMX operation."""

    def __init__(self, cpu: Cpu) -> None:
        self._cpu, self._walk = cpu, cpu.translator
        self._memory = memoryview(cpu.memory).cast("Q")
        self._known: dict[tuple[int, ...], tuple[tuple[int, int], _Entries]] = {}
        cpu.translator = self.translate

    def translate(self, gva: int, access: int) -> tuple[int, int] | None:
        """As `translate` of the algebra."""
        cpu, words = self._cpu, self._cpu.words
        cr4, efer = words[_CR4], words[_EFER]
        if cpu.on_walk_load is not None or (cr4 & CR4.PAE and not efer & EFER.LMA):
            return self._walk(gva, access)  # somebody looks on; PDPTEs are registers too
        layout = cpu.bus.layout_version
        name = (gva >> 12, access, words[_CR0], words[_CR3], cr4, efer, layout)
        known = self._known.get(name)
        if known is not None:
            found, entries = known
            memory = self._memory
            for at, value in entries:
                if memory[at] != value:
                    break
            else:
                cpu.walk_references += len(entries)
                return found
        return self._observed(gva, access, name)

    def _observed(self, gva: int, access: int, name: tuple[int, ...]) -> tuple[int, int] | None:
        """Walk, and remember what was read."""
        cpu = self._cpu
        read: list[int] = []
        cpu.on_walk_load = lambda level, gpa: read.append(gpa)
        try:
            found = self._walk(gva, access)
        finally:
            cpu.on_walk_load = None
        hosts = [cpu.bus.ram_offset(gpa) + (gpa & 0xFFF) for gpa in read]
        if found is not None and all(cpu.bus.ram_offset(gpa) >= 0 for gpa in read):
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[name] = found, tuple((at >> 3, self._memory[at >> 3]) for at in hosts)
        return found
