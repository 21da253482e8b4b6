"""Which code becomes regions, and when: samples in, redirected blocks out.

A block at which budgets end several times is part of much that is executed: it becomes the head
of a region. That costs nothing where code is hot, unlike a counter in every block. The region is
compiled by another process while the block goes on as it is; then whoever enters the block
arrives in the region. When that happens can change nothing but speed, since both leave the same
state behind every instruction.

The environment's VTX_REGIONS is one of MODES, for an engine that is told nothing else.
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from vtx.engine.native.arena import Arena, ArenaFullError
from vtx.engine.native.blocks import Block, BlockWriter, Piece
from vtx.engine.native.compiler import CompileError
from vtx.engine.native.forms import Form
from vtx.engine.native.kept import kept, name_of
from vtx.engine.native.library import Library
from vtx.engine.native.objects import INSIDE, ObjectError, parse_object
from vtx.engine.native.region_plan import CompiledRegion, PiecesAt, Region, discover
from vtx.engine.native.region_pool import Request, pool
from vtx.engine.native.relocate import RelocationError, patch, rule
from vtx.engine.native.translations import Place

MODES = ("off", "background", "eager")
"""Never; when hot, by another process; at once wherever a block is found twice, for tests."""
_ENVIRONMENT = "VTX_REGIONS"
_DEFAULT = "background"
_THRESHOLD = 2
"""Times a block is seen before it becomes a head. One that is kept is used at the first time."""
_MOST_WAITING = 8
_KIND = "region"


def make_regions(
    mode: str | None, arena: Arena, library: Library, writer: BlockWriter
) -> "Regions":
    """The regions of an engine. `mode` None: what the environment says."""
    mode = mode or os.environ.get(_ENVIRONMENT) or _DEFAULT
    if mode not in MODES:
        raise ValueError(f"regions {mode!r}: there are {', '.join(MODES)}")
    return Regions(arena, library, writer, mode)


@dataclass(frozen=True, slots=True)
class _Head:
    """The block that leads to a region, and where it is."""

    block: Block
    place: Place
    pieces: Sequence[Piece]

    def shares_page_with(self, ip: int) -> bool:
        host = self.place.host + ip - self.place.ip
        return host & -4096 == self.place.page


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A region that is being compiled."""

    head: _Head
    name: bytes
    request: Request


_names: dict[int, tuple[Form, bytes]] = {}
"""id() of a form -> the form, which keeps its id, and its name."""


def _name_of(region: Region) -> bytes:
    """What the region's code is kept as: it follows from the forms and numbers alone."""
    return name_of(
        *((b.ip, *((_name_of_form(s.form), s.numbers) for s in b.steps)) for b in region.blocks)
    )


def _name_of_form(form: Form) -> bytes:
    known = _names.get(id(form))
    if known is None:
        known = _names[id(form)] = (form, name_of(form))
    return known[1]


@dataclass
class Regions:
    """The regions of one engine."""

    arena: Arena
    library: Library
    writer: BlockWriter
    mode: str
    problem: str | None = None
    """Why a region could not be compiled; the first one."""
    installed: int = 0
    waiting: list[_Waiting] = field(default_factory=list)
    _seen: Counter[int] = field(default_factory=Counter)
    """Host address of a block -> times seen."""

    @property
    def eager(self) -> bool:
        return self.mode == "eager"

    def see(self, block: Block, place: Place, pieces_at: PiecesAt) -> None:
        """A block is about to run."""
        if self.mode == "off":
            return
        seen = self._seen[block.hva] = self._seen[block.hva] + 1
        if seen > _THRESHOLD or (self.eager and seen < _THRESHOLD):
            return
        region = discover(block.ip, pieces_at)
        if region is not None:
            head = _Head(block, place, pieces_at(block.ip))
            self._want(region, head, hot=seen == _THRESHOLD)

    def _want(self, region: Region, head: _Head, *, hot: bool) -> None:
        """Install the region if its code is kept, have it compiled if the head is hot."""
        name = _name_of(region)
        known = kept().get(_KIND, name)
        if known is not None:
            self._seen[head.block.hva] = _THRESHOLD
            self._install(CompiledRegion(*known), head)
        elif self.eager:
            self._compile_now(region, head, name)
        elif hot and len(self.waiting) < _MOST_WAITING:
            self.waiting.append(_Waiting(head, name, pool().submit(region)))

    def _compile_now(self, region: Region, head: _Head, name: bytes) -> None:
        # Not at the top: a start with everything kept needs no compiler.
        from vtx.engine.native.region_compile import compile_region

        try:
            self._take(compile_region(region), head, name)
        except CompileError as error:
            self.problem = self.problem or str(error)

    def collect(self) -> None:
        """Install what has been compiled meanwhile."""
        pool().look()
        for waiting in [w for w in self.waiting if w.request.answer is not None]:
            self.waiting.remove(waiting)
            answer = waiting.request.answer
            if isinstance(answer, CompiledRegion):
                self._take(answer, waiting.head, waiting.name)
            else:
                self.problem = self.problem or answer

    def forget(self) -> None:
        """Every block is gone."""
        self._seen.clear()
        self.waiting.clear()

    def _take(self, compiled: CompiledRegion, head: _Head, name: bytes) -> None:
        kept().put(_KIND, name, (compiled.object, compiled.exits))
        if not head.block.dead:
            self._install(compiled, head)

    def _install(self, compiled: CompiledRegion, head: _Head) -> None:
        """Put the code into the arena and lead the head's entry there."""
        try:
            entry = self._place(compiled, head)
            head.block.plain = self.writer.write(head.block.ip, head.pieces, head.place.base)
            self.writer.redirect(head.block, entry)
        except (RelocationError, ObjectError, ArenaFullError, CompileError) as error:
            self.problem = self.problem or str(error)
        else:
            self.installed += 1

    def _place(self, compiled: CompiledRegion, head: _Head) -> int:
        """Host address of the region's entry, once everything it refers to is in place."""
        code = parse_object(compiled.object)
        arena = self.arena
        start = arena.allocate(len(code.code), max(16, code.alignment))
        arena.view[start : start + len(code.code)] = code.code
        hva = arena.base + start
        ways_out = {f"X{n}": place for n, place in enumerate(compiled.exits)}
        for relocation in code.relocations:
            symbol, offset = relocation.symbol, start + relocation.offset
            if symbol in ways_out:
                packer = rule(relocation.kind, code.machine).packer
                target = ways_out[symbol]
                owner = head.block if head.shares_page_with(target) else None
                self.writer.way_out(owner, offset, packer, relocation.addend - offset, target)
            else:
                value = hva if symbol == INSIDE else self.library.symbols[symbol]
                patch(arena.view, start, hva, relocation, value, code.machine)
        arena.flush(start, len(code.code))
        return hva + code.functions["region"].offset
