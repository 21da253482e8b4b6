"""Where native code finds blocks by instruction pointer: one table per space, key and segment.

A directory leads native code itself to the table of a space and key. What blocks are, and when
they may be run, is not known here.
"""

import ctypes
from typing import NamedTuple

from vtx.engine.native.between import number_of
from vtx.engine.native.context import (
    BLOCK_ENTRIES,
    CACHE_LOG,
    CONTEXT,
    DIRECTORY_ENTRIES,
    JUMP_CACHE_ENTRIES,
    JUMP_CACHE_NEXT,
    JUMP_CACHE_USED,
    NOWHERE,
    SINGLE_ENTRIES,
    TLB_CACHES,
)
from vtx.engine.native.dispatch import BLOCK_SHIFT, DIRECTORY_SHIFT
from vtx.engine.native.second_level import HASH
from vtx.isa.key import Key
from vtx.machine.tlb import AddressSpace

_USED, _NEXT = JUMP_CACHE_USED // 8, JUMP_CACHE_NEXT // 8
_Table = ctypes.c_uint64 * (_NEXT + 1 + CACHE_LOG)
_EMPTY = _Table(*([NOWHERE, 0] * (JUMP_CACHE_ENTRIES + SINGLE_ENTRIES)))
_MOST = 256
_WRAP = (1 << 64) - 1


class CacheName(NamedTuple):
    """What a jump cache holds for."""

    space: AddressSpace
    table_hva: int
    key: Key
    base: int
    """Of CS, as far as it matters; so is the limit."""
    limit: int


class JumpCache:
    """Blocks by instruction pointer."""

    def __init__(self) -> None:
        self._table = _Table.from_buffer_copy(_EMPTY)
        self.hva = ctypes.addressof(self._table)

    def remember(self, ip: int, hva: int, *, single: bool) -> None:
        """Let native code find the code at `hva` for `ip`."""
        index = (ip >> 12 ^ ip) & (JUMP_CACHE_ENTRIES - 1)
        if single:
            index = JUMP_CACHE_ENTRIES + (index & (SINGLE_ENTRIES - 1))
        self._table[2 * index], self._table[2 * index + 1] = ip, hva
        used = self._table[_USED]
        if used < CACHE_LOG:
            self._table[_NEXT + 1 + used] = self.hva + 16 * index
        self._table[_USED] = min(used, CACHE_LOG) + 1

    def clear(self) -> None:
        """Forget everything; native code may have entered more than Python did."""
        if self._table[_USED]:
            ctypes.memmove(self._table, _EMPTY, JUMP_CACHE_NEXT)

    def chain(self, table_hva: int) -> None:
        """Let native code know it as a cache of the space with this table."""
        first = ctypes.c_uint64.from_address(table_hva + TLB_CACHES)
        self._table[_NEXT], first.value = first.value, self.hva


class JumpCaches:
    """The caches of one engine."""

    def __init__(self) -> None:
        self._caches: dict[CacheName, JumpCache] = {}
        self._directory = (ctypes.c_uint64 * (4 * DIRECTORY_ENTRIES))()
        self._none = JumpCache()
        self._blocks = (ctypes.c_uint64 * (4 * BLOCK_ENTRIES))()

    def install(self, words: ctypes.Array[ctypes.c_uint64]) -> None:
        """Tell native code, whose context `words` are, where they lie."""
        words[CONTEXT["directory"]] = ctypes.addressof(self._directory)
        words[CONTEXT["nowhere"]] = self._none.hva
        words[CONTEXT["blocks"]] = ctypes.addressof(self._blocks)

    @property
    def places(self) -> tuple[int, int]:
        """Where blocks are found by their place: host address, and how far a hash is shifted."""
        return ctypes.addressof(self._blocks), BLOCK_SHIFT

    def place(self, key: Key, ip: int, page_hva: int, hva: int) -> None:
        """Let native code find the code at `hva` for `ip` whenever the page there is `page_hva`."""
        if key.bits != 64 and not key.flat & 2:
            return
        number = number_of(key)
        at = 4 * (((ip ^ page_hva) * HASH & _WRAP) >> BLOCK_SHIFT)
        blocks = self._blocks
        blocks[at], blocks[at + 1], blocks[at + 2], blocks[at + 3] = ip, page_hva, number, hva

    def find(self, name: CacheName) -> JumpCache:
        """The cache of that name, which native code can find too if CS is flat."""
        cache = self._caches.get(name)
        if cache is None:
            if len(self._caches) >= _MOST:
                for known in self._caches:
                    ctypes.c_uint64.from_address(known.table_hva + TLB_CACHES).value = 0
                self._caches.clear()
                ctypes.memset(self._directory, 0, ctypes.sizeof(self._directory))
            cache = self._caches[name] = JumpCache()
            cache.chain(name.table_hva)
        self._enter(name, cache)
        return cache

    def _enter(self, name: CacheName, cache: JumpCache) -> None:
        if name.key.bits != 64 and not name.key.flat & 2:
            return
        number = number_of(name.key)
        at = 4 * (((number ^ name.table_hva) * HASH & _WRAP) >> DIRECTORY_SHIFT)
        directory = self._directory
        directory[at], directory[at + 1], directory[at + 2] = name.table_hva, number, cache.hva

    def forget(self, space: AddressSpace) -> None:
        """Blocks found through a space may belong to other pages now."""
        for name, cache in self._caches.items():
            if name.space is space:
                cache.clear()

    def forget_all(self) -> None:
        """The blocks are gone."""
        ctypes.memset(self._blocks, 0, ctypes.sizeof(self._blocks))
        for cache in self._caches.values():
            cache.clear()
