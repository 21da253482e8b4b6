"""The blocks of a page as code that can be put anywhere: made of fresh blocks, kept on disk.

A record's code is linked inside already; what depends on where it lies, or on the process, is
listed. Who finds which page, and what a record is kept for, is not known here. Nothing here
fails: what cannot be read or written costs time only.
"""

import atexit
import marshal
import os
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from struct import Struct
from typing import NamedTuple

from vtx.engine.native.arena import FUNCTION_ALIGNMENT
from vtx.engine.native.blocks import Block, Copy
from vtx.engine.native.identity import identity
from vtx.engine.native.relocate import PACKERS
from vtx.engine.native.stencils import LINK, common
from vtx.engine.native.store import Store, default_directory

_LIMIT = 32 << 20
"""Bytes of the file, all of which is read at the start."""
_MOST_CODE = 512 << 10
"""Bytes of code of one record."""
_MOST_PENDING = 32 << 20
"""Bytes of code that wait for being kept."""
_LEAST_INSTRUCTIONS = 8
"""What is shorter is translated about as quickly."""
_PAGE = 4096
I32, U32 = 2, 3
"""Packers of the only fields that records have: those of x86-64."""
_FIELD = Struct("<i").size


class Stored(NamedTuple):
    """A block in a record; the places are offsets in its code."""

    ip: int
    at: int
    instructions: int
    length: int
    repeats: bool
    gone: int
    inside: int
    """Page offset of the guest code."""


class OpenLink(NamedTuple):
    """A jump whose target, on the same page, has no block in the record."""

    hole: int
    """Where its number belongs."""
    field: int
    packer: int
    addend: int
    """Added to the target's offset in the code; the place of the jump is already taken off."""
    target: int


@dataclass(frozen=True, slots=True)
class Record:
    """Blocks of one page. Offsets are those in `code`."""

    code: bytes
    blocks: tuple[Stored, ...]
    links: tuple[OpenLink, ...]
    calls: "dict[str, tuple[array[int], array[int]]]"
    """Symbol -> where it is called, and what to add to its distance from the code there."""
    ranges: tuple[tuple[int, int], ...]
    """First and last bytes of the page that the blocks were made from."""

    def dump(self) -> bytes:
        """The inverse of `load`."""
        calls = [(name, at.tobytes(), plus.tobytes()) for name, (at, plus) in self.calls.items()]
        blocks, links = [tuple(one) for one in self.blocks], [tuple(one) for one in self.links]
        return marshal.dumps((self.code, blocks, links, calls, self.ranges))


def load(raw: bytes | memoryview) -> Record | None:
    """The record, if `raw` is one."""
    try:
        code, blocks, links, calls, ranges = marshal.loads(raw)
        record = Record(
            code, tuple(Stored(*one) for one in blocks), tuple(OpenLink(*one) for one in links),
            {name: (array("i", at), array("i", plus)) for name, at, plus in calls}, tuple(ranges),
        )  # fmt: skip
        return record if _is_sound(record) else None
    except (ValueError, EOFError, TypeError):
        return None


def _is_sound(record: Record) -> bool:
    """Nothing in it lies outside it."""
    beyond = len(record.code) - _FIELD
    fields = [at for sites, plus in record.calls.values() for at in (min(sites), max(sites))]
    fields += [at for one in record.links for at in (one.hole, one.field)]
    fields += [at for one in record.blocks for at in (one.at, one.gone)]
    return (
        all(0 <= at <= beyond for at in fields)
        and all(len(sites) == len(plus) for sites, plus in record.calls.values())
        and all(0 <= first <= last < _PAGE for first, last in record.ranges)
    )


class Fresh(NamedTuple):
    """A block that was translated, before anything was linked to it."""

    block: Block
    inside: int
    copy: Copy
    base: int
    """Host address of the arena."""


def is_relocatable(copy: Copy) -> bool:
    """All fields of the block are of the kinds that records have."""
    return all(packer == I32 for _, plan in copy.callers for _, packer, _, _ in plan.call_fields)


def extended(record: Record | None, fresh: Iterable[Fresh]) -> Record | None:
    """A record with the blocks of both, as far as there is room; None if it is not worth it."""
    code = bytearray() if record is None else bytearray(record.code)
    blocks = {} if record is None else {one.ip: one for one in record.blocks}
    links = [] if record is None else list(record.links)
    calls = {} if record is None else dict(record.calls)
    for one in fresh:
        if one.block.ip not in blocks and len(code) + len(one.copy.code) <= _MOST_CODE:
            at = -(-len(code) // FUNCTION_ALIGNMENT) * FUNCTION_ALIGNMENT
            code += bytes(at - len(code)) + one.copy.code
            blocks[one.block.ip] = _stored(one, at)
            links += _links(one.copy, at)
            _add_calls(calls, one.copy, at)
    if sum(one.instructions for one in blocks.values()) < _LEAST_INSTRUCTIONS:
        return None
    still_open = []
    for link in links:
        target = blocks.get(link.target)
        if target is None:
            still_open.append(link)
        else:
            PACKERS[link.packer](code, link.field, target.at + link.addend)
    stored = tuple(blocks.values())
    return Record(bytes(code), stored, tuple(still_open), calls, _ranges(stored))


def _stored(one: Fresh, at: int) -> Stored:
    block = one.block
    gone = block.gone - one.base - one.copy.start + at
    return Stored(
        block.ip, at, block.count, block.length, bool(block.repeats), gone, one.inside
    )  # fmt: skip


def _links(copy: Copy, at: int) -> Iterable[OpenLink]:
    moved = at - copy.start
    for stencil, link in copy.ways_out:
        yield OpenLink(
            stencil + moved + _hole_of_link(), link.offset + moved, link.packer,
            link.addend - moved, link.target,
        )  # fmt: skip


def _add_calls(calls: "dict[str, tuple[array[int], array[int]]]", copy: Copy, at: int) -> None:
    for place, plan in copy.callers:
        stencil = place - copy.start + at
        for offset, _, symbol, addend in plan.call_fields:
            sites, plus = calls.setdefault(symbol, (array("i"), array("i")))
            sites.append(stencil + offset)
            plus.append(addend - stencil)


def _ranges(blocks: Sequence[Stored]) -> tuple[tuple[int, int], ...]:
    """The bytes of the blocks, in as few ranges as there can be."""
    watched = [False] * _PAGE
    for one in blocks:
        watched[one.inside : one.inside + one.length] = [True] * one.length
    edges = [n for n, (a, b) in enumerate(pairwise([False, *watched[:_PAGE], False])) if a != b]
    return tuple((first, beyond - 1) for first, beyond in zip(edges[::2], edges[1::2], strict=True))


@cache
def _hole_of_link() -> int:
    """Offset of the link's number in the stencil of an unlinked jump."""
    (offset,) = _link_holes()
    return offset


def _link_holes() -> list[int]:
    _, unlinked, _ = common()
    return [
        at for at, packer, value in unlinked.value_fields if value == LINK and packer in (I32, U32)
    ]


@cache
def is_possible() -> bool:
    """This host's code has only fields of the kinds that records have."""
    return len(_link_holes()) == 1


class PageRecords:
    """Records by name: those of a Store, and what this process adds to them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._fresh: dict[bytes, list[Fresh]] = {}
        self._pending = 0
        self._process = os.getpid()

    def get(self, name: bytes) -> Record | None:
        """The record of this name, if there is one."""
        self._finish(name)
        raw = self._store.get(name)
        return None if raw is None else load(raw)

    def add(self, name: bytes, fresh: Fresh) -> None:
        """Keep a block in the record of this name, if there is room."""
        self._pending += len(fresh.copy.code)
        if self._pending <= _MOST_PENDING and is_relocatable(fresh.copy):
            self._fresh.setdefault(name, []).append(fresh)

    def save(self) -> None:
        """Write what is new, unless this is a child of the process it belongs to."""
        if os.getpid() == self._process:
            for name in list(self._fresh):
                self._finish(name)
            self._store.save()

    def _finish(self, name: bytes) -> None:
        """Put the fresh blocks of this name into their record."""
        fresh = self._fresh.pop(name, None)
        if fresh is None:
            return
        self._pending -= sum(len(one.copy.code) for one in fresh)
        raw = self._store.get(name)
        record = extended(None if raw is None else load(raw), fresh)
        if record is not None:
            self._store.put(name, record.dump())
        elif len(fresh) < _LEAST_INSTRUCTIONS:
            self._fresh[name] = fresh
            self._pending += sum(len(one.copy.code) for one in fresh)


@cache
def page_records() -> PageRecords:
    """Those of this process, in the directory that the environment named at first."""
    records = PageRecords(Store(default_directory(), "pages", identity(), _LIMIT))
    atexit.register(records.save)
    return records
