"""Jumps that may be patched later, by the numbers that native code names them with."""

from array import array
from bisect import bisect_right
from dataclasses import dataclass

from vtx.engine.native.page_layout import LINK

_I32 = 2
"""Packer of the jumps of batches."""
_WORDS = LINK // 4


@dataclass(slots=True)
class Link:
    """A jump that may be patched: where its field is, and where it wants to go."""

    offset: int
    packer: int
    addend: int
    """Added to the target's address; the place of the jump is already taken off."""
    target: int
    """Offset in CS."""


@dataclass(frozen=True, slots=True)
class _Listed:
    """Links of a batch, as `page_layout` says them."""

    start: int
    entries: "array[int]"
    first_ip: int
    mask: int

    def link(self, n: int) -> Link:
        _, field, addend, inside, _ = self.entries[_WORDS * n : _WORDS * (n + 1)]
        target = (self.first_ip + inside) & self.mask
        return Link(self.start + field, _I32, addend - self.start, target)


class Links:
    """The links of one arena, numbered from 1."""

    def __init__(self) -> None:
        self._count = 0
        self._firsts: list[int] = []
        self._sources: list[Link | _Listed] = []
        """The links from the number in `_firsts` on."""

    def __len__(self) -> int:
        return self._count

    @property
    def next_number(self) -> int:
        """Of what is added next."""
        return self._count + 1

    def add(self, link: Link) -> int:
        """Its number."""
        self._add(link, 1)
        return self._count

    def add_listed(self, start: int, entries: "array[int]", first_ip: int, mask: int) -> None:
        """Those of a batch that begins at `start` in the arena."""
        if entries:
            self._add(_Listed(start, entries, first_ip, mask), len(entries) // _WORDS)

    def _add(self, source: Link | _Listed, count: int) -> None:
        self._firsts.append(self._count + 1)
        self._sources.append(source)
        self._count += count

    def get(self, number: int) -> Link | None:
        """The link of that number; 0 is none."""
        if number == 0:
            return None
        at = bisect_right(self._firsts, number) - 1
        source = self._sources[at]
        return source if isinstance(source, Link) else source.link(number - self._firsts[at])

    def clear(self) -> None:
        """The arena is emptied."""
        self._count = 0
        self._firsts.clear()
        self._sources.clear()
