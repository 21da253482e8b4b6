"""Which guest page-table entries each shadow leaf was made from, and the pages they lie in.

A guest page that holds such entries is tracked: it must not be written unseen. When it is
written, the entries that changed name the leaves that are no longer true. This module does
not know how leaves are made.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

ACCESSED_DIRTY = 1 << 5 | 1 << 6

LeafName = tuple[int, int]
"""(key of the space, linear page number)."""


@dataclass(frozen=True)
class Source:
    """A guest page-table entry: where it is, how wide, what it held."""

    gpa: int
    width: int
    value: int


@dataclass
class _Entry:
    width: int
    value: int
    leaves: set[LeafName] = field(default_factory=set)


class Sources:
    """Guest entries with the leaves that depend on them, by page."""

    def __init__(self, read: Callable[[int, int], int]) -> None:
        self._read = read
        self._pages: dict[int, dict[int, _Entry]] = {}
        self._of_leaf: dict[LeafName, tuple[int, ...]] = {}

    def tracked(self, gpn: int) -> bool:
        """Some leaf depends on an entry in guest page `gpn`."""
        return gpn in self._pages

    def tracked_pages(self) -> Iterable[int]:
        return self._pages

    def depend(self, leaf: LeafName, sources: Iterable[Source]) -> list[int]:
        """`leaf` is made from `sources`; the pages that are tracked only from now on."""
        self.forget_leaf(leaf)
        fresh, places = [], []
        for source in sources:
            gpn = source.gpa >> 12
            page = self._pages.get(gpn)
            if page is None:
                page = self._pages[gpn] = {}
                fresh.append(gpn)
            entry = page.get(source.gpa)
            if entry is None:
                entry = page[source.gpa] = _Entry(source.width, source.value)
            entry.value = source.value
            entry.leaves.add(leaf)
            places.append(source.gpa)
        self._of_leaf[leaf] = tuple(places)
        return fresh

    def forget_leaf(self, leaf: LeafName) -> None:
        """`leaf` is gone; pages that nothing depends on any more are tracked no longer."""
        for gpa in self._of_leaf.pop(leaf, ()):
            page = self._pages[gpa >> 12]
            entry = page[gpa]
            entry.leaves.discard(leaf)
            if not entry.leaves:
                del page[gpa]
                if not page:
                    del self._pages[gpa >> 12]

    def changed(self, gpn: int) -> set[LeafName]:
        """The leaves made from entries of page `gpn` that now hold something else.

        Accessed and dirty flags that were only set make no difference to a leaf.
        """
        stale: set[LeafName] = set()
        for gpa, entry in self._pages.get(gpn, {}).items():
            now = self._read(gpa, entry.width)
            if now == entry.value:
                continue
            if now & ~ACCESSED_DIRTY == entry.value & ~ACCESSED_DIRTY and not (
                entry.value & ~now & ACCESSED_DIRTY
            ):
                entry.value = now
                continue
            stale |= entry.leaves
        return stale

    def of_page(self, gpn: int) -> set[LeafName]:
        """Every leaf that depends on page `gpn`."""
        leaves: set[LeafName] = set()
        for entry in self._pages.get(gpn, {}).values():
            leaves |= entry.leaves
        return leaves
