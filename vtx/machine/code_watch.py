"""Which host pages hold translated code, so that a store to one of them is noticed.

Several CPUs may translate from and write to one physical memory; all of them share one watch.
It does not know what a translation is: an owner gives a callback, and is called once when its
page changes.
"""

from collections.abc import Callable

from vtx.machine.tlb import Tlb

OnWrite = Callable[[int], None]


class CodeWatch:
    """Host page offset -> who must hear of a write to it."""

    def __init__(self) -> None:
        self.pages: dict[int, list[OnWrite]] = {}
        self._tlbs: list[Tlb] = []

    def add_tlb(self, tlb: Tlb) -> None:
        """`tlb` must lose its write translations to pages that come under watch."""
        self._tlbs.append(tlb)

    def replace_tlb(self, old: Tlb, new: Tlb) -> None:
        """A CPU has another TLB now."""
        self._tlbs[self._tlbs.index(old)] = new

    def watch(self, host_page: int, on_write: OnWrite) -> None:
        """Call `on_write(host_page)` once, when the page is next written."""
        owners = self.pages.get(host_page)
        if owners is None:
            self.pages[host_page] = [on_write]
            for tlb in self._tlbs:
                tlb.protect(host_page)
        elif on_write not in owners:
            owners.append(on_write)

    def written(self, host_page: int) -> bool:
        """Tell the owners of a page, if it has any, that it changed."""
        owners = self.pages.pop(host_page, None)
        if owners is None:
            return False
        for on_write in owners:
            on_write(host_page)
        return True
