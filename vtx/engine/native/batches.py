"""Batches: blocks of one page that native code translates, or puts in place, at once.

It calls compiled code and turns lists into Python where Python wants to know a
block. When that is done, and for which pages, is `page_cache`'s business.
"""

import ctypes
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

from vtx.engine.native import page_layout as code
from vtx.engine.native.arena import FUNCTION_ALIGNMENT, Arena, ArenaFullError
from vtx.engine.native.blocks import Block, BlockWriter
from vtx.engine.native.compiler import CompileError
from vtx.engine.native.flat import FlatTables
from vtx.engine.native.library import Library
from vtx.engine.native.page_records import Part, hole_of_link, named
from vtx.engine.native.stencils import common

_PAGE = 4096
_BLOCK_WORDS = code.BLOCK // 4
_NO_DISTANCE = 1 << 62
"""The address of what is not linked: it fits no field."""
_ALIGN = -FUNCTION_ALIGNMENT


@dataclass(slots=True)
class Batch:
    """Blocks in the arena."""

    start: int
    """Offset in the arena."""
    blocks: "array[int]"
    _numbers: dict[int, int] | None = None
    """Page offset of a block -> its number."""

    def block(self, base: int, ip: int, inside: int) -> Block | None:
        """The block at a page offset, which is `ip`, in the arena at `base`."""
        if self.blocks[0] == inside:
            n = 0
        else:
            if self._numbers is None:
                offsets = self.blocks[::_BLOCK_WORDS]
                self._numbers = {offset: n for n, offset in enumerate(offsets)}
            n = self._numbers.get(inside, -1)
            if n < 0:
                return None
        _, at, count, length, repeats, gone, _, _ = self.blocks[
            _BLOCK_WORDS * n : _BLOCK_WORDS * (n + 1)
        ]
        hva = base + self.start
        return Block(ip, hva + at, count, length, hva + at, bool(repeats), hva + gone)


@dataclass(slots=True, eq=False)
class View:
    """What is known of a page under one key, at one place."""

    host_page: int
    first_ip: int
    """Offset in CS of the page's first byte."""
    mask: int
    """Of offsets in CS."""
    number: int
    """Of the key, 0 where native code may not find blocks by it."""
    tables: FlatTables | None
    """None: Python translates here."""
    content: bytes
    name: bytes | None
    """Of the record of this content; None if there is none."""
    ahead: bool
    batches: list[Batch] = field(default_factory=list)

    def block(self, base: int, ip: int, inside: int) -> Block | None:
        """The block there, in the arena at `base`."""
        for batch in self.batches:
            found = batch.block(base, ip, inside)
            if found is not None:
                return found
        return None


class Batches:
    """Calls native code for one engine."""

    def __init__(
        self, arena: Arena, library: Library, writer: BlockWriter, memory_hva: int, places_hva: int,
        places_shift: int,
    ) -> None:  # fmt: skip
        """`memory_hva` is where host pages lie; the last two say where native code looks for
        blocks by their place."""
        self._arena, self._library, self._writer = arena, library, writer
        self._memory_hva = memory_hva
        job = self._job = (ctypes.c_uint64 * (code.JOB_SIZE // 8))()
        self._at = ctypes.addressof(job)
        self._entries = (ctypes.c_uint32 * _PAGE)()
        self._watched = (ctypes.c_char * (_PAGE // 8))()
        self._calls = (ctypes.c_char * (code.CALL * code.MOST_CALLS))()
        self._blocks = (ctypes.c_char * (code.BLOCK * code.MOST_BLOCKS))()
        self._links = (ctypes.c_char * (code.LINK * code.MOST_LINKS))()
        self._waiting = (ctypes.c_char * (code.WAIT * code.MOST_WAITING))()
        self._addresses: dict[FlatTables, tuple[object, ctypes.Array[ctypes.c_int64]]] = {}
        self._entered: View | None = None
        """The view whose blocks are in `_entries`."""
        for word, place in (
            (code.ENTRIES, self._entries), (code.WATCHED, self._watched),
            (code.WAITING, self._waiting),
        ):  # fmt: skip
            job[word // 8] = ctypes.addressof(place)
        job[code.BASE // 8], job[code.END // 8] = arena.base, arena.size
        job[code.PLACES // 8], job[code.PLACES_SHIFT // 8] = places_hva, places_shift
        job[code.HOLE // 8] = hole_of_link()
        call = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64)
        symbols = library.symbols
        self._translate = call(symbols["translate_page"])
        self._install = call(symbols["install_batch"])
        self._enter = call(symbols["enter_batch"])
        self._connect = call(symbols["connect_batch"])
        self._kill = call(symbols["kill_batch"])

    def _set(self, values: dict[int, int]) -> None:
        for word, value in values.items():
            self._job[word // 8] = value

    # --- translating -------------------------------------------------------------------------
    def translate(self, view: View, inside: int, most: int) -> tuple[int, Part | None]:
        """Translate the block at a page offset, at most `most` instructions, and go on from it.

        How it ended, and what was added to the view. Raises ArenaFullError.
        """
        tables, arena, job = view.tables, self._arena, self._job
        if tables is None:
            return code.PYTHON, None
        commons = tables.commons(common())
        if commons is None:
            return code.PYTHON, None
        head, unlinked, through = commons
        self._show(view)
        start = arena.used + FUNCTION_ALIGNMENT - 1 & _ALIGN
        links = self._writer.links
        self._set({
            code.POOL: tables.hva, code.INSIDE: inside, code.MOST: most, code.AHEAD: view.ahead,
            code.HEAD: head, code.UNLINKED: unlinked, code.THROUGH: through,
            code.ADDRESSES: self._addresses_of(tables), code.START: start,
            code.AT: start, code.FIRST_LINK: links.next_number, code.CALL_COUNT: 0,
            code.BLOCK_COUNT: 0, code.LINK_COUNT: 0, code.WAITING_COUNT: 0,
            code.CALLS: ctypes.addressof(self._calls), code.LINKS: ctypes.addressof(self._links),
            code.BLOCKS: ctypes.addressof(self._blocks), code.LINES: 0,
        })  # fmt: skip
        ctypes.memset(self._watched, 0, len(self._watched))
        status = int(self._translate(self._at))
        if status == code.FULL:
            raise ArenaFullError("a block does not fit")
        if status != code.DONE:
            return status, None
        size = job[code.AT // 8] - start
        arena.allocate(start + size - arena.used, 1)
        arena.flush(start, size)
        calls = bytes(memoryview(self._calls)[: code.CALL * job[code.CALL_COUNT // 8]])
        part = Part(
            bytes(arena.view[start : start + size]),
            bytes(memoryview(self._blocks)[: code.BLOCK * job[code.BLOCK_COUNT // 8]]), calls,
            bytes(memoryview(self._links)[: code.LINK * job[code.LINK_COUNT // 8]]),
            named(calls, tables.symbols) if view.name is not None else (),
        )  # fmt: skip
        self._keep(view, start, part)
        return status, part

    def _addresses_of(self, tables: FlatTables) -> int:
        """Where the addresses lie of the functions that the tables have numbers for."""
        linked, size = self._library.symbols, (len(tables.symbols), len(self._library.symbols))
        known = self._addresses.get(tables)
        if known is None or known[0] != size:
            base = self._arena.base
            found = (linked.get(name) for name in tables.symbols)
            distances = [_NO_DISTANCE if hva is None else hva - base for hva in found]
            known = size, (ctypes.c_int64 * len(distances))(*distances)
            self._addresses[tables] = known
        return ctypes.addressof(known[1])

    def watched(self) -> tuple[int, int]:
        """Bytes and lines of the page that the blocks made last were made from, a bit each."""
        return int.from_bytes(self._watched.raw, "little"), self._job[code.LINES // 8]

    def _keep(self, view: View, start: int, part: Part) -> None:
        view.batches.append(Batch(start, array("i", part.blocks)))
        links = array("i", part.links)
        self._writer.links.add_listed(start, links, view.first_ip, view.mask)

    # --- what is there already -----------------------------------------------------------------
    def add(self, view: View, block: Block, inside: int, part: Part) -> None:
        """Let native code find a block that Python wrote, `part`, in its page."""
        start = block.hva - self._arena.base
        view.batches.append(Batch(start, array("i", part.blocks)))
        if self._entered is view:
            self._entries[inside] = start + 1

    def install(self, view: View, parts: Sequence[Part]) -> bool:
        """Copy what was translated before to the arena; False if not all of it can be used."""
        self._show(view)
        self._set({code.IS_NEW: 1, code.LINES: 0})
        ctypes.memset(self._watched, 0, len(self._watched))
        complete = all(self._install_part(view, part) for part in parts)
        for batch, part in zip(view.batches, parts, strict=False):
            self._describe(batch.start, part)
            self._connect(self._at)
        return complete

    def _describe(self, start: int, part: Part) -> None:
        self._buffers = [ctypes.c_char_p(one) for one in (part.blocks, part.calls, part.links)]
        blocks, calls, links = (
            ctypes.cast(one, ctypes.c_void_p).value or 0 for one in self._buffers
        )
        self._set({
            code.AT: start, code.SIZE: len(part.code), code.BLOCKS: blocks, code.CALLS: calls,
            code.LINKS: links, code.BLOCK_COUNT: len(part.blocks) // code.BLOCK,
            code.CALL_COUNT: len(part.calls) // code.CALL,
            code.LINK_COUNT: len(part.links) // code.LINK,
        })  # fmt: skip

    def _install_part(self, view: View, part: Part) -> bool:
        hvas = {number: self._hva(name) for number, name in part.names}
        size, arena = len(part.code), self._arena
        if None in hvas.values() or size + FUNCTION_ALIGNMENT > arena.room or not part.blocks:
            return False
        used = arena.used
        start = arena.allocate(size)
        arena.view[start : start + size] = part.code
        addresses = (ctypes.c_int64 * (1 + max(hvas, default=-1)))()
        for number in range(len(addresses)):
            hva = hvas.get(number)
            addresses[number] = _NO_DISTANCE if hva is None else hva - arena.base
        self._describe(start, part)
        self._set({
            code.ADDRESSES: ctypes.addressof(addresses), code.ADDRESS_COUNT: len(addresses),
            code.FIRST_LINK: self._writer.links.next_number,
        })  # fmt: skip
        if not self._install(self._at):
            arena.reset(used)
            return False
        arena.flush(start, size)
        self._keep(view, start, part)
        return True

    def _hva(self, symbol: str) -> int | None:
        """Host address of a function; None if there is none."""
        known = self._library.symbols.get(symbol)
        if known is None and symbol.startswith("routine_"):
            try:
                return self._library.routine(symbol.removeprefix("routine_"))
            except (CompileError, ArenaFullError):
                return None
        return known

    # --- which page it is about ------------------------------------------------------------------
    def _show(self, view: View) -> None:
        """Let native code work on this view."""
        self._set({
            code.PAGE: self._memory_hva + view.host_page, code.FIRST_IP: view.first_ip,
            code.IP_MASK: view.mask, code.NUMBER: view.number,
        })  # fmt: skip
        if self._entered is view:
            return
        ctypes.memset(self._entries, 0, ctypes.sizeof(self._entries))
        self._set({code.IS_NEW: 0})
        for batch in view.batches:
            self._list(batch)
            self._enter(self._at)
        self._entered = view

    def _list(self, batch: Batch) -> None:
        place, words = batch.blocks.buffer_info()
        self._set({
            code.AT: batch.start, code.BLOCKS: place, code.BLOCK_COUNT: words // _BLOCK_WORDS
        })  # fmt: skip

    def kill(self, view: View) -> None:
        """Let whoever still enters its blocks leave native code instead."""
        if self._entered is view:
            self._entered = None
        for batch in view.batches:
            self._list(batch)
            self._kill(self._at)

    def forget(self) -> None:
        """The arena is emptied."""
        self._entered = None
