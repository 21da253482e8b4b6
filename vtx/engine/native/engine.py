"""The native engine: finds or makes native blocks, enters them, and answers when they leave.

It is the reference engine with another way to run a block. Whatever native code does not do
(instructions that ask a device, single steps) the reference's way does, on the same state.
"""

import ctypes
from typing import Any

from vtx.engine.generate import RETIRED, RIP
from vtx.engine.native.arena import Arena, ArenaFullError
from vtx.engine.native.blocks import Block, BlockWriter, Link, Piece
from vtx.engine.native.compiler import CompileError
from vtx.engine.native.context import (
    CONTEXT,
    JUMP_CACHE_ENTRIES,
    LEFT_AFTER_STORE,
    LEFT_BUDGET,
    LEFT_BY_MEMORY,
    LEFT_MISS,
    LEFT_RESYNC,
)
from vtx.engine.native.library import Library
from vtx.engine.native.slow_paths import SlowPaths
from vtx.engine.native.templates import Templates
from vtx.engine.native.tlb import NativeTlb
from vtx.engine.reference import Reference
from vtx.isa.key import Key
from vtx.isa.layout import SLOT_COUNT
from vtx.machine.cpu import Cpu
from vtx.machine.state import EXECUTOR_WORDS
from vtx.machine.tlb import AddressSpace

_ARENA_SIZE = 64 << 20
_MOST_STEPS = 32
_QUANTUM = 2_000_000
"""Instructions after which Python may look at signals."""
_JumpCache = ctypes.c_uint64 * (2 * JUMP_CACHE_ENTRIES)
_NOWHERE = 0x8000_0000_0000_0001
"""An instruction pointer that no jump has: it is not canonical."""
_EMPTY_CACHE = _JumpCache(*([_NOWHERE, 0] * JUMP_CACHE_ENTRIES))

Place = tuple[int, int, Key]
"""(offset in CS, host address of the first byte's page plus offset, translation key)."""


class Native(Reference):
    """Executes one CPU with native code."""

    def __init__(self, cpu: Cpu, features: frozenset[str]) -> None:
        self._caches: dict[tuple[AddressSpace, Key], Any] = {}
        self._adopt_tlb(cpu)
        super().__init__(cpu, features)
        self._arena = Arena(_ARENA_SIZE)
        self._library = Library(self._arena)
        self._floor = self._arena.used
        self._writer = BlockWriter(self._library, self._arena)
        self._native: dict[Place, Block | None] = {}
        self._dead: dict[Place, Block] = {}
        self._native_of_page: dict[int, list[Place]] = {}
        self._templates: dict[Key, Templates] = {}
        total = SLOT_COUNT + EXECUTOR_WORDS
        self._words = (ctypes.c_uint64 * total).from_buffer(cpu.state.buffer)
        self._state_hva = ctypes.addressof(self._words)
        self._enter = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64)(
            self._library.symbols["enter"]
        )
        self._slow = SlowPaths(cpu, self._words)
        self._cache_key: tuple[AddressSpace, Key] | None = None
        self._problem: str | None = None

    def _adopt_tlb(self, cpu: Cpu) -> None:
        """Give the CPU a TLB that native code can read."""
        tlb = NativeTlb(self._fetches_forgotten, self._page_protected)
        cpu.code.replace_tlb(cpu.tlb, tlb)
        tlb.switch(cpu.tlb.tag)
        cpu.tlb = tlb
        self._tlb = tlb

    def _page_protected(self, host_page: int) -> None:
        self._slow.protect(host_page)

    def _fetches_forgotten(self, space: AddressSpace) -> None:
        """Known block entries of a space may belong to other pages now."""
        for (owner, _), cache in self._caches.items():
            if owner is space:
                ctypes.memmove(cache, _EMPTY_CACHE, ctypes.sizeof(_EMPTY_CACHE))

    # --- running -----------------------------------------------------------------------------
    def run_block(self, room: int) -> bool:
        """Run native blocks until something else has to happen, at most `room` instructions."""
        if room < 2:
            return super().run_block(room)
        room = min(room, _QUANTUM)
        words = self.cpu.words
        until = words[RETIRED] + room
        link: Link | None = None
        while True:
            room = until - words[RETIRED]
            block = self._find_native() if room > 1 else None
            if block is None or block.count > room:
                return super().run_block(room) if room else False
            if link is not None:
                self._connect(link, block)
            status = self._run(block, until)
            if status == LEFT_MISS:
                number = self._words[CONTEXT["link"]]
                link = self._writer.links[number - 1] if number else None
                if link is None:
                    self._remember_entry()
                continue
            return self._after(status, until)

    def _run(self, block: Block, until: int) -> int:
        """Enter native code; why it was left."""
        context, words = self._words, self.cpu.words
        context[CONTEXT["budget"]] = until - words[RETIRED]
        context[CONTEXT["until"]] = until
        context[CONTEXT["entry"]] = block.hva
        context[CONTEXT["tlb"]] = self._tlb.table_hva
        context[CONTEXT["jump_cache"]] = self._cache()
        status = int(self._enter(self._state_hva))
        words[RETIRED] = until - ctypes.c_int64(context[CONTEXT["budget"]]).value
        self._slow.raise_error()
        return status

    def _after(self, status: int, until: int) -> bool:
        words = self.cpu.words
        if status == LEFT_BUDGET:
            room = until - words[RETIRED]
            return super().run_block(room) if room else False
        if status == LEFT_AFTER_STORE:
            return False
        if status == LEFT_RESYNC:
            self.settle(0)
            return True
        self.settle(self.cpu.status if status == LEFT_BY_MEMORY else status)
        return True

    def _connect(self, link: Link, block: Block) -> None:
        if link.target == block.ip and not block.dead:
            self._writer.connect(link, block)

    def _cache(self) -> int:
        """Host address of the table of block entries for this space and key."""
        name = (self._tlb.space, self.key)
        cache = self._caches.get(name)
        if cache is None:
            if len(self._caches) >= 256:
                self._caches.clear()
            cache = self._caches[name] = _JumpCache.from_buffer_copy(_EMPTY_CACHE)
        self._cache_key = name
        return ctypes.addressof(cache)

    def _remember_entry(self) -> None:
        """Note the block at RIP in the table of block entries, if there is one."""
        block = self._find_native()
        if block is None or self._cache_key is None:
            return
        rip = block.ip
        at = 2 * ((rip >> 12 ^ rip) & (JUMP_CACHE_ENTRIES - 1))
        cache = self._caches.get(self._cache_key)
        if cache is not None:
            cache[at], cache[at + 1] = rip, block.hva

    # --- finding -----------------------------------------------------------------------------
    def _find_native(self) -> Block | None:
        """The native block at RIP, made if need be; None where Python has to go on."""
        words, key = self.cpu.words, self.key
        rip = words[RIP]
        if key.bits == 64:
            gva = rip
        elif key.flat & 2:
            gva = rip & 0xFFFF_FFFF
        else:
            return None
        host = self._tlb.space.fetch[0 if key.cpl == 3 else 1].get(gva >> 12, -1)
        if host < 0:
            host = self._fetch_page(gva, key)
            if host < 0:
                return None  # the reference fetches again, and faults
        place = (rip, host + (gva & 0xFFF), key)
        if place in self._native:
            return self._native[place]
        return self._translate_native(place, host, gva & 0xFFF)

    def _translate_native(self, place: Place, host: int, inside: int) -> Block | None:
        rip, _, key = place
        block: Block | None = None
        try:
            pieces = self._pieces(rip, host, inside, key)
            if pieces:
                block = self._writer.write(rip, pieces)
                former = self._dead.pop(place, None)
                if former is not None:
                    self._writer.redirect(former, block.hva)
        except ArenaFullError:
            self.forget_blocks()
            return None
        except CompileError as error:
            self._problem = self._problem or str(error)
        self._native[place] = block
        self._native_of_page.setdefault(host, []).append(place)
        self.cpu.code.watch(host, self._forget_page)
        return block

    def _pieces(self, rip: int, host: int, inside: int, key: Key) -> list[Piece]:
        templates = self._templates.get(key)
        if templates is None:
            templates = self._templates[key] = Templates(key, self.features)
        page = bytes(self.cpu.memory[host : host + 4096])
        pieces: list[Piece] = []
        offset = 0
        while len(pieces) < _MOST_STEPS and inside + offset < 4096:
            if self._probes is not None and self._probes.cuts(inside + offset):
                break
            ip = rip + offset if key.bits == 64 else (rip + offset) & 0xFFFF_FFFF
            found = templates.find(page, inside + offset, ip)
            if found is None or found.template is None:
                break
            filling = found.template.filling(found.values)
            pieces.append(Piece(filling, found.values, found.length))
            offset += found.length
            if found.ends_block:
                break
        return pieces

    # --- forgetting --------------------------------------------------------------------------
    def forget_blocks(self) -> None:
        super().forget_blocks()
        self._native.clear()
        self._native_of_page.clear()
        self._writer.links.clear()
        self._dead.clear()
        self._arena.reset(self._floor)
        for cache in self._caches.values():
            ctypes.memmove(cache, _EMPTY_CACHE, ctypes.sizeof(_EMPTY_CACHE))

    def _forget_page(self, host: int) -> None:
        super()._forget_page(host)
        for place in self._native_of_page.pop(host, ()):
            block = self._native.pop(place, None)
            if block is not None:
                block.dead = True
                self._writer.kill(block)
                self._dead[place] = block
