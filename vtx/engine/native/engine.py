"""The native engine: finds or makes native blocks, enters them, and answers when they leave.

It is the reference engine with another way to run a block. Whatever native code does not do
(instructions that ask a device, single steps) the reference's way does, on the same state.
"""

import ctypes
from contextlib import suppress

from vtx.engine.boundary import BLOCKING_MOV_SS, BLOCKING_NMI, BLOCKING_STI, RFLAGS_IF
from vtx.engine.choice import CODE_CACHE
from vtx.engine.families import load_all
from vtx.engine.generate import RETIRED, RIP
from vtx.engine.native.arena import Arena, ArenaFullError
from vtx.engine.native.batches import Batches
from vtx.engine.native.blocks import Block, BlockWriter, Piece
from vtx.engine.native.compiler import CompileError
from vtx.engine.native.context import (
    CONTEXT,
    LEFT_AFTER_STORE,
    LEFT_BUDGET,
    LEFT_BY_MEMORY,
    LEFT_MISS,
    LEFT_OK,
    LEFT_REGION_BUDGET,
    LEFT_RESYNC,
    REMEMBERED_SIZE,
)
from vtx.engine.native.jump_caches import CacheName, JumpCache, JumpCaches
from vtx.engine.native.library import Library
from vtx.engine.native.page_cache import PageCache
from vtx.engine.native.regions import make_regions
from vtx.engine.native.remembered import REMEMBERED
from vtx.engine.native.slow_paths import SlowPaths
from vtx.engine.native.tlb import NativeTlb, bulk_functions
from vtx.engine.native.transitions import NativeRoutines
from vtx.engine.native.translations import NO_LIMIT, Crossing, Place, Translations
from vtx.engine.native.walk_counts import NativeWalkCounts
from vtx.engine.probes import Probes
from vtx.engine.reference import Reference
from vtx.isa.key import Key, current_key
from vtx.isa.layout import SLOT_COUNT, SLOTS
from vtx.machine.cpu import OK, Cpu, Translator
from vtx.machine.state import EXECUTOR_WORDS
from vtx.machine.tlb import AddressSpace
from vtx.spec import CONTROLS

_QUANTUM = 2_000_003
"""Instructions after which Python may look at signals. It is prime, so that the budget does not
always end at the same place of a loop."""
_TELLING = 100_000
"""Instructions of a budget whose end says where code is hot."""
_CS_BASE, _CS_LIMIT = SLOTS["cs_base"], SLOTS["cs_limit"]
_RFLAGS, _BLOCKING, _RESUME = SLOTS["rflags"], SLOTS["interruptibility"], SLOTS["resume_flag"]
_VMX, _PIN = SLOTS["vmx"], SLOTS["pin_controls"]
_PIN_EXTERNAL = CONTROLS.EXTERNAL_INTERRUPT_EXITING.mask
_CALM, _ENTERED_VMX = CONTEXT["calm"], CONTEXT["entered_vmx"]
_ENTERED_BLOCKING = CONTEXT["entered_blocking"]
_ARGUMENT, _KEY, _UNTIL = CONTEXT["argument0"], CONTEXT["key"], CONTEXT["until"]
_NOT_RUN = -1
"""Instead of what native code was left by."""
_ANY_BLOCKING = BLOCKING_STI | BLOCKING_MOV_SS | BLOCKING_NMI


def _text(error: Exception | None) -> str | None:
    return None if error is None else str(error)


class _FetchFaultError(Exception):
    """The next instruction cannot be fetched; the CPU's status says why."""


class Native(Reference):
    """Executes one CPU with native code."""

    def __init__(
        self,
        cpu: Cpu,
        features: frozenset[str],
        *,
        regions: str | None = None,
        code_cache: int = CODE_CACHE,
    ) -> None:
        """`regions` is one of `regions.MODES`; None: what the environment says.

        `code_cache` bounds native code, in bytes. Raises CompileError and ArenaError, and has
        then changed nothing.
        """
        load_all()  # the library compiles routines of the algebra
        self._problem: str | None = None
        self._caches = JumpCaches()
        self._arena = Arena(code_cache)
        self._library = Library(self._arena)
        self._writer = BlockWriter(self._library, self._arena)
        dispatcher = self._library.dispatcher()
        # From here on nothing is compiled: what raises has not touched the CPU.
        self._adopt_tlb(cpu)
        super().__init__(cpu, features)
        self._regions = make_regions(regions, self._arena, self._library, self._writer)
        batches = Batches(
            self._arena, self._library, self._writer,
            ctypes.addressof(ctypes.c_char.from_buffer(cpu.memory)), *self._caches.places,
        )  # fmt: skip
        self._pages = PageCache(batches, self._arena, self._writer, features)
        if self._regions.eager:
            self._pages.disable()
        self._translations = Translations(
            self._writer,
            self._arena,
            cpu.memory,
            cpu.code,
            self._forget_page,
            features,
            self._pages,
        )
        total = SLOT_COUNT + EXECUTOR_WORDS
        self._words = (ctypes.c_uint64 * total).from_buffer(cpu.state.buffer)
        self._state_hva = ctypes.addressof(self._words)
        self._enter = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64)(
            self._library.symbols["enter"]
        )
        self._dispatch = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64)(dispatcher)
        self._caches.install(self._words)
        self._words[CONTEXT["tags"]] = ctypes.addressof(self._tlb.tags)
        self._remembered = ctypes.create_string_buffer(REMEMBERED_SIZE * len(REMEMBERED))
        self._words[CONTEXT["remembered"]] = ctypes.addressof(self._remembered)
        self._slow = SlowPaths(cpu, self._words)
        cpu.walks = NativeWalkCounts(self._words, cpu.walks)
        self._routines = NativeRoutines(cpu, self._library, self._words)
        cpu.on_context = self._context_changed
        self._keys: dict[int, Key] = {}
        self._context_changed()

    def _adopt_tlb(self, cpu: Cpu) -> None:
        """Give the CPU a TLB that native code can read."""
        memory_hva = ctypes.addressof(ctypes.c_char.from_buffer(cpu.memory))
        bulk = bulk_functions(self._library.symbols, memory_hva)
        tlb = NativeTlb(bulk, self._fetches_forgotten, self._page_protected)
        cpu.code.replace_tlb(cpu.tlb, tlb)
        tlb.switch(cpu.tlb.tag)
        cpu.tlb = tlb
        self._tlb = tlb

    def _page_protected(self, host_page: int) -> None:
        self._slow.protect(host_page)

    def _fetches_forgotten(self, space: AddressSpace) -> None:
        """Known block entries of a space may belong to other pages now."""
        self._caches.forget(space)

    def _context_changed(self) -> None:
        """Another address space may be the current one."""
        self._names.bind_maps()
        if not self.cpu.breakpoints.watching:
            self._words[CONTEXT["tlb"]] = self._tlb.table_hva

    # --- routines ----------------------------------------------------------------------------
    def call(self, name: str, *args: int) -> tuple[int, ...] | None:
        if self.cpu.breakpoints.watching:
            return super().call(name, *args)  # every access has to be told
        self._slow.prepare()
        try:
            result = self._routines.call(name, args)
        except CompileError as error:
            self._problem = self._problem or str(error)
            return super().call(name, *args)
        self._slow.returned()
        return result

    @property
    def problem(self) -> str | None:
        own = (self._problem, self._translations.problem, self._regions.problem)
        return next((text for text in (*own, _text(self._writer.problem)) if text), None)

    def _translator(self) -> Translator:
        generated = super()._translator()

        def translate(gva: int, access: int) -> tuple[int, int] | None:
            if self.cpu.breakpoints.watching:
                return generated(gva, access)
            self._words[CONTEXT["walk_references"]] = 0
            found = self.call("translate", gva, access)
            self.cpu.walk_references += self._words[CONTEXT["walk_references"]]
            return None if found is None else (found[0], found[1])

        return translate

    # --- running -----------------------------------------------------------------------------
    def run_block(self, room: int) -> bool:
        """Run native blocks until something else has to happen, at most `room` instructions."""
        if self.cpu.breakpoints.watching:
            return super().run_block(room)  # every access has to be told
        if self._regions.waiting:
            self._regions.collect()
        budget = min(room, _QUANTUM)
        return self._run_until(self.cpu.words[RETIRED] + budget, budget, _NOT_RUN)

    def enter_guest(self, *, launch: bool) -> int:
        if self.cpu.breakpoints.watching or self._regions.eager:
            return super().enter_guest(launch=launch)
        if self._regions.waiting:
            self._regions.collect()
        context, before = self._words, self.cpu.words[RETIRED]
        self.python_root, self.source, self.cpu.attention = True, None, False
        self._slow.prepare()
        try:
            status = self._routines.enter_guest(int(launch), _QUANTUM)
        except CompileError as error:
            self._problem = self._problem or str(error)
            return super().enter_guest(launch=launch)
        self._slow.returned()
        number = context[_KEY]
        if number:
            self._key_changed(number)
        if status == LEFT_OK:
            if not number:
                self.key = current_key(self.cpu.words)
            return context[_ARGUMENT]
        until = context[_UNTIL]
        self._run_until(until, until - before, status)
        return 0

    def _run_until(self, until: int, budget: int, status: int) -> bool:
        """Run blocks, out of `budget`, until so many instructions have retired.

        `status` is what native code was left by, if it has run before.
        """
        words, sampled = self.cpu.words, False
        while True:
            if status == LEFT_BUDGET and budget >= _TELLING and not sampled:
                self._sample()
            if status == LEFT_REGION_BUDGET:
                self._tlb.widen()
            sampled = sampled or status in (LEFT_BUDGET, LEFT_REGION_BUDGET)
            if status not in (_NOT_RUN, LEFT_MISS, LEFT_BUDGET, LEFT_REGION_BUDGET):
                return self._after(status)
            room = until - words[RETIRED]
            if not room:
                return False
            try:
                block = self._find_native(room)
            except _FetchFaultError:
                self.settle(self.cpu.status)
                return True
            if block is None:
                return super().run_block(room)
            if status == LEFT_MISS:
                self._remember(block)
            if status == LEFT_REGION_BUDGET:
                block = block.plain or block
            elif room == 1 and block.count == 1 and not block.crosses:
                self._cache().remember(block.ip, block.entry, single=True)
            self.repeats = block.repeats
            if self._regions.eager and status != LEFT_REGION_BUDGET:
                self._see(block)  # never the plain block of a head: it has to stay plain
                self._tlb.widen()
            status = self._run(block, until)

    def _run(self, block: Block, until: int) -> int:
        """Enter native code; why it was left."""
        context, words = self._words, self.cpu.words
        context[CONTEXT["budget"]] = until - words[RETIRED]
        context[CONTEXT["until"]] = until
        context[CONTEXT["entry"]] = block.hva
        context[CONTEXT["tlb"]] = self._tlb.table_hva
        context[CONTEXT["jump_cache"]] = self._cache().hva
        self._slow.prepare()
        self._tell_calm()
        # A single step goes by Boundary's rules: what follows it must not be run.
        run = self._dispatch if until - words[RETIRED] > 1 else self._enter
        status = int(run(self._state_hva))
        words[RETIRED] = until - ctypes.c_int64(context[CONTEXT["budget"]]).value
        self._slow.returned()
        if context[CONTEXT["key"]]:
            self._key_changed(context[CONTEXT["key"]])
        return status

    def _tell_calm(self) -> None:
        """Let native code know what held when Boundary last looked."""
        context, words = self._words, self.cpu.words
        blocking, vmx = words[_BLOCKING], words[_VMX]
        accepts = words[_RFLAGS] & RFLAGS_IF or (vmx == 2 and words[_PIN] & _PIN_EXTERNAL)
        # What would have been delivered if it were there needs no asking.
        calm = accepts and not blocking & _ANY_BLOCKING
        context[_CALM] = bool(calm or not self._waiting())
        context[_ENTERED_VMX], context[_ENTERED_BLOCKING] = vmx, blocking
        context[CONTEXT["attention"]] = context[CONTEXT["key"]] = 0
        context[CONTEXT["native_root"]] = not self.python_root

    def _waiting(self) -> bool:
        """A hardware event waits, be it held back or not."""
        source = self.source
        return source is not None and (source.interrupt_pending() or source.nmi_pending())

    def _key_changed(self, number: int) -> None:
        """Native code went on with another key; its number and state are the present ones."""
        key = self._keys.get(number)
        if key is None:
            key = self._keys[number] = current_key(self.cpu.words)
        self.key = key

    def _after(self, status: int) -> bool:
        """What `run_block` has to say when native code was left for good."""
        if status == LEFT_AFTER_STORE:
            return False
        if status == LEFT_RESYNC:
            status = OK
        self.settle(self._words[CONTEXT["failed"]] if status == LEFT_BY_MEMORY else status)
        self.cpu.words[_RESUME] = 0
        return True

    def _remember(self, block: Block) -> None:
        """Let the jump that native code was left by find `block` itself the next time."""
        link = self._writer.links.get(self._words[CONTEXT["link"]])
        if block.single:
            return
        if link is not None and not block.crosses:
            self._writer.connect(link, block)
            return
        self._cache().remember(block.ip, block.entry, single=False)
        if not block.crosses:
            page = self._slow.memory_hva + self._place().page
            self._caches.place(self.key, block.ip, page, block.entry)
        if link is not None:
            with suppress(ArenaFullError):
                self._writer.connect_through(link)

    def _cache(self) -> JumpCache:
        """The table of block entries for this space, key and code segment."""
        space, base_and_limit = self._tlb.space, self._code_segment()
        return self._caches.find(CacheName(space, self._tlb.table_hva, self.key, *base_and_limit))

    # --- regions -----------------------------------------------------------------------------
    def _see(self, block: Block | None) -> None:
        """`block`, at RIP, runs next. Where budgets end, much time is spent."""
        if block is not None and not block.single and not block.crosses:
            self._regions.see(block, self._place(), self._pieces_at)

    def _sample(self) -> None:
        """The budget ends here. Nothing is fetched for it: that could be seen."""
        key, gva = self.key, self.cpu.words[RIP]
        flat = key.bits == 64 or key.flat & 2
        if flat and gva >> 12 in self._tlb.space.fetch[0 if key.cpl == 3 else 1]:
            found = self._block_at(self._place())
            self._see(found if isinstance(found, Block) else None)

    def _pieces_at(self, ip: int) -> list[Piece]:
        """The translated block at `ip`, if it is on the page of RIP."""
        here = self._place()
        host = here.host + ip - here.ip
        if host & -4096 != here.page:
            return []
        return self._translations.pieces_of(here._replace(ip=ip, host=host))

    # --- finding -----------------------------------------------------------------------------
    def _code_segment(self) -> tuple[int, int]:
        """Base and limit of CS, as far as they matter."""
        if self.key.bits == 64 or self.key.flat & 2:
            return 0, NO_LIMIT
        words = self.cpu.words
        return words[_CS_BASE], words[_CS_LIMIT]

    def _find_native(self, room: int) -> Block | None:
        """The native block at RIP, of at most `room` instructions; None: Python has to go on.

        Raises _FetchFaultError.
        """
        place = self._place()
        found = self._translated(place._replace(single=room == 1))
        if found is not None and found.count > room:
            found = self._translated(place._replace(single=True))
        return found

    def _place(self) -> Place:
        """Where the next instruction lies."""
        key = self.key
        ip = gva = self.cpu.words[RIP]
        base, limit = self._code_segment()
        if key.bits != 64:
            if not key.flat & 2 and not self._inside_code_segment(ip):
                raise _FetchFaultError
            gva = (ip + base) & 0xFFFF_FFFF
        host = self._fetched(gva, key)
        if host < 0:
            raise _FetchFaultError
        return Place(ip, host + (gva & 0xFFF), key, base, limit)

    def _translated(self, place: Place) -> Block | None:
        """The block at a place, or at it and on the page behind it."""
        found = self._block_at(place)
        if isinstance(found, Crossing):
            wrap = -1 if place.key.bits == 64 else 0xFFFF_FFFF
            next_page = place.ip + place.base + 4096 - (place.host & 0xFFF)
            beyond = self._fetched(next_page & wrap & 0xFFFF_FFFF_FFFF_FFFF, place.key)
            if beyond < 0:
                raise _FetchFaultError
            found = self._block_at(place._replace(single=False, beyond=beyond))
        assert not isinstance(found, Crossing)
        return found

    def _block_at(self, place: Place) -> Block | Crossing | None:
        try:
            return self._translations.find(place)
        except ArenaFullError:
            self.forget_blocks()
        try:
            return self._translations.find(place)
        except ArenaFullError:
            return None  # it does not even fit alone

    # --- forgetting --------------------------------------------------------------------------
    def set_probes(self, probes: Probes | None) -> None:
        self._translations.cuts = None if probes is None else probes.cuts
        super().set_probes(probes)

    def forget_blocks(self) -> None:
        super().forget_blocks()
        self._regions.forget()
        self._translations.forget()
        self._words[CONTEXT["link"]] = 0
        self._caches.forget_all()

    def _forget_page(self, host: int) -> None:
        super()._forget_page(host)
        self._translations.forget_page(host)
