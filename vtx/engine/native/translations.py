"""Which native block belongs to which place in memory: found, made, and forgotten.

A place is where code lies for the host and for the guest, so a block is right wherever it is
found. How blocks are entered, and what is linked to what, is the engine's business.
"""

import mmap
from collections.abc import Callable
from typing import NamedTuple

from vtx.engine.native.arena import Arena, ArenaFullError
from vtx.engine.native.batches import View
from vtx.engine.native.blocks import Block, BlockWriter
from vtx.engine.native.compiler import CompileError
from vtx.engine.native.page_cache import NO_LIMIT as NO_LIMIT
from vtx.engine.native.page_cache import PageCache, Segment, Watch
from vtx.engine.native.templates import InPython, Piece, templates_for
from vtx.engine.translate import LONGEST
from vtx.isa.key import Key
from vtx.machine.code_watch import CodeWatch

_MOST_STEPS = 32
_PAGE = 4096
_BYTES_OF_A_PLACE = 512
"""Of code cache: where it has less for each known place, places are forgotten too, for those
without native code would grow in number for ever."""
INSIDE = -1
"""As `Place.beyond`: the block does not leave its page."""


class Place(NamedTuple):
    """Everything that a block depends on besides the bytes it was made from."""

    ip: int
    """Offset in CS."""
    host: int
    """Where the first byte lies in host memory."""
    key: Key
    base: int = 0
    """Base of CS."""
    limit: int = NO_LIMIT
    """Last offset of CS; NO_LIMIT where CS is flat or of 64-bit code."""
    single: bool = False
    """One instruction only, whatever follows it."""
    beyond: int = INSIDE
    """Host page that holds the rest of an instruction which continues on the next page."""

    @property
    def page(self) -> int:
        """Host page of the first byte."""
        return self.host & -_PAGE


class Crossing:
    """What is found where an instruction continues on the next page: it must be looked up with
    that page."""


CROSSING = Crossing()


class Translations:
    """The native blocks of one CPU. `cuts` says whether a page offset must not be run natively."""

    def __init__(
        self,
        writer: BlockWriter,
        arena: Arena,
        memory: mmap.mmap,
        code: CodeWatch,
        on_write: Callable[[int], None],
        features: frozenset[str],
        pages: PageCache,
    ) -> None:
        self._pages = pages
        self._writer, self._arena, self._memory, self._code = writer, arena, memory, code
        self._on_write, self._features = on_write, features
        self._floor = arena.used
        self._most = arena.room // _BYTES_OF_A_PLACE
        self.cuts: Callable[[int], bool] | None = None
        self.problem: str | None = None
        """Why some instruction could not be compiled."""
        self._blocks: dict[Place, Block | Crossing | None] = {}
        self._of_page: dict[int, dict[Place, None]] = {}
        self._entries: dict[Place, Block] = {}
        """Places whose block died: their first block, where all others enter them."""

    def find(self, place: Place) -> Block | Crossing | None:
        """The block there; None where Python has to go on. Raises ArenaFullError."""
        if place in self._blocks:
            return self._blocks[place]
        if len(self._blocks) + len(self._entries) >= self._most:
            raise ArenaFullError(f"more than {self._most} places")
        return self._make(place)

    def pieces_of(self, place: Place) -> list[Piece]:
        """The instructions of the block there, if there is one."""
        known = self._blocks.get(place)
        if known is None and self._can_reuse(place):
            segment = Segment(place.key, place.base, place.limit)
            known = self._pages.known(place.page, place.ip, place.host & _PAGE - 1, segment)
        return self._pieces(place) or [] if isinstance(known, Block) else []

    def _can_reuse(self, place: Place) -> bool:
        is_usual = not place.single and place.beyond == INSIDE and self.cuts is None
        return is_usual and self._pages.is_possible

    # --- making ------------------------------------------------------------------------------
    def _make(self, place: Place) -> Block | Crossing | None:
        block: Block | Crossing | None = None
        try:
            if not self._can_reuse(place):
                block = self._translate(place)
            else:
                block = self._reuse(place)
        except CompileError as error:
            self.problem = self.problem or str(error)
        self._blocks[place] = block
        self._watch(place, block.length if isinstance(block, Block) else LONGEST)
        return block

    def _reuse(self, place: Place) -> Block | Crossing | None:
        """The block there from what is known of its page, or else a new one.

        Raises CompileError and ArenaFullError.
        """
        pages, inside = self._pages, place.host - place.page
        content = self._memory[place.page : place.page + _PAGE]
        segment = Segment(place.key, place.base, place.limit)

        def watch(bits: int, lines: int) -> None:
            self._code.watch_bytes(place.page, self._on_write, bits, lines)

        view = pages.view(place.page, content, place.ip - inside, segment, watch)
        found: Block | bool | None = pages.find(view, place.ip, inside)
        if found is None and view.tables is not None:
            found = pages.translate(view, place.ip, inside, _MOST_STEPS, watch)
            if found is True:
                found = self._learn(place, view, inside, watch)
        if isinstance(found, Block):
            return self._enter(place, found)
        made = self._translate(place)
        if isinstance(made, Block):
            pages.add(view, made, inside)
        return made

    def _learn(self, place: Place, view: View, inside: int, watch: Watch) -> Block | bool | None:
        """As `PageCache.translate`, once native code knows the instructions."""
        pieces = self._pieces(place)
        if not pieces:
            return None
        most = self._pages.learn(view, templates_for(place.key, self._features), inside, pieces)
        return self._pages.translate(view, place.ip, inside, most, watch) if most else None

    def _translate(self, place: Place) -> Block | Crossing | None:
        """Raises CompileError."""
        pieces = self._pieces(place) if place.beyond == INSIDE else self._one(place)
        if pieces is None:
            return CROSSING
        if not pieces:
            return None
        return self._enter(place, self._writer.write(place.ip, pieces, place.base))

    def _enter(self, place: Place, block: Block) -> Block:
        """Let all who want to be at the place enter this block."""
        block.single = place.single
        block.crosses = place.beyond != INSIDE
        first = self._entries.get(place)
        if first is not None:
            self._writer.redirect(first, block.hva)
            block.entry = first.entry
        return block

    def _watch(self, place: Place, length: int) -> None:
        first = place.host & _PAGE - 1
        last = first + length - 1
        self._note(place.page, place, first, min(last, _PAGE - 1))
        if place.beyond != INSIDE:
            self._note(place.beyond, place, 0, max(last - _PAGE, 0))

    def _note(self, page: int, place: Place, first: int, last: int) -> None:
        """`place` depends on these bytes of the page."""
        self._of_page.setdefault(page, {})[place] = None
        self._code.watch(page, self._on_write, first, last)

    def _pieces(self, place: Place) -> list[Piece] | None:
        """Instructions of one page; None when the first one continues on the next page."""
        templates = templates_for(place.key, self._features)
        page = bytes(self._memory[place.page : place.page + _PAGE])
        inside = place.host - place.page
        wrap = -1 if place.key.bits == 64 else 0xFFFF_FFFF
        most = 1 if place.single else _MOST_STEPS
        if self.cuts is None and place.ip + _PAGE <= place.limit:
            pieces, crosses = templates.straight(page, inside, place.ip, most)
            return None if crosses and not pieces else pieces
        pieces = []
        offset = 0
        while len(pieces) < most and inside + offset < _PAGE:
            if self.cuts is not None and self.cuts(inside + offset):
                break
            ip = (place.ip + offset) & wrap
            if ip > place.limit:
                break  # the fault belongs to that instruction
            piece = templates.find(page, inside + offset, ip)
            if piece is None and _ends_within(place, _PAGE - inside):
                break
            if piece is None:
                return pieces or None
            if isinstance(piece, InPython) or (pieces and piece.template.alone):
                break
            if _ends_within(place, offset + piece.length):
                break
            pieces.append(piece)
            offset += piece.template.length
            if piece.template.ends_block:
                break
        return pieces

    def _one(self, place: Place) -> list[Piece]:
        """The instruction that continues on the next page."""
        if self.cuts is not None and self.cuts(place.host - place.page):
            return []
        code = bytes(self._memory[place.host : place.page + _PAGE])
        code += bytes(self._memory[place.beyond : place.beyond + LONGEST])
        piece = templates_for(place.key, self._features).find(code, 0, place.ip)
        assert piece is not None, "fifteen bytes are enough for any instruction"
        if isinstance(piece, InPython) or _ends_within(place, piece.length):
            return []
        return [piece]

    # --- forgetting --------------------------------------------------------------------------
    def forget(self) -> None:
        """Drop every block; none of them may be entered afterwards."""
        self._blocks.clear()
        self._of_page.clear()
        self._entries.clear()
        self._pages.forget()
        self._writer.links.clear()
        self._arena.reset(self._floor)

    def forget_page(self, page: int) -> None:
        """Drop what was made from bytes of a host page that was written."""
        self._pages.forget_page(page)
        for place in self._of_page.pop(page, ()):
            block = self._blocks.pop(place, None)
            if isinstance(block, Block):
                self._writer.kill(block)
                self._entries.setdefault(place, block)


def _ends_within(place: Place, count: int) -> bool:
    """CS has not all of the `count` bytes from the place on: Python says what happens there."""
    return place.ip + count - 1 > place.limit
