"""The pages that code was translated from: their blocks, ahead of being run, or from a record.

At the first translation in a page it looks for a record of exactly these bytes, at this place,
under this key, and puts its blocks in place; what no record has is translated in native code,
where that is possible, together with what can be reached from it. A block is made for Python
when it is asked for. What a record looks like is not known here.
"""

from collections import Counter
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, NamedTuple

from vtx.engine.native import page_layout as code
from vtx.engine.native.arena import Arena
from vtx.engine.native.batches import Batches, View
from vtx.engine.native.between import number_of
from vtx.engine.native.blocks import Block, BlockWriter
from vtx.engine.native.flat import FlatTables, flat_tables
from vtx.engine.native.flat import is_possible as can_be_flat
from vtx.engine.native.kept import name_of
from vtx.engine.native.page_records import (
    PageRecords,
    Part,
    is_possible,
    page_records,
    part_of,
)
from vtx.engine.native.templates import Piece, Templates
from vtx.isa.key import Key

_MOST_CONTENTS = 4
"""Contents of one page for which records are sought, and what is ahead is translated; it changes
too often to gain from more."""
_WRAP = (1 << 64) - 1
NO_LIMIT = _WRAP

Watch = Callable[[int, int], None]
"""Called with the bytes of a page from which code was made, a bit each, and their lines."""


class Segment(NamedTuple):
    """What a block depends on besides its bytes and where they lie."""

    key: Key
    base: int
    """Of CS, as far as it matters; so is the limit."""
    limit: int


class PageCache:
    """The pages of one engine."""

    def __init__(
        self,
        batches: Batches,
        arena: Arena,
        writer: BlockWriter,
        features: frozenset[str],
        records: PageRecords | None = None,
    ) -> None:
        self._batches, self._arena, self._writer = batches, arena, writer
        self._features = tuple(sorted(features))
        self._records = records or page_records()
        self._is_possible = is_possible()
        self._keeps = True
        self._views: dict[int, dict[tuple[int, Segment], View]] = {}
        """Host page -> where it lies in CS, and in which -> what is known."""
        self._contents: Counter[Any] = Counter()
        """Page and what else its code depends on -> how often its contents were new."""
        self._tables: dict[Key, FlatTables] = {}
        self.reused = 0
        """Blocks that needed no translation."""

    def disable(self) -> None:
        """Do nothing: somebody wants to see each block when it is first entered."""
        self._is_possible = False

    def keep_nothing(self) -> None:
        """Neither seek records nor make any."""
        self._keeps = False

    @property
    def is_possible(self) -> bool:
        return self._is_possible

    # --- finding -----------------------------------------------------------------------------
    def view(
        self, host_page: int, content: bytes, first_ip: int, segment: Segment, watch: Watch
    ) -> View:
        """What is known of a page with this content."""
        views = self._views.get(host_page)
        view = None if views is None else views.get((first_ip, segment))
        if view is not None and view.content == content:
            return view
        seen = (host_page, first_ip, segment)
        self._contents[seen] += 1
        is_new = self._contents[seen] <= _MOST_CONTENTS
        name = None
        if is_new and self._keeps:
            digest = blake2b(content, digest_size=16).digest()
            name = name_of(digest, first_ip, tuple(segment), self._features)
        if view is not None:
            # What was translated is watched, so it is as it was: other bytes have changed.
            view.content, view.name, view.ahead = content, name, is_new
            return view
        view = self._make(host_page, content, first_ip, segment, name, is_new)
        self._views.setdefault(host_page, {})[first_ip, segment] = view
        record = None if name is None else self._records.get(name)
        if record is not None:
            self._batches.install(view, record)
            self.reused += sum(len(batch.blocks) // (code.BLOCK // 4) for batch in view.batches)
            watch(*self._batches.watched())
        return view

    def _make(
        self, host_page: int, content: bytes, first_ip: int, segment: Segment, name: bytes | None,
        is_new: bool,
    ) -> View:  # fmt: skip
        key = segment.key
        is_flat = segment.limit == NO_LIMIT and segment.base == 0
        tables = None
        if is_flat and can_be_flat():
            tables = self._tables.get(key)
            if tables is None:
                tables = self._tables[key] = flat_tables(key, self._features)
        number = number_of(key) if is_flat else 0
        mask = _WRAP if key.bits == 64 else 0xFFFF_FFFF
        return View(host_page, first_ip, mask, number, tables, content, name, is_new)

    def find(self, view: View, ip: int, inside: int) -> Block | None:
        """The block at `ip`, page offset `inside`, if there is one."""
        return view.block(self._arena.base, ip, inside)

    def known(self, host_page: int, ip: int, inside: int, segment: Segment) -> Block | None:
        """The same without looking at what the page holds now."""
        view = self._views.get(host_page, {}).get((ip - inside, segment))
        return None if view is None else self.find(view, ip, inside)

    # --- translating -------------------------------------------------------------------------
    def translate(
        self, view: View, ip: int, inside: int, most: int, watch: Watch
    ) -> Block | bool | None:
        """Translate the block there, and what can be reached from it.

        True if native code has to learn its instructions, False if Python has to translate it.
        Raises ArenaFullError.
        """
        status, part = self._batches.translate(view, inside, most)
        if part is None:
            return status == code.UNKNOWN
        self._record(view, part)
        watch(*self._batches.watched())
        return self.find(view, ip, inside)

    def learn(
        self, view: View, templates: Templates, inside: int, pieces: list[Piece]
    ) -> int:  # fmt: skip
        """Let native code know these instructions, which follow each other; how many it takes.

        Raises CompileError if not even the first has a stencil.
        """
        tables, content = view.tables, view.content
        if tables is None:
            return 0
        known: int | None = None
        for n, (piece, plan) in enumerate(zip(pieces, self._writer.plans(pieces), strict=False)):
            raw = content[inside : inside + 15]
            if not tables.learn(templates, raw, piece, plan, known):
                return n
            known = known if plan.flags_out is None else plan.flags_out
            inside += piece.template.length
        return n + 1

    def add(self, view: View, block: Block, inside: int) -> None:
        """Keep a block that the writer wrote last."""
        copy = self._writer.copy
        part = None if copy is None else part_of(block, inside, copy, self._arena.base)
        if part is not None:
            self._batches.add(view, block, inside, part)
            self._record(view, part)

    def _record(self, view: View, part: Part) -> None:
        if view.name is not None:
            self._records.add(view.name, part)

    # --- forgetting --------------------------------------------------------------------------
    def forget_page(self, host_page: int) -> None:
        """Forget what a page held; none of its blocks does anything any more."""
        for view in self._views.pop(host_page, {}).values():
            self._batches.kill(view)

    def forget(self) -> None:
        """The arena is emptied."""
        self._views.clear()
        self._contents.clear()
        self._batches.forget()
