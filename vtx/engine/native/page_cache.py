"""Pages of code that were translated before, by this process or another: all blocks at once.

At the first translation in a page it looks for a record of exactly these bytes, at this place,
under this key, and copies its code to the arena; a block of it is made when it is asked for. What
a record looks like, and where blocks belong, is not known here.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from struct import Struct
from typing import Any

from vtx.engine.native.arena import FUNCTION_ALIGNMENT, Arena, ArenaFullError
from vtx.engine.native.blocks import Block, BlockWriter, Link
from vtx.engine.native.compiler import CompileError
from vtx.engine.native.kept import name_of
from vtx.engine.native.library import Library
from vtx.engine.native.page_records import (
    Fresh,
    PageRecords,
    Record,
    Stored,
    is_possible,
    page_records,
)

_MOST_CONTENTS = 4
"""Contents of one page for which records are sought; it changes too often to gain from more."""

Watch = Callable[[int, int], None]
"""Called with the first and the last byte of a page from which code was made."""
_PUT = Struct("<i").pack_into


@dataclass(slots=True)
class _Page:
    """What is known of a page under one key, at one place."""

    content: bytes
    name: bytes
    """Of its record."""
    waiting: dict[int, tuple[int, Stored]] = field(default_factory=dict)
    """Offset in CS -> where the code of the record lies that has a block for it, and the block."""


class PageCache:
    """The pages of one engine."""

    def __init__(
        self,
        arena: Arena,
        library: Library,
        writer: BlockWriter,
        features: frozenset[str],
        records: PageRecords | None = None,
    ) -> None:
        self._arena, self._library, self._writer = arena, library, writer
        self._features = tuple(sorted(features))
        self._records = records or page_records()
        self._is_possible = is_possible()
        self._pages: dict[int, dict[Any, _Page]] = {}
        """Host page -> what else its code depends on -> what is known."""
        self._installed: dict[int, list[tuple[int, Record]]] = {}
        """Host page -> the records in the arena, and where."""
        self._contents: Counter[Any] = Counter()
        """Page and what else its code depends on -> how often its contents were new."""
        self.reused = 0
        """Blocks that needed no translation."""

    def disable(self) -> None:
        """Reuse nothing: somebody wants to see each block when it is first entered."""
        self._is_possible = False

    def find(
        self, host_page: int, content: bytes, ip: int, inside: int, rest: Any, watch: Watch
    ) -> Block | None:
        """The block at `ip`, page offset `inside`, if a record has it.

        `rest` is what code depends on besides the bytes and `ip`.
        """
        page = self._page(host_page, content, ip - inside, rest, watch)
        found = None if page is None else page.waiting.pop(ip, None)
        if found is None:
            return None
        self.reused += 1
        start, stored = found
        hva = self._arena.base + start
        entry = hva + stored.at
        return Block(
            ip, entry, stored.instructions, stored.length, entry, stored.repeats, hva + stored.gone
        )  # fmt: skip

    def add(self, host_page: int, block: Block, inside: int, rest: Any) -> None:
        """Keep a block that the writer wrote last, for which `find` was asked before."""
        page = self._pages.get(host_page, {}).get((block.ip - inside, rest))
        copy = self._writer.copy
        if page is not None and copy is not None:
            self._records.add(page.name, Fresh(block, inside, copy, self._arena.base))

    def forget_page(self, host_page: int) -> Iterator[Block]:
        """Forget what a page held; the blocks that must not be entered any more."""
        self._pages.pop(host_page, None)
        base = self._arena.base
        for start, record in self._installed.pop(host_page, ()):
            for one in record.blocks:
                entry, gone = base + start + one.at, base + start + one.gone
                yield Block(one.ip, entry, one.instructions, one.length, entry, one.repeats, gone)

    def forget(self) -> None:
        """The arena is emptied."""
        self._pages.clear()
        self._installed.clear()
        self._contents.clear()

    # --- installing --------------------------------------------------------------------------
    def _page(
        self, host_page: int, content: bytes, first_ip: int, rest: Any, watch: Watch
    ) -> _Page | None:
        """What is known of a page with this content; None if nothing is to be known of it."""
        views = self._pages.get(host_page)
        page = None if views is None else views.get((first_ip, rest))
        if page is not None and page.content == content:
            return page
        seen = (host_page, first_ip, rest)
        if not self._is_possible or self._contents[seen] >= _MOST_CONTENTS:
            if views is not None:
                views.pop((first_ip, rest), None)
            return None
        digest = blake2b(content, digest_size=16).digest()
        page = _Page(content, name_of(digest, first_ip, rest, self._features))
        record = self._records.get(page.name)
        start = None if record is None else self._install(record)
        if record is not None and start is not None:
            page.waiting = {one.ip: (start, one) for one in record.blocks}
            self._installed.setdefault(host_page, []).append((start, record))
            for first, last in record.ranges:
                watch(first, last)
        self._contents[seen] += 1
        self._pages.setdefault(host_page, {})[first_ip, rest] = page
        return page

    def _install(self, record: Record) -> int | None:
        """Where in the arena the code is now; None if it cannot be used, or does not fit."""
        hvas = {symbol: self._hva(symbol) for symbol in record.calls}
        if None in hvas.values():
            return None
        size, view = len(record.code), self._arena.view
        if size + FUNCTION_ALIGNMENT > self._arena.room:
            return None
        start = self._arena.allocate(size)
        view[start : start + size] = record.code
        code = view[start : start + size]
        for symbol, (sites, plus) in record.calls.items():
            distance = (hvas[symbol] or 0) - self._arena.base - start
            for at, addend in zip(sites, plus, strict=True):
                _PUT(code, at, distance + addend)
        links = self._writer.links
        for hole, at, packer, addend, target in record.links:
            links.append(Link(start + at, packer, addend - start, target))
            _PUT(code, hole, len(links))
        self._arena.flush(start, size)
        return start

    def _hva(self, symbol: str) -> int | None:
        """Host address of a function; None if there is none."""
        known = self._library.symbols.get(symbol)
        if known is None and symbol.startswith("routine_"):
            try:
                return self._library.routine(symbol.removeprefix("routine_"))
            except (CompileError, ArenaFullError):
                return None
        return known
