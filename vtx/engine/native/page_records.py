"""The blocks of a page as code that can be put anywhere, kept on disk.

A record has parts, each a batch of blocks: its code is linked inside already; what depends on
where it lies, or on the process, is listed as `page_layout` says it. Who finds which page, and
what a record is kept for, is not known here. Nothing here fails: what cannot be read or written
costs time only.
"""

import atexit
import marshal
import os
from array import array
from collections.abc import Iterator, Sequence
from functools import cache
from struct import Struct
from typing import NamedTuple

from vtx.engine.native.blocks import Block, Copy
from vtx.engine.native.identity import identity
from vtx.engine.native.page_layout import BLOCK, CALL, LINK
from vtx.engine.native.plans import symbol_number, symbol_numbers
from vtx.engine.native.stencils import LINK as LINK_VALUE
from vtx.engine.native.stencils import common
from vtx.engine.native.store import Store, default_directory

_LIMIT = 48 << 20
"""Bytes of the file, all of which is read at the start."""
_MOST_CODE = 512 << 10
"""Bytes of code of one record."""
_MOST_PARTS = 256
_MOST_PENDING = 48 << 20
"""Bytes of code that wait for being kept."""
_LEAST_INSTRUCTIONS = 8
"""What is shorter is translated about as quickly."""
_MOST_SYMBOLS = 1 << 16
I32, U32 = 2, 3
"""Packers of the only fields that records have: those of x86-64."""
_BLOCK_WORDS = BLOCK // 4
_COUNT = 2
"""Word of a block's entry with its instructions."""
_BLOCK = Struct("<8i")


class Part(NamedTuple):
    """A batch of blocks of one page. Offsets are those in `code`."""

    code: bytes
    blocks: bytes
    calls: bytes
    links: bytes
    """Entries as `page_layout` has them."""
    names: tuple[tuple[int, str], ...]
    """What is called: the number in `calls`, and the symbol."""

    @property
    def instructions(self) -> int:
        return sum(array("i", self.blocks)[_COUNT::_BLOCK_WORDS])


Record = tuple[Part, ...]


def dump(record: Record) -> bytes:
    """The inverse of `load`."""
    return marshal.dumps(tuple(tuple(part) for part in record))


def load(raw: bytes | memoryview) -> Record | None:
    """The record, if `raw` is one. What its lists refer to is looked at when it is used."""
    try:
        record = tuple(Part(*one) for one in marshal.loads(raw))
        return record if record and all(map(_is_sound, record)) else None
    except (ValueError, EOFError, TypeError):
        return None


def _is_sound(part: Part) -> bool:
    return (
        all(isinstance(one, bytes) for one in part[:4])
        and all(
            len(one) % size == 0
            for one, size in ((part.blocks, BLOCK), (part.calls, CALL), (part.links, LINK))
        )
        and all(
            0 <= number < _MOST_SYMBOLS and isinstance(name, str) for number, name in part.names
        )
    )


def named(calls: bytes, symbols: Sequence[str]) -> tuple[tuple[int, str], ...]:
    """The numbers that `calls` has, indexes of `symbols`, and the symbols."""
    return tuple((number, symbols[number]) for number in sorted(set(array("i", calls)[1::3])))


def part_of(block: Block, inside: int, copy: Copy, base: int) -> Part | None:
    """A part with one block that Python wrote; None if it has fields of other kinds.

    `base` is the host address of the arena.
    """
    calls, links = array("i"), array("i")
    for place, plan in copy.callers:
        stencil = place - copy.start
        for offset, packer, symbol, addend in plan.call_fields:
            if packer != I32:
                return None
            calls.extend((stencil + offset, symbol_number(symbol), addend - stencil))
    first_ip = block.ip - inside
    for place, link in copy.ways_out:
        hole, field = place - copy.start + hole_of_link(), link.offset - copy.start
        links.extend((hole, field, link.addend + copy.start, link.target - first_ip & 0xFFF, 0))
    gone = block.gone - base - copy.start
    entry = _BLOCK.pack(
        inside, 0, block.count, block.length, bool(block.repeats), gone, 0, 0
    )  # fmt: skip
    raw = calls.tobytes()
    return Part(copy.code, entry, raw, links.tobytes(), named(raw, list(symbol_numbers)))


@cache
def hole_of_link() -> int:
    """Offset of the link's number in the stencil of an unlinked jump."""
    (offset,) = _link_holes()
    return offset


def _link_holes() -> list[int]:
    _, unlinked, _ = common()
    return [
        at
        for at, packer, value in unlinked.value_fields
        if value == LINK_VALUE and packer in (I32, U32)
    ]


@cache
def is_possible() -> bool:
    """This host's code has only fields of the kinds that records have."""
    return len(_link_holes()) == 1


class PageRecords:
    """Records by name: those of a Store, and what this process adds to them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._fresh: dict[bytes, list[Part]] = {}
        self._pending = 0
        self._process = os.getpid()

    def get(self, name: bytes) -> Record | None:
        """The record of this name, if there is one."""
        self._finish(name)
        raw = self._store.get(name)
        return None if raw is None else load(raw)

    def add(self, name: bytes, part: Part) -> None:
        """Keep a part in the record of this name, if there is room."""
        if self._pending + len(part.code) <= _MOST_PENDING:
            self._pending += len(part.code)
            self._fresh.setdefault(name, []).append(part)

    def save(self) -> None:
        """Write what is new, unless this is a child of the process it belongs to."""
        if os.getpid() == self._process:
            for name in list(self._fresh):
                self._finish(name)
            self._store.save()

    def _finish(self, name: bytes) -> None:
        """Put the fresh parts of this name into their record."""
        fresh = self._fresh.pop(name, None)
        if fresh is None:
            return
        size = sum(len(part.code) for part in fresh)
        raw = self._store.get(name)
        known = None if raw is None else load(raw)
        record = tuple(_fitting((*(known or ()), *fresh)))
        if sum(part.instructions for part in record) >= _LEAST_INSTRUCTIONS:
            self._store.put(name, dump(record))
            self._pending -= size
        elif len(fresh) < _LEAST_INSTRUCTIONS:
            self._fresh[name] = fresh
        else:
            self._pending -= size


def _fitting(parts: tuple[Part, ...]) -> Iterator[Part]:
    """The first parts, as many as a record may have."""
    room = _MOST_CODE
    for part in parts[:_MOST_PARTS]:
        room -= len(part.code)
        if room < 0:
            return
        yield part


@cache
def page_records() -> PageRecords:
    """Those of this process, in the directory that the environment named at first."""
    records = PageRecords(Store(default_directory(), "pages", identity(), _LIMIT))
    atexit.register(records.save)
    return records
