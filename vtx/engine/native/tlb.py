"""The TLB in a form that native code reads: the dictionaries of `machine.tlb` plus one table.

The table of an address space holds some of what its dictionaries hold and never more, so
whatever forgets an entry there forgets it here. It does not know how translations are made.
"""

import ctypes
from collections.abc import Callable

from vtx.engine.native.context import NO_TAG, TLB_ENTRIES
from vtx.machine.tlb import PRIVILEGES, AddressSpace, Tlb

_WORDS = len(PRIVILEGES) * TLB_ENTRIES * 4
_Table = ctypes.c_uint64 * _WORDS
_EMPTY = _Table(*([NO_TAG, NO_TAG, 0, 0] * (_WORDS // 4)))
_SIZE = ctypes.sizeof(_EMPTY)
_PAGE_BITS, _WRAP = 12, (1 << 64) - 1


class NativeSpace(AddressSpace):
    """One tag's translations, with their table for native code."""

    def __init__(self) -> None:
        super().__init__()
        self.table = _Table.from_buffer_copy(_EMPTY)
        self.table_hva = ctypes.addressof(self.table)

    def enter(self, page: int, privilege: int, hva: int, *, write: bool) -> None:
        """Let native code find linear page number `page` at host address `hva`."""
        table, at = self.table, self._at(page, privilege)
        gva = page << _PAGE_BITS
        distance = (hva - gva) & _WRAP
        if table[at + 2] != distance:
            table[at] = table[at + 1] = NO_TAG
            table[at + 2] = distance
        other = at if write else at + 1
        if table[other] != gva:
            table[other] = NO_TAG
        table[at + write] = gva

    @staticmethod
    def _at(page: int, privilege: int) -> int:
        return (privilege * TLB_ENTRIES + page % TLB_ENTRIES) * 4

    def forget_page(self, gva: int) -> None:
        super().forget_page(gva)
        page = gva >> _PAGE_BITS
        for privilege in range(len(PRIVILEGES)):
            at = self._at(page, privilege)
            self.table[at] = self.table[at + 1] = NO_TAG

    def forget_all(self) -> None:
        super().forget_all()
        self.forget_table()

    def forget_local(self) -> None:
        super().forget_local()
        self.forget_table()

    def forget_table(self) -> None:
        """Empty the table only; it is filled again from the dictionaries."""
        ctypes.memmove(self.table, _EMPTY, _SIZE)

    def forget_writes_to(self, host_page: int) -> None:
        """Withdraw the right to write a host page."""
        for privilege, pages in enumerate(self.writes):
            for page in [page for page, host in pages.items() if host == host_page]:
                del pages[page]
                self.table[self._at(page, privilege) + 1] = NO_TAG


class NativeTlb(Tlb):
    """A TLB whose address spaces have tables.

    `on_flush` is called with the spaces that forgot how to fetch; `on_protect` with a host page
    that must not be written without notice.
    """

    def __init__(
        self, on_flush: Callable[[AddressSpace], None], on_protect: Callable[[int], None]
    ) -> None:
        self._on_flush, self._on_protect = on_flush, on_protect
        super().__init__()

    def new_space(self) -> AddressSpace:
        return _Noted(self._on_flush)

    @property
    def table_hva(self) -> int:
        """Host address of the current space's table."""
        space = self.space
        assert isinstance(space, NativeSpace)
        return space.table_hva

    def protect(self, host_page: int) -> None:
        for space in self.spaces():
            assert isinstance(space, NativeSpace)
            space.forget_writes_to(host_page)
        self._on_protect(host_page)


class _Noted(NativeSpace):
    """Tells when code that was found through it may be somewhere else."""

    def __init__(self, on_flush: Callable[[AddressSpace], None]) -> None:
        super().__init__()
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
