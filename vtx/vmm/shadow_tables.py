"""Shadow page tables: what the hardware walks in place of the guest's page tables.

A space is one guest address space's shadow: a tree of hardware page tables in the VMM's frames
whose leaves map linear pages straight to host frames. Upper levels grant everything; all
rights stand in the leaf. The tree does not know where a mapping comes from.
"""

from dataclasses import dataclass, field

from vtx.machine.cpu import Cpu
from vtx.vmm.frames import FramePool

P, W, U, A, D, NX = 1, 2, 4, 1 << 5, 1 << 6, 1 << 63
_FRAME = 0x7F_FFFF_F000
_UPPER = P | W | U | A
_PAE_PDPTE = P


@dataclass
class Leaf:
    """One mapped linear page: where it is written, and what it maps."""

    place: int
    """hpa of the hardware's page-table entry."""
    entry: int
    gpn: int
    """Guest-physical page it leads to."""


@dataclass
class Space:
    """The shadow of one guest address space."""

    root: int
    pae: bool
    tables: dict[tuple[int, int], int] = field(default_factory=dict)
    """(level's shift, linear address above it) -> hpa of the hardware table."""
    leaves: dict[int, Leaf] = field(default_factory=dict)
    """Linear page number -> its mapping."""

    @property
    def page_count(self) -> int:
        """Hardware tables of this shadow, the root included."""
        return 1 + len(self.tables)


class ShadowTree:
    """Writes hardware page tables: 4-level for 64-bit guests, PAE for all others."""

    def __init__(self, cpu: Cpu, pool: FramePool) -> None:
        self._cpu, self._pool = cpu, pool

    def new_space(self, *, pae: bool) -> Space:
        """An empty shadow. A PAE one gets its four page directories at once: the CPU reads
        the PDPTEs when CR3 is loaded and would not see later ones."""
        space = Space(self._pool.take(), pae)
        if pae:
            for n in range(4):
                hpa = self._pool.take()
                space.tables[21, n] = hpa
                self._store(space.root + 8 * n, hpa | _PAE_PDPTE)
        return space

    def map(self, space: Space, gva: int, entry: int, gpn: int) -> None:
        """Make `entry` the leaf of the page of `gva`."""
        place = self._table(space, gva) + (gva >> 12 & 0x1FF) * 8
        self._store(place, entry)
        space.leaves[gva >> 12] = Leaf(place, entry, gpn)

    def protect(self, space: Space, page: int) -> None:
        """Take the write right from a mapped linear page."""
        leaf = space.leaves[page]
        if leaf.entry & W:
            leaf.entry &= ~W
            self._store(leaf.place, leaf.entry)

    def unmap(self, space: Space, page: int) -> Leaf | None:
        """Remove the mapping of a linear page; what it was."""
        leaf = space.leaves.pop(page, None)
        if leaf is not None:
            self._store(leaf.place, 0)
        return leaf

    def free(self, space: Space) -> None:
        """Give all frames of a shadow back."""
        for hpa in space.tables.values():
            self._pool.give_back(hpa)
        self._pool.give_back(space.root)

    def _table(self, space: Space, gva: int) -> int:
        """hpa of the page table for `gva`, with the levels above it."""
        table = space.tables[21, gva >> 30 & 3] if space.pae else space.root
        for shift in (21,) if space.pae else (39, 30, 21):
            known_as = (shift - 9, gva >> shift)
            below = space.tables.get(known_as)
            if below is None:
                below = space.tables[known_as] = self._pool.take()
                self._store(table + (gva >> shift & 0x1FF) * 8, below | _UPPER)
            table = below
        return table

    def _store(self, hpa: int, value: int) -> None:
        self._cpu.store_physical(hpa, value, 64)


def leaf_entry(hpa: int, *, writable: bool, user: bool, no_execute: bool) -> int:
    """A present leaf. Its own A and D are set: the guest's are kept in the guest's tables."""
    entry = (hpa & _FRAME) | P | A | D
    return entry | W * writable | U * user | NX * no_execute
