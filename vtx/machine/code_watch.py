"""Which bytes of host pages hold translated code, so that a store to them is noticed.

Several CPUs may translate from and write to one physical memory; all of them share one watch.
It does not know what a translation is: an owner gives a callback, and is called once when what
it watches of a page changes. Bytes are watched in lines: a store beside them disturbs nobody.
"""

from collections.abc import Callable

from vtx.machine.tlb import Tlb

OnWrite = Callable[[int], None]
OnLines = Callable[[int, int], None]

LINE_SHIFT = 6
"""Two to this are the bytes of a line; a page has 64 of them."""
_LAST = 4095


def lines_of(first: int, last: int) -> int:
    """Bit n is set if a byte from `first` to `last` of a page lies in its line n."""
    return (2 << (last >> LINE_SHIFT)) - (1 << (first >> LINE_SHIFT))


class CodeWatch:
    """Host page offset -> who must hear of a write to it."""

    def __init__(self) -> None:
        self.pages: dict[int, list[OnWrite]] = {}
        self.lines: dict[int, int] = {}
        """Host page offset -> the lines that are watched, as `lines_of` has them."""
        self._tlbs: list[Tlb] = []
        self._observers: list[OnLines] = []

    def add_tlb(self, tlb: Tlb) -> None:
        """`tlb` must lose its write translations to pages that come under watch."""
        self._tlbs.append(tlb)

    def replace_tlb(self, old: Tlb, new: Tlb) -> None:
        """A CPU has another TLB now."""
        self._tlbs[self._tlbs.index(old)] = new

    def observe(self, on_lines: OnLines) -> None:
        """Call `on_lines(host_page, lines)` whenever the watched lines of a page change."""
        self._observers.append(on_lines)
        for host_page, lines in self.lines.items():
            on_lines(host_page, lines)

    def watch(self, host_page: int, on_write: OnWrite, first: int = 0, last: int = _LAST) -> None:
        """Call `on_write(host_page)` once, when its bytes from `first` to `last` are written.

        It may be called for another write to the page, too.
        """
        owners = self.pages.get(host_page)
        if owners is None:
            self.pages[host_page] = [on_write]
            for tlb in self._tlbs:
                tlb.protect(host_page)
        elif on_write not in owners:
            owners.append(on_write)
        before = self.lines.get(host_page, 0)
        lines = before | lines_of(first, last)
        if lines != before:
            self._set_lines(host_page, lines)

    def written(self, host_page: int, first: int = 0, last: int = _LAST) -> bool:
        """Tell the owners of a page that its bytes from `first` to `last` changed.

        False if nobody watches them.
        """
        if not self.lines.get(host_page, 0) & lines_of(first, last):
            return False
        owners = self.pages.pop(host_page)
        self._set_lines(host_page, 0)
        for on_write in owners:
            on_write(host_page)
        return True

    def _set_lines(self, host_page: int, lines: int) -> None:
        if lines:
            self.lines[host_page] = lines
        else:
            del self.lines[host_page]
        for observer in self._observers:
            observer(host_page, lines)
