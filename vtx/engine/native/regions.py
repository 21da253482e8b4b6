"""Which code becomes regions, and when: samples in, redirected blocks out.

A block that is seen often becomes the head of a region. The region is compiled elsewhere while
the block goes on as it is; then whoever enters the block arrives in the region. When that
happens can change nothing but speed, since both leave the same state behind every instruction.
"""

import os
from collections import Counter
from dataclasses import dataclass, field

from vtx.engine.native.arena import Arena
from vtx.engine.native.blocks import Block, BlockWriter
from vtx.engine.native.compiler import CompileError
from vtx.engine.native.library import Library
from vtx.engine.native.objects import INSIDE, parse_object
from vtx.engine.native.region_compile import CompiledRegion, compile_region
from vtx.engine.native.region_plan import PiecesAt, Region, discover
from vtx.engine.native.relocate import RelocationError, patch, rule
from vtx.engine.native.translations import Place

MODES = ("off", "background", "eager")
_ENVIRONMENT = "VTX_REGIONS"
_THRESHOLD, _EAGER_THRESHOLD = 2, 2


def make_regions(
    mode: str | None, arena: Arena, library: Library, writer: BlockWriter
) -> "Regions":
    """The regions of an engine. `mode` None: what the environment's VTX_REGIONS says."""
    mode = mode or os.environ.get(_ENVIRONMENT, "off")
    return Regions(arena, library, writer, mode == "eager", mode != "off")


@dataclass(frozen=True, slots=True)
class _Head:
    """The block that leads to a region, and where it is."""

    block: Block
    place: Place

    def shares_page_with(self, ip: int) -> bool:
        host = self.place.host + ip - self.place.ip
        return host & -4096 == self.place.page


@dataclass
class Regions:
    """The regions of one engine."""

    arena: Arena
    library: Library
    writer: BlockWriter
    eager: bool
    """For tests: every block that is found twice is tried, and compiled at once."""
    enabled: bool
    problem: str | None = None
    """Why a region could not be compiled; the first one."""
    installed: int = 0
    _seen: Counter[int] = field(default_factory=Counter)
    """Host address of a block -> times seen."""

    def see(self, block: Block, place: Place, pieces_at: PiecesAt) -> None:
        """A block was about to run. Raises ArenaFullError."""
        if not self.enabled:
            return
        seen = self._seen[block.hva] + 1
        self._seen[block.hva] = seen
        if seen == (_EAGER_THRESHOLD if self.eager else _THRESHOLD):
            region = discover(block.ip, pieces_at)
            if region is not None:
                self._compile(region, _Head(block, place))

    def forget(self) -> None:
        """Every block is gone."""
        self._seen.clear()

    def _compile(self, region: Region, head: _Head) -> None:
        try:
            self._install(region, compile_region(region), head)
        except (CompileError, RelocationError) as error:
            self.problem = self.problem or str(error)

    def _install(self, region: Region, compiled: CompiledRegion, head: _Head) -> None:
        """Put the code into the arena and lead the head's entry there."""
        self.writer.redirect(head.block, self._place(compiled, head))
        self.installed += 1

    def _place(self, compiled: CompiledRegion, head: _Head) -> int:
        """Host address of the region's entry, once everything it refers to is in place."""
        code = parse_object(compiled.object)
        arena = self.arena
        start = arena.allocate(len(code.code) + code.alignment)
        start += -start % max(16, code.alignment)
        arena.view[start : start + len(code.code)] = code.code
        hva = arena.base + start
        ways_out = {f"X{n}": place for n, place in enumerate(compiled.exits)}
        for relocation in code.relocations:
            symbol, offset = relocation.symbol, start + relocation.offset
            if symbol in ways_out:
                packer = rule(relocation.kind, code.machine).packer
                addend = relocation.addend - offset
                target = ways_out[symbol]
                owner = head.block if head.shares_page_with(target) else None
                self.writer.way_out(owner, offset, packer, addend, target)
            else:
                value = hva if symbol == INSIDE else self.library.symbols[symbol]
                patch(arena.view, start, hva, relocation, value, code.machine)
        arena.flush(start, len(code.code))
        return hva + code.functions["region"].offset
