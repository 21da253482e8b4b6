"""VT-x with shadow paging, as before EPT: the VMM keeps the page tables the hardware walks.

Each guest address space has a shadow that maps its linear pages straight to host frames. It is
filled by page faults: a *hidden* fault is one the guest's own tables would not have raised,
and is mended unseen; a *true* one is the guest's and is injected. Pages that hold the guest's
tables are write-protected: a write to one exits, is completed, and takes away the shadow
leaves it made untrue. Accessed and dirty flags are set in the guest's tables by the guest's own
walk; a page whose dirty flag is clear is not writable in the shadow. A guest without paging
runs with paging on over a shadow of the identity.
Source: SDM 3C, VMX Support for Address Translation; ESX and KVM describe the technique.
"""

from vtx.isa.layout import SLOTS
from vtx.machine import paging
from vtx.spec import CONTROLS
from vtx.spec.registers import CR0, CR4
from vtx.vmm import exits
from vtx.vmm.base import CR4_VMXE, Vmm
from vtx.vmm.controls import ControlPlan
from vtx.vmm.ending import Ending
from vtx.vmm.exits import Action, Complete, Exit, Inject, Resume, Stop
from vtx.vmm.frames import FramePool
from vtx.vmm.port import Port
from vtx.vmm.shadow_sources import Source, Sources
from vtx.vmm.shadow_tables import NX, ShadowTree, Space, U, W, leaf_entry
from vtx.vmm.vcpu import (
    CR0_PG,
    CR4_PAE,
    EFER_LMA,
    EFER_LME,
    TRANSLATION_CR0,
    ControlRegisters,
)
from vtx.vmm.vm import VirtualMachine

PF, PF_BIT = 14, 1 << 14
_FAULT_WRITE, _FAULT_USER, _FAULT_FETCH = 2, 4, 16
_MOST_SPACES = 48
_FLOOD = 4
"""Writes in a row to one tracked page before it stops being taken for a page table."""
_LEAST_FRAMES = 8
_TRANSLATION_CR4 = 0x30_00B0  # PSE PAE PGE SMEP SMAP
_TRANSLATION_EFER = 0xD00  # LME LMA NXE

SpaceKey = tuple[int, int, tuple[int, ...]]
"""(guest CR3 without its flags, paging on, PAE's PDPTEs: registers that no store changes)."""


class Shadow(Vmm):
    """Shadow paging."""

    name = "shadow"

    def __init__(self, port: Port, vm: VirtualMachine, pool: FramePool) -> None:
        super().__init__(port, vm, pool)
        self.tree = ShadowTree(port.cpu, pool)
        self.sources = Sources(self._read_guest)
        self.spaces: dict[int, Space] = {}
        self._keys: dict[SpaceKey, int] = {}
        self._mappings: dict[int, set[tuple[int, int]]] = {}
        """Guest page -> the leaves that map it."""
        self._current = -1
        self._next_key = 0
        self._written: set[int] = set()
        self._last_written, self._in_a_row = -1, 0
        self._mode: tuple[int, int, int] = (0, 0, 0)
        self._chain: list[tuple[int, int]] = []
        self.counts = {
            "shadow_pages": 0, "most_shadow_pages": 0, "hidden_faults": 0, "true_faults": 0,
            "write_protect_exits": 0, "device_faults": 0, "spaces": 0, "zapped": 0, "flushes": 0,
        }  # fmt: skip
        self.vcpu.cr3_is_guests = False

    # --- set-up --------------------------------------------------------------------------------
    def plan(self) -> ControlPlan:
        """Everything that touches the guest's paging exits."""
        return (
            super()
            .plan()
            .with_(
                proc=(CONTROLS.CR3_LOAD_EXITING, CONTROLS.CR3_STORE_EXITING,
                      CONTROLS.INVLPG_EXITING),
            )
        )  # fmt: skip

    def set_up(self) -> None:
        """Intercept page faults, all of them."""
        self.port.vmwrite("EXCEPTION_BITMAP", PF_BIT)
        self.port.vmwrite("PF_ERROR_CODE_MASK", 0)
        self.port.vmwrite("PF_ERROR_CODE_MATCH", 0)

    def control_registers(self) -> ControlRegisters:
        """Paging on over the shadow of the guest's present address space."""
        state = self.vm.soft.state
        cr0, cr4, efer = state.read("cr0"), state.read("cr4"), state.read("efer")
        self._follow_mode(cr0, cr4, efer)
        space = self._space()
        long = bool(efer & EFER_LMA)
        return ControlRegisters(
            cr0=cr0 | CR0.NE | CR0.ET | CR0.WP | CR0.PG | CR0.PE,
            cr3=space.root,
            cr4=(cr4 & ~(CR4.PCIDE | CR4.PGE)) | CR4_VMXE | CR4_PAE,
            efer=efer if long else efer & ~(EFER_LME | EFER_LMA),
        )

    def _follow_mode(self, cr0: int, cr4: int, efer: int) -> None:
        """When what translation means has changed, nothing derived from it holds any more."""
        mode = (cr0 & TRANSLATION_CR0, cr4 & _TRANSLATION_CR4, efer & _TRANSLATION_EFER)
        if mode != self._mode:
            self._mode = mode
            self.drop_everything()

    def _space(self) -> Space:
        """The shadow of the guest's present address space, made if it is new."""
        state = self.vm.soft.state
        paged = state.read("cr0") & CR0_PG
        long = state.read("efer") & EFER_LMA
        cr3 = state.read("cr3") & (~0xFFF if long else 0xFFFF_FFE0) if paged else 0
        pdptes = [state.read(f"pdpte{n}") for n in range(4 * self.vcpu.uses_pdptes)]
        known_as = (cr3, 1 if paged else 0, tuple(pdptes))
        key = self._keys.get(known_as)
        if key is None:
            if len(self.spaces) >= _MOST_SPACES or self.pool.available < _LEAST_FRAMES:
                self.drop_everything()
            key = self._keys[known_as] = self._next_key
            self._next_key += 1
            self.spaces[key] = self.tree.new_space(pae=not long)
            self.counts["spaces"] += 1
        self._current = key
        return self.spaces[key]

    # --- faults --------------------------------------------------------------------------------
    def handle_exception_or_nmi(self, exit: Exit) -> Action:
        """A page fault: the guest's own, or one that only the shadow raised."""
        if exit.vector != PF:
            return Stop(f"unexpected exception {exit.vector} intercepted at rip {exit.rip:#x}")
        self.vcpu.load_from_vmcs()
        gva = exit.qualification
        found = self._guest_translation(gva, self._access(exit))
        if found is None:
            return self._true_fault(exit)
        gpn, writes = found >> 12, bool(exit.interruption_error & _FAULT_WRITE)
        if self.vm.frames.frame_of(gpn) is None or self._is_device(gpn):
            self.counts["device_faults"] += 1
            return Complete("access a device")
        if writes and self.sources.tracked(gpn):
            self.counts["write_protect_exits"] += 1
            return Complete("write to a guest page table")
        if not self._map(gva, gpn) and writes:
            return Complete("write that only CR0.WP=0 allows")
        self.counts["hidden_faults"] += 1
        return Resume("fill the shadow")

    def _is_device(self, gpn: int) -> bool:
        return self.vm.platform.bus.ram_offset(gpn << 12) < 0

    def _access(self, exit: Exit) -> int:
        """What was being done, as the guest's walk must be asked about it."""
        error, state = exit.interruption_error, self.vm.soft.state
        access = 0
        if error & _FAULT_WRITE:
            access |= paging.WRITE
        if error & _FAULT_FETCH:
            access |= paging.FETCH
        if error & _FAULT_USER:
            return access | paging.USER
        if state.read("ss_ar") >> 5 & 3 == 3:
            return access | paging.IMPLICIT
        return access | (paging.AC_SUSPENDS if state.rflags & 1 << 18 else 0)

    def _guest_translation(self, gva: int, access: int) -> int | None:
        """The guest's own walk; the entries it used are left in `_chain`."""
        soft = self.vm.soft
        self._chain = []
        soft.on_walk_load = self._note_entry
        found = self.vm.translate(gva, access)
        soft.on_walk_load = None
        self._settle_writes()
        return None if found is None else found[0]

    def _note_entry(self, level: str, gpa: int) -> None:
        width = 64 if self.vm.soft.state.read("cr4") & CR4_PAE else 32
        self._chain.append((gpa, width))

    def _true_fault(self, exit: Exit) -> Action:
        """The guest's tables forbid it: the guest gets the fault its own walk raised."""
        self.counts["true_faults"] += 1
        words = self.vm.soft.words
        if exit.idt_vectoring_info & exits.VALID:
            # A fault while delivering an event: the algebra knows what becomes of the two.
            return Complete("page fault during event delivery")
        return Inject(PF, error_code=words[SLOTS["fault_error"]], cr2=words[SLOTS["fault_cr2"]])

    # --- filling -------------------------------------------------------------------------------
    def _map(self, gva: int, gpn: int) -> bool:
        """Enter the page of `gva` into the shadow; whether it became writable."""
        if self.pool.available < _LEAST_FRAMES:
            self.drop_everything()
            self.vcpu.store_control(self.control_registers())
        chain = [Source(gpa, width, self._read_guest(gpa, width)) for gpa, width in self._chain]
        user, writable, no_execute, dirty = True, True, False, True
        if chain:
            nxe = self.vm.soft.state.read("efer") & 0x800
            for source in chain:
                user = user and bool(source.value & U)
                writable = writable and bool(source.value & W)
                no_execute = no_execute or bool(nxe and source.value & NX)
            dirty = bool(chain[-1].value & 1 << 6)
        name = (self._current, gva >> 12)
        self._forget_mapping(name)
        for tracked in self.sources.depend(name, chain):
            self._track(tracked)
        writable = writable and dirty and not self.sources.tracked(gpn)
        hpa = self.vm.frames.frame_of(gpn)
        assert hpa is not None
        entry = leaf_entry(hpa, writable=writable, user=user, no_execute=no_execute)
        space = self.spaces[self._current]
        self.tree.map(space, gva, entry, gpn)
        self._mappings.setdefault(gpn, set()).add(name)
        pages = sum(each.page_count for each in self.spaces.values())
        self.counts["shadow_pages"] = pages
        self.counts["most_shadow_pages"] = max(pages, self.counts["most_shadow_pages"])
        return writable

    def _track(self, gpn: int) -> None:
        """Guest page `gpn` holds page-table entries: no shadow may let it be written."""
        for key, page in self._mappings.get(gpn, ()):
            self.tree.protect(self.spaces[key], page)
        self._watch(gpn)

    def _watch(self, gpn: int) -> None:
        host = self.vm.platform.bus.ram_offset(gpn << 12)
        if host >= 0:
            self.vm.soft.code.watch(host, lambda _host: self._written.add(gpn))

    # --- invalidation --------------------------------------------------------------------------
    def after_completion(self) -> None:
        """A completed instruction may have written page tables or invalidated pages."""
        self._settle_writes(by_guest=True)
        super().after_completion()
        state = self.vm.soft.state
        if not state.read("cr0") & CR0.PE and self._ending is None:
            rip = state.read("rip")
            text = f"shadow paging does not run real mode (CR0.PE = 0 at rip {rip:#x})"
            self._ending = Ending("vmm_error", message=text)

    def _settle_writes(self, *, by_guest: bool = False) -> None:
        """Take away the leaves that writes to guest page tables made untrue.

        A page that the guest writes again and again is no longer taken for a page table.
        """
        while self._written:
            gpn = self._written.pop()
            if not self.sources.tracked(gpn):
                continue
            if by_guest:
                self._count_flood(gpn)
            for name in self.sources.changed(gpn):
                self._zap(name)
            if self.sources.tracked(gpn):
                if by_guest and self._in_a_row >= _FLOOD:
                    for name in self.sources.of_page(gpn):
                        self._zap(name)
                else:
                    self._watch(gpn)

    def _count_flood(self, gpn: int) -> None:
        self._in_a_row = self._in_a_row + 1 if gpn == self._last_written else 1
        self._last_written = gpn

    def _zap(self, name: tuple[int, int]) -> None:
        """Remove one leaf and what is known about it."""
        self._forget_mapping(name)
        self.sources.forget_leaf(name)
        self.counts["zapped"] += 1

    def _forget_mapping(self, name: tuple[int, int]) -> None:
        leaf = self.tree.unmap(self.spaces[name[0]], name[1])
        if leaf is not None:
            users = self._mappings[leaf.gpn]
            users.discard(name)
            if not users:
                del self._mappings[leaf.gpn]

    def forget_translations(self) -> None:
        """Every shadow, since any of them may map the pages."""
        self.drop_everything()

    def drop_everything(self) -> None:
        """Forget every shadow; they are filled again by faults."""
        for space in self.spaces.values():
            self.tree.free(space)
        self.spaces.clear()
        self._keys.clear()
        self._mappings.clear()
        self.sources = Sources(self._read_guest)
        self._current = -1
        self.counts["flushes"] += 1

    # --- handlers ------------------------------------------------------------------------------
    def handle_invlpg(self, exit: Exit) -> Action:
        """Forget the page, then let the guest's INVLPG do what it does besides."""
        name = (self._current, exit.qualification >> 12)
        if name[1] in self.spaces[self._current].leaves:
            self._zap(name)
        return Complete("invalidate a page")

    # --- guest memory ----------------------------------------------------------------------------
    def _read_guest(self, gpa: int, width: int) -> int:
        return self.vm.platform.bus.load(gpa, width)

    def shadow_statistics(self) -> dict[str, int]:
        return dict(self.counts)
