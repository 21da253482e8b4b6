"""What must hold of shadow page tables at every VM exit, checked without the VMM's own books.

The hardware's tables are read from host memory, the guest's from guest memory, by two walkers
written here in plain Python. Of the VMM only the roots of its spaces are asked for, and what
guest address space each stands for.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

P, W, U, A, D, PS, NX = 1, 2, 4, 1 << 5, 1 << 6, 1 << 7, 1 << 63
FRAME = 0x7F_FFFF_F000
PG, PAE, PSE, LMA, NXE = 1 << 31, 1 << 5, 1 << 4, 1 << 10, 1 << 11


@dataclass(frozen=True)
class Mapping:
    """What tables make of one linear page, and the guest-physical pages they lie in."""

    page: int
    frame: int
    writable: bool
    user: bool
    no_execute: bool
    accessed: bool = True
    dirty: bool = True
    tables: tuple[int, ...] = ()


# --- the hardware's tables -------------------------------------------------------------------


def hardware_leaves(port: Any, root: int, pae: bool) -> Iterator[Mapping]:
    """Every present leaf below `root`."""
    levels = (30, 21, 12) if pae else (39, 30, 21, 12)
    yield from _below(port, root, 0, levels, W | U, False)


def _below(
    port: Any, table: int, gva: int, levels: tuple[int, ...], rights: int, nx: bool
) -> Iterator[Mapping]:
    shift, count = levels[0], 4 if levels[0] == 30 and len(levels) == 3 else 512
    entries = struct.unpack(f"<{count}Q", port.cpu.bus.memory.read(table, count * 8))
    for index, entry in enumerate(entries):
        if not entry & P:
            continue
        here = gva | index << shift
        if shift == 39 and index >= 256:
            here |= 0xFFFF << 48
        is_register = count == 4  # PAE's PDPTEs carry no rights
        allowed = rights if is_register else rights & entry
        denied = nx or bool(entry & NX)
        if shift > 12:
            assert is_register or not entry & PS, "the shadow has small pages only"
            yield from _below(port, entry & FRAME, here, levels[1:], allowed, denied)
        else:
            yield Mapping(here >> 12, entry & FRAME, bool(allowed & W), bool(allowed & U), denied)


# --- the guest's tables ----------------------------------------------------------------------


class GuestWalker:
    """The guest's tables below one root, in the mode that the guest is in."""

    def __init__(self, vm: Any, cr3: int, paged: int, pdptes: tuple[int, ...] = ()) -> None:
        state = vm.soft.state
        self._bus, self._cr3, self._paged = vm.platform.bus, cr3, paged
        self._long = bool(state.read("efer") & LMA)
        self._pae = bool(state.read("cr4") & PAE)
        self._pse = bool(state.read("cr4") & PSE)
        self._nxe = bool(state.read("efer") & NXE)
        self._pdptes = pdptes

    def map(self, page: int) -> Mapping | None:
        """The guest's own mapping of a linear page; `frame` is guest-physical. None: no page."""
        if not self._paged:
            return Mapping(page, page << 12, True, True, False)
        gva = page << 12
        chain = list(self._chain(gva))
        if not chain or not all(entry & P for _, entry, _ in chain):
            return None
        entries = [entry for _, entry, _ in chain]
        shift = chain[-1][2]
        inside = (1 << shift) - 1 & ~0xFFF
        frame = entries[-1] & FRAME & ~inside
        if not (self._long or self._pae):
            frame = entries[-1] & 0xFFFF_F000 & ~inside
            if shift == 22:
                frame |= (entries[-1] >> 13 & 0xFF) << 32
        return Mapping(
            page=page,
            frame=(frame | gva & inside) & FRAME,
            writable=all(entry & W for entry in entries),
            user=all(entry & U for entry in entries),
            no_execute=self._nxe and any(entry & NX for entry in entries),
            accessed=all(entry & A for entry in entries),
            dirty=bool(entries[-1] & D),
            tables=tuple(gpa >> 12 for gpa, _, _ in chain),
        )

    def _chain(self, gva: int) -> Iterator[tuple[int, int, int]]:
        """(gpa, entry, shift of what it maps) from the root down."""
        if not (self._long or self._pae):
            yield from self._descend(gva, self._cr3 & 0xFFFF_F000, (22, 12), 10, 32)
        elif self._long:
            yield from self._descend(gva, self._cr3 & FRAME, (39, 30, 21, 12), 9, 64)
        else:
            pdpte = self._pdptes[gva >> 30 & 3]
            if pdpte & P:
                yield from self._descend(gva, pdpte & FRAME, (21, 12), 9, 64)

    def _descend(
        self, gva: int, table: int, levels: tuple[int, ...], bits: int, width: int
    ) -> Iterator[tuple[int, int, int]]:
        for shift in levels:
            gpa = table + (gva >> shift & (1 << bits) - 1) * (width >> 3)
            entry = self._bus.load(gpa, width)
            yield gpa, entry, shift
            large = entry & PS and shift in (21, 22, 30) and (width == 64 or self._pse)
            if not entry & P or shift == 12 or large:
                return
            table = entry & (FRAME if width == 64 else 0xFFFF_F000)


# --- the rules ---------------------------------------------------------------------------------


def check(vmm: Any) -> int:
    """Hold every shadow leaf against the guest's tables; the number of leaves."""
    vm, checked = vmm.vm, 0
    tables: set[int] = set()
    writable: list[Mapping] = []
    frame_pages: dict[int, int] = {}
    for known_as, key in vmm._keys.items():
        space, walker = vmm.spaces[key], GuestWalker(vm, *known_as)
        for leaf in hardware_leaves(vmm.port, space.root, space.pae):
            guest = walker.map(leaf.page)
            where = f"shadow of {leaf.page << 12:#x} at {vm.retired}"
            assert guest is not None, f"{where}: the guest has no such page"
            assert leaf.frame == vm.frames.frame_of(guest.frame >> 12), f"{where}: frame"
            assert guest.accessed, f"{where}: the guest's accessed flag is clear"
            assert guest.user or not leaf.user, f"{where}: user right"
            assert leaf.no_execute or not guest.no_execute, f"{where}: execute right"
            if leaf.writable:
                assert guest.writable, f"{where}: write right"
                assert guest.dirty, f"{where}: writable with the guest's dirty flag clear"
                writable.append(leaf)
                frame_pages[leaf.frame] = guest.frame >> 12
            tables.update(guest.tables)
            checked += 1
    for leaf in writable:
        assert frame_pages[leaf.frame] not in tables, (
            f"shadow of {leaf.page << 12:#x} at {vm.retired}: a page table is writable"
        )
    return checked


class Watch:
    """Checks one in `every` VM exits of a session under shadow paging, after it was handled."""

    def __init__(self, session: Any, every: int = 1) -> None:
        self.exits = self.leaves = self.checks = 0
        vmm, handle = session.vmm, session.vmm._handle

        def handled(exit: Any) -> None:
            handle(exit)
            self.exits += 1
            if self.exits % every == 0:
                self.leaves += check(vmm)
                self.checks += 1

        vmm._handle = handled


def present_pages(vm: Any, most: int) -> list[Mapping]:
    """Linear pages that the guest's present tables map to RAM, up to `most`, spread evenly."""
    state = vm.soft.state
    paged = bool(state.read("cr0") & PG)
    walker = GuestWalker(vm, state.read("cr3"), paged)
    candidates = range(vm.platform.ram_size >> 12)  # every guest here maps its low memory
    step = max(1, len(candidates) // most)
    found = (walker.map(page) for page in candidates[::step])
    return [m for m in found if m and vm.platform.bus.ram_offset(m.frame) >= 0]


def touch(vmm: Any, page: int, write: bool) -> Any:
    """What the VMM does about a supervisor access to a linear page that its shadow lacks."""
    exit = vmm._read_exit()
    from dataclasses import replace

    fault = replace(
        exit, reason=0, qualification=page << 12, idt_vectoring_info=0,
        interruption_info=0x8000_0B0E, interruption_error=2 * write,
    )  # fmt: skip
    return vmm.handle(fault)
