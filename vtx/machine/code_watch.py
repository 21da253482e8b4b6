"""Which bytes of host pages hold translated code, so that a store to them is noticed.

Several CPUs may translate from and write to one physical memory; all of them share one watch.
It does not know what a translation is: an owner gives a callback, and is called once when what
it watches of a page changes. A store beside it disturbs nobody. Observers learn roughly, in
lines of some bytes, what is watched.
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


def _bits(first: int, last: int) -> int:
    return (1 << last + 1) - (1 << first)


class CodeWatch:
    """Host page offset -> who must hear of a write to it."""

    def __init__(self) -> None:
        self.pages: dict[int, list[OnWrite]] = {}
        self._bytes: dict[int, int] = {}
        """Host page offset -> its bytes that are watched, a bit each."""
        self._lines: dict[int, int] = {}
        """Host page offset -> its lines with such bytes, as `lines_of` has them."""
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
        for host_page, lines in self._lines.items():
            on_lines(host_page, lines)

    def watch(self, host_page: int, on_write: OnWrite, first: int = 0, last: int = _LAST) -> None:
        """Call `on_write(host_page)` once, when its bytes from `first` to `last` are written.

        It may be called for another write to the page, too.
        """
        self.watch_bytes(host_page, on_write, _bits(first, last), lines_of(first, last))

    def watch_bytes(self, host_page: int, on_write: OnWrite, bits: int, lines: int) -> None:
        """The same for the bytes whose bits are set, which lie in these lines."""
        owners = self.pages.get(host_page)
        if owners is None:
            self.pages[host_page] = [on_write]
            for tlb in self._tlbs:
                tlb.protect(host_page)
        elif on_write not in owners:
            owners.append(on_write)
        self._bytes[host_page] = self._bytes.get(host_page, 0) | bits
        before = self._lines.get(host_page, 0)
        if before | lines != before:
            self._lines[host_page] = before | lines
            self._tell(host_page, before | lines)

    def written(self, host_page: int, first: int = 0, last: int = _LAST) -> bool:
        """Tell the owners of a page that its bytes from `first` to `last` changed.

        False if nobody watches them.
        """
        if not self._bytes.get(host_page, 0) & _bits(first, last):
            return False
        owners = self.pages.pop(host_page)
        del self._bytes[host_page], self._lines[host_page]
        self._tell(host_page, 0)
        for on_write in owners:
            on_write(host_page)
        return True

    def _tell(self, host_page: int, lines: int) -> None:
        for observer in self._observers:
            observer(host_page, lines)
