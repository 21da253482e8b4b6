"""The translation lookaside buffer: which physical page a linear page means, for whom.

Translations are kept per address-space tag (VPID, PCID, EPT root) and per kind of access, so a
hit needs no check: a page is in the write map only once its dirty flag is set and its rights
allow the write. It is in the read map then, too. It belongs to the machine: both readers of the
algebra use this one. It does not know how translations are made.
Source: SDM 3A, Caching Translation Information; SDM 3C, Caching Translation Information.
"""

from collections.abc import Iterable, MutableMapping

from vtx.isa.program import Privilege

PRIVILEGES = tuple(Privilege)
PageMap = MutableMapping[int, int]
"""Linear page number -> host offset of the page."""


class AddressSpace:
    """The cached translations of one tag. Its maps are indexed by position in PRIVILEGES."""

    __slots__ = ("fetch", "global_pages", "guarded", "reads", "writes")

    def __init__(self) -> None:
        self.reads: tuple[PageMap, ...] = tuple({} for _ in PRIVILEGES)
        self.writes: tuple[PageMap, ...] = tuple({} for _ in PRIVILEGES)
        self.guarded: tuple[PageMap, ...] = tuple({} for _ in PRIVILEGES)
        """Pages that may be written, but not without notice: `machine.code_watch` has them."""
        self.fetch: tuple[PageMap, ...] = tuple({} for _ in PRIVILEGES)
        self.global_pages: set[int] = set()

    def maps(self) -> Iterable[PageMap]:
        yield from self.reads
        yield from self.writes
        yield from self.guarded
        yield from self.fetch

    def is_global(self, page: int) -> bool:
        """The page was translated as a global one."""
        return page in self.global_pages

    def forget_page(self, gva: int) -> None:
        page = gva >> 12
        for pages in self.maps():
            pages.pop(page, None)
        self.global_pages.discard(page)

    def forget_all(self) -> None:
        for kind in (self.reads, self.writes, self.guarded, self.fetch):
            for pages in kind:
                if pages:
                    pages.clear()
        self.global_pages.clear()

    def forget_local(self) -> None:
        """Everything but global pages."""
        keep = self.global_pages
        if not keep:
            self.forget_all()
            return
        for pages in self.maps():
            for page in [page for page in pages if page not in keep]:
                del pages[page]


Tag = tuple[int, int, int]
"""(VPID, PCID, EPT root)."""

MOST_SPACES = 64


class Tlb:
    """All address spaces of one CPU; the current one is `space`."""

    def __init__(self) -> None:
        self._spaces: dict[Tag, AddressSpace] = {}
        self.tag: Tag = (0, 0, 0)
        self._bypass: AddressSpace | None = None
        self.space = self._spaces.setdefault(self.tag, self.new_space())

    def new_space(self) -> AddressSpace:
        """An empty space; an executor's own TLB may have its own kind."""
        return AddressSpace()

    def spaces(self) -> Iterable[AddressSpace]:
        """The spaces of all tags."""
        return self._spaces.values()

    def switch(self, tag: Tag) -> None:
        """Make `tag` current, keeping what is cached under the others."""
        self.tag = tag
        space = self._spaces.get(tag)
        if space is None:
            if len(self._spaces) >= MOST_SPACES:
                del self._spaces[next(iter(self._spaces))]
            space = self._spaces[tag] = self.new_space()
        if self._bypass is None:
            self.space = space

    def bypass(self, on: bool) -> None:
        """Hide what is cached, so that every access misses; or show it again."""
        self._bypass = AddressSpace() if on else None
        self.space = self._bypass or self._spaces[self.tag]

    def flush(
        self,
        *,
        vpid: int | None = None,
        pcid: int | None = None,
        eptp: int | None = None,
        keep_global: bool = False,
    ) -> None:
        """Forget the spaces that match every given part of the tag."""
        for (tag_vpid, tag_pcid, tag_eptp), space in self._spaces.items():
            if vpid is not None and vpid != tag_vpid:
                continue
            if pcid is not None and pcid != tag_pcid:
                continue
            if eptp is not None and eptp != tag_eptp:
                continue
            if keep_global:
                space.forget_local()
            else:
                space.forget_all()

    def flush_page(self, gva: int, *, vpid: int, pcid: int | None = None) -> None:
        """Forget one linear page: in the given PCID, and wherever it is global."""
        page = gva >> 12
        for (tag_vpid, tag_pcid, _), space in self._spaces.items():
            if tag_vpid != vpid:
                continue
            if pcid is None or tag_pcid == pcid or space.is_global(page):
                space.forget_page(gva)

    def protect(self, host_page: int) -> None:
        """Nothing is written to a host page without notice any more (it holds translated code)."""
        for space in self._spaces.values():
            for pages, guarded in zip(space.writes, space.guarded, strict=True):
                for page in [page for page, host in pages.items() if host == host_page]:
                    del pages[page]
                    guarded[page] = host_page
