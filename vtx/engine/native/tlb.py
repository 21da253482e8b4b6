"""The TLB in a form that native code reads and fills.

An address space's data translations are kept in two levels in native memory. The first is the
table that stencils look into; it forgets whatever collides. The second is a hash table that
forgets only what is flushed, so native code misses exactly where the dictionaries of
`machine.tlb` would miss; here it stands in for them. Translations for fetching stay in
dictionaries. How translations are made is not known.
"""

import ctypes
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from vtx.engine.native.context import (
    FETCH_KEY,
    LOG_ENTRIES,
    NO_TAG,
    RANGES,
    TAG_ENTRIES,
    TLB_COUNT,
    TLB_ENTRIES,
    TLB_LIMIT,
    TLB_LOG,
    TLB_MASK,
    TLB_PYTHON,
    TLB_RANGES,
    TLB_SECOND,
    TLB_WORDS,
)
from vtx.engine.native.native_calls import tag_index
from vtx.engine.native.second_level import HASH
from vtx.machine.tlb import MOST_SPACES, PRIVILEGES, AddressSpace, PageMap, Tag, Tlb

_FIRST_WORDS = TLB_SECOND // 8
_Table = ctypes.c_uint64 * TLB_WORDS
_EMPTY = (ctypes.c_uint64 * _FIRST_WORDS)(*([NO_TAG, NO_TAG, 0, 0] * (_FIRST_WORDS // 4)))
_SECOND, _MASK, _COUNT, _LIMIT = TLB_SECOND // 8, TLB_MASK // 8, TLB_COUNT // 8, TLB_LIMIT // 8
_LOG, _PYTHON = TLB_LOG // 8, TLB_PYTHON // 8
_SMALLEST = 1024
"""Entries of the second level to begin with: {key, host to read, host to write, flags}."""
_READ, _WRITE, _FLAGS = 1, 2, 3
_GLOBAL = 1
_PAGE_BITS, _WRAP = 12, (1 << 64) - 1


@dataclass(frozen=True)
class Bulk:
    """Native functions that work on all translations of a space, given its table's address."""

    forget_local: Callable[[int], int]
    forget_writes: Callable[[int, int], int]
    widen: Callable[[int], int]
    memory_hva: int
    """Host address of the machine's memory."""


def bulk_functions(symbols: dict[str, int], memory_hva: int) -> Bulk:
    """The functions among the linked ones."""
    word = ctypes.c_uint64
    one, two = ctypes.CFUNCTYPE(word, word), ctypes.CFUNCTYPE(word, word, word)
    return Bulk(
        one(symbols["tlb_forget_local"]),
        two(symbols["tlb_forget_writes"]),
        one(symbols["tlb_widen"]),
        memory_hva,
    )


class Pages(PageMap):
    """One privilege's translations to read, or to write, as a map from page to host offset."""

    __slots__ = ("_field", "_low", "_space")

    def __init__(self, space: "NativeSpace", privilege: int, field: int, kind: int = 0) -> None:
        self._space, self._low, self._field = space, kind | privilege << 1 | 1, field

    def get(self, page: int, default: int | None = None) -> int | None:  # type: ignore[override]
        at = self._space.find(page << 3 | self._low)
        hva = self._space.second[at + self._field]
        return hva - self._space.memory_hva if hva else default

    def __getitem__(self, page: int) -> int:
        host = self.get(page)
        if host is None:
            raise KeyError(page)
        return host

    def __setitem__(self, page: int, host: int) -> None:
        self._space.forget_quickly(page)  # it may have been another one
        at = self._space.make(page << 3 | self._low)
        self._space.second[at + self._field] = self._space.memory_hva + host
        if page in self._space.global_pages:
            self._space.second[at + _FLAGS] |= _GLOBAL
            self._space.table[_PYTHON] = 1

    def __delitem__(self, page: int) -> None:
        self[page]
        self._space.forget_quickly(page)
        self._space.second[self._space.find(page << 3 | self._low) + self._field] = 0

    def __iter__(self) -> Iterator[int]:
        second = self._space.second
        for at in range(0, len(second), 4):
            page = (second[at] & ~FETCH_KEY) >> 3
            if second[at] & (FETCH_KEY | 7) == self._low and self.get(page) is not None:
                yield page

    def __len__(self) -> int:
        return sum(1 for _ in self)


class GuardedPages(Pages):
    """The same of pages that are written with notice given: they stand above the flags."""

    __slots__ = ()

    def get(self, page: int, default: int | None = None) -> int | None:  # type: ignore[override]
        hva = self._space.second[self._space.find(page << 3 | self._low) + _FLAGS] & -4096
        return hva - self._space.memory_hva if hva else default

    def __setitem__(self, page: int, host: int) -> None:
        at = self._space.make(page << 3 | self._low) + _FLAGS
        self._space.second[at] = self._space.second[at] & 0xFFF | self._space.memory_hva + host
        if page in self._space.global_pages:
            self._space.table[_PYTHON] = 1

    def __delitem__(self, page: int) -> None:
        self[page]
        self._space.second[self._space.find(page << 3 | self._low) + _FLAGS] &= 0xFFF


class NativeSpace(AddressSpace):
    """One tag's translations."""

    def __init__(self, bulk: Bulk) -> None:
        self._bulk = bulk
        self.memory_hva = bulk.memory_hva
        self.table = _Table()
        self.table_hva = ctypes.addressof(self.table)
        self._new_second(_SMALLEST)
        super().__init__()
        self.reads = tuple(Pages(self, n, _READ) for n in range(len(PRIVILEGES)))
        self.writes = tuple(Pages(self, n, _WRITE) for n in range(len(PRIVILEGES)))
        self.guarded = tuple(GuardedPages(self, n, _FLAGS) for n in range(len(PRIVILEGES)))
        self.fetch = tuple(Pages(self, n, _READ, FETCH_KEY) for n in range(len(PRIVILEGES)))
        self.forget_table()

    # --- the second level ----------------------------------------------------------------------
    def find(self, key: int) -> int:
        """Index of the first word of a key's entry, or of the empty one where it would be."""
        second, mask = self.second, self._mask
        n = (key * HASH & _WRAP) >> 32
        while True:
            at = (n & mask) << 2
            known = second[at]
            if known == key or not known:
                return at
            n += 1

    def make(self, key: int) -> int:
        """As `find`, and the entry belongs to the key now."""
        at = self.find(key)
        if self.second[at] != key:
            if self.table[_COUNT] >= self.table[_LIMIT]:
                self._grow()
                at = self.find(key)
            self.second[at] = key
            self._note(at)
        return at

    def _note(self, at: int) -> None:
        """Count an entry; native code finds the first ones by their list."""
        count = self.table[_COUNT]
        if count < LOG_ENTRIES:
            self.table[_LOG + count] = ctypes.addressof(self.second) + 8 * at
        self.table[_COUNT] = count + 1

    def _new_second(self, entries: int) -> None:
        self.second = (ctypes.c_uint64 * (4 * entries))()
        self._mask = entries - 1
        table = self.table
        table[_SECOND], table[_MASK] = ctypes.addressof(self.second), self._mask
        table[_COUNT], table[_LIMIT] = 0, entries // 2

    def _grow(self) -> None:
        """Make room, dropping entries that say nothing any more."""
        old = self.second
        live = [at for at in range(0, len(old), 4) if any(old[at + _READ : at + 4])]
        entries = _SMALLEST
        while entries < 4 * len(live):
            entries *= 2
        self._new_second(entries)
        for at in live:
            new = self.find(old[at])
            for n in range(4):
                self.second[new + n] = old[at + n]
            self._note(new)

    # --- forgetting --------------------------------------------------------------------------
    def is_global(self, page: int) -> bool:
        if page in self.global_pages:
            return True
        return any(self.second[at + _FLAGS] & _GLOBAL for at in self._entries_of(page))

    def _entries_of(self, page: int) -> Iterator[int]:
        """Where everything about a page stands, or would stand."""
        for privilege in range(len(PRIVILEGES)):
            key = page << 3 | privilege << 1 | 1
            yield self.find(key)
            yield self.find(key | FETCH_KEY)

    def forget_page(self, gva: int) -> None:
        page = gva >> _PAGE_BITS
        self.forget_quickly(page)
        self.global_pages.discard(page)
        for at in self._entries_of(page):
            self.second[at + _READ] = self.second[at + _WRITE] = self.second[at + _FLAGS] = 0

    def forget_all(self) -> None:
        self.global_pages.clear()
        self.table[_PYTHON] = 0
        if not self.table[_COUNT]:
            return  # the first level holds only what the second does
        if self._mask >= 4 * _SMALLEST:
            self._new_second(_SMALLEST)
        else:
            ctypes.memset(self.second, 0, ctypes.sizeof(self.second))
            self.table[_COUNT] = 0
        self.forget_table()

    def forget_local(self) -> None:
        self._bulk.forget_local(self.table_hva)
        self.forget_table()

    def forget_table(self) -> None:
        """Empty the first level only; it is filled again from the second."""
        self.forget_ranges()
        ctypes.memmove(self.table, _EMPTY, TLB_SECOND)

    def forget_writes_to(self, host_page: int) -> None:
        """Withdraw the right to write a host page."""
        self.forget_ranges()
        self._bulk.forget_writes(self.table_hva, self.memory_hva + host_page)

    def forget_quickly(self, page: int) -> None:
        """Let native code look for a linear page in the second level."""
        self.forget_ranges()
        for privilege in range(len(PRIVILEGES)):
            at = (privilege * TLB_ENTRIES + page % TLB_ENTRIES) * 4
            self.table[at] = self.table[at + 1] = NO_TAG

    # --- ranges ------------------------------------------------------------------------------
    def forget_ranges(self) -> None:
        """Let regions look into the table."""
        ctypes.memset(self.table_hva + TLB_RANGES, 0, 64 * RANGES)

    def widen(self) -> None:
        """Make ranges of the pages around those that regions missed last."""
        self._bulk.widen(self.table_hva)


class NativeTlb(Tlb):
    """A TLB whose address spaces have tables.

    `on_flush` is called with the spaces that forgot how to fetch; `on_protect` with a host page
    that must not be written without notice.
    """

    def __init__(
        self,
        bulk: Bulk,
        on_flush: Callable[[AddressSpace], None],
        on_protect: Callable[[int], None],
    ) -> None:
        self._bulk, self._on_flush, self._on_protect = bulk, on_flush, on_protect
        self.tags = (ctypes.c_uint64 * (4 * TAG_ENTRIES))()
        """For native code: address spaces by tag."""
        self.list = (ctypes.c_uint64 * (2 * MOST_SPACES + 2))()
        """For native code: {VPID, translations} of all address spaces, and zeros behind them."""
        self._tag_of: dict[int, Tag] = {}
        self.switched_to = 0
        """Host address of the table of the space that belongs to `tag`."""
        super().__init__()
        self.switch(self.tag)

    def switch(self, tag: Tag) -> None:
        new = tag not in self._spaces
        if new:  # another space may go
            ctypes.memset(self.tags, 0, ctypes.sizeof(self.tags))
        super().switch(tag)
        space = self._spaces[tag]
        assert isinstance(space, NativeSpace)
        if new or not self._tag_of:
            spaces = self._spaces.items()
            self._tag_of = {s.table_hva: t for t, s in spaces if isinstance(s, NativeSpace)}
            ctypes.memset(self.list, 0, ctypes.sizeof(self.list))
            for n, (table_hva, known) in enumerate(self._tag_of.items()):
                self.list[2 * n], self.list[2 * n + 1] = known[0], table_hva
        vpid, pcid, root = tag
        at = 4 * tag_index(vpid << 12 | pcid, root)
        self.tags[at], self.tags[at + 1] = vpid << 12 | pcid, root
        self.tags[at + 2] = self.switched_to = space.table_hva

    def adopt(self, table_hva: int) -> None:
        """Native code made the space with this table the current one."""
        self.switch(self._tag_of[table_hva])

    def new_space(self) -> AddressSpace:
        return _Noted(self._bulk, self._on_flush)

    @property
    def table_hva(self) -> int:
        """Host address of the current space's table."""
        space = self.space
        assert isinstance(space, NativeSpace)
        return space.table_hva

    def widen(self) -> None:
        """Make ranges of the pages around those that regions missed last."""
        space = self.space
        assert isinstance(space, NativeSpace)
        space.widen()

    def protect(self, host_page: int) -> None:
        for space in self.spaces():
            assert isinstance(space, NativeSpace)
            space.forget_writes_to(host_page)
        self._on_protect(host_page)


class _Noted(NativeSpace):
    """Tells when code that was found through it may be somewhere else."""

    def __init__(self, bulk: Bulk, on_flush: Callable[[AddressSpace], None]) -> None:
        super().__init__(bulk)
        self._on_flush = on_flush

    def forget_page(self, gva: int) -> None:
        fetched = any(gva >> _PAGE_BITS in pages for pages in self.fetch)
        super().forget_page(gva)
        if fetched:
            self._on_flush(self)

    def forget_all(self) -> None:
        super().forget_all()
        self._on_flush(self)

    def forget_local(self) -> None:
        super().forget_local()
        self._on_flush(self)
