"""Blocks of native code: stencils copied one behind another, patched, and linked to each other.

A block holds consecutive instructions of one page, translated for one place and one translation
key. Its jumps to the same page can be patched to run into each other; others look their target
up in the table of block entries.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from vtx.engine.native.arena import Arena
from vtx.engine.native.forms import Filling
from vtx.engine.native.library import Library, Ready
from vtx.engine.native.relocate import PACKERS
from vtx.engine.native.stencil import hole_symbol

_WRAP = 0xFFFF_FFFF_FFFF_FFFF
_PAGES = ~0xFFF


@dataclass(slots=True)
class Link:
    """A jump that may be patched: where its field is, and where it wants to go."""

    offset: int
    packer: int
    addend: int
    """Added to the target's address; the place of the jump is already taken off."""
    target: int
    """Offset in CS."""


@dataclass(slots=True)
class Block:
    """Translated instructions. `hva` is where native code enters it."""

    ip: int
    hva: int
    count: int
    length: int
    """Bytes of guest code."""
    entry: int
    """Where other blocks enter it; elsewhere than `hva` when its place had another block before."""
    repeats: bool = False
    """Its last instruction is a repeated string instruction."""
    gone: int = 0
    """Host address of what leaves native code at `ip`, for when the block is dead."""
    links: list[Link] = field(default_factory=list)
    dead: bool = False
    single: bool = False
    """It holds one instruction although others could have followed."""
    crosses: bool = False
    """Its bytes lie on two pages: only who knows both may enter it."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One instruction that will be part of a block."""

    filling: Filling
    values: tuple[int, ...]
    length: int
    repeats: bool = False


class Plan:
    """How to copy one stencil for one filling: what is fixed is patched in already."""

    __slots__ = ("back", "code", "falls_through", "flags_out", "jumps", "targets", "varying")

    def __init__(self, ready: Ready, filling: Filling, symbols: dict[str, int]) -> None:
        code = bytearray(ready.code)
        form = filling.form
        index_of: dict[str, int] = {}
        for n, kind in enumerate(form.holes):
            index_of[hole_symbol(n, kind)] = n
        self.varying: list[tuple[int, Callable[..., None], int, int, bool]] = []
        self.back: list[tuple[int, Callable[..., None], int]] = []
        for offset, packer, symbol, addend in ready.absolute:
            pack = PACKERS[packer]
            if symbol == "BACK_slot":
                self.back.append((offset, pack, addend))
                continue
            n = index_of[symbol]
            fixed, varying = filling.fixed[n], filling.varying[n]
            if fixed is not None:
                pack(code, offset, fixed + addend)
            else:
                assert varying is not None
                self.varying.append((offset, pack, varying, addend, packer in (0, 2, 4)))
        self.code = bytes(code)
        self.jumps = [
            (offset, packer, symbols.get(symbol, 0), symbol, addend)
            for offset, packer, symbol, addend in ready.relative
        ]
        self.targets: dict[str, int] = {}
        """Continuation -> index of the known value that is its target."""
        for symbol, hole in ready.continuations:
            target = filling.varying[hole]
            assert target is not None
            self.targets[symbol] = target
        self.falls_through = ready.falls_through
        self.flags_out = ready.flags_out


class BlockWriter:
    """Copies stencils to the arena. Raises ArenaFullError."""

    def __init__(self, library: Library, arena: Arena) -> None:
        self._library, self._arena = library, arena
        self._plans: dict[tuple[int, int | None], tuple[Filling, Plan]] = {}
        self.links: list[Link] = []
        """Link number n + 1 is links[n]."""

    def write(self, ip: int, pieces: Sequence[Piece], base: int = 0) -> Block:
        """A block of `pieces` at `ip` in a code segment with this base; no jump is linked yet."""
        plans = self._plan(pieces)
        arena = self._arena
        size = sum(len(p.code) for p in plans) + 384 + 128 * sum(len(p.jumps) + 1 for p in plans)
        start = arena.allocate(size)
        hva, length = arena.base + start, sum(p.length for p in pieces)
        block = Block(ip, hva, len(pieces), length, hva, pieces[-1].repeats)
        at = self._put(self._library.head, start, {"COUNT_slot": len(pieces), "H0_q": ip})
        pending: list[tuple[int, int, int, int]] = []
        for number, (piece, plan) in enumerate(zip(pieces, plans, strict=True)):
            self._copy(at, plan, piece.values, len(pieces) - number)
            last = number == len(pieces) - 1
            behind = at + len(plan.code)
            at_end = self._jumps(at, behind, plan, piece.values, pending, last)
            at = at_end
        for offset, packer, addend, target in pending:
            same_page = (target + base ^ ip + base) & _PAGES == 0
            at = self._way_out(block if same_page else None, at, offset, packer, addend, target)
        block.gone = arena.base + at
        at = self._put(self._library.unlinked, at, {"H0_q": ip, "LINK_s": 0})
        arena.reset(at)
        arena.flush(start, at - start)
        return block

    def _plan(self, pieces: Sequence[Piece]) -> list[Plan]:
        known: int | None = None
        plans = []
        for piece in pieces:
            name = (id(piece.filling), known)
            cached = self._plans.get(name)
            if cached is None:
                ready = self._library.stencil(piece.filling.form, known)
                plan = Plan(ready, piece.filling, self._library.symbols)
                cached = self._plans[name] = (piece.filling, plan)
            plan = cached[1]
            if plan.flags_out is not None:
                known = plan.flags_out
            plans.append(plan)
        return plans

    def _copy(self, at: int, plan: Plan, values: tuple[int, ...], back: int) -> None:
        view = self._arena.view
        view[at : at + len(plan.code)] = plan.code
        for offset, pack, index, addend, signed in plan.varying:
            value = values[index] + addend
            if signed:
                value = ((value + (1 << 63)) & _WRAP) - (1 << 63)
            else:
                value &= _WRAP
            pack(view, at + offset, value)
        for offset, pack, addend in plan.back:
            pack(view, at + offset, back + addend)

    def _jumps(
        self, at: int, behind: int, plan: Plan, values: tuple[int, ...],
        pending: list[tuple[int, int, int, int]], last: bool,
    ) -> int:  # fmt: skip
        """Patch a stencil's jumps; where the next stencil goes."""
        view, base = self._arena.view, self._arena.base
        for offset, packer, hva, symbol, addend in plan.jumps:
            if hva:
                PACKERS[packer](view, at + offset, hva + addend - base - at)
            elif symbol == "NEXT" and not last:
                PACKERS[packer](view, at + offset, behind + addend - at)
            else:
                target = self._target(plan, symbol, values)
                pending.append((at + offset, packer, addend - at, target))
        if plan.falls_through and last:
            # Nothing lies behind the last stencil: it needs the jump that was left out.
            target = self._target(plan, "NEXT", values)
            view[behind] = 0xE9
            pending.append((behind + 1, 2, -4 - behind - 1, target))
            behind += 5
        return behind

    def _target(self, plan: Plan, symbol: str, values: tuple[int, ...]) -> int:
        return values[plan.targets[symbol]]

    def _way_out(
        self, block: Block | None, at: int, offset: int, packer: int, addend: int, target: int
    ) -> int:
        """Lead a jump out of the block; where the code goes on behind what was written.

        `block` is None if the jump leaves the page.
        """
        PACKERS[packer](self._arena.view, offset, at + addend)
        if block is None:
            return self._put(self._library.through, at, {"H0_q": target})
        link = Link(offset, packer, addend, target)
        self.links.append(link)
        block.links.append(link)
        return self._put(self._library.unlinked, at, {"H0_q": target, "LINK_s": len(self.links)})

    def way_out(
        self, block: Block | None, offset: int, packer: int, addend: int, target: int
    ) -> None:
        """Lead a jump at `offset` to `target`, from code that belongs to `block`.

        `block` is None if the jump leaves the page. Raises ArenaFullError.
        """
        size = max(len(self._library.through.code), len(self._library.unlinked.code))
        self._way_out(block, self._arena.allocate(size), offset, packer, addend, target)

    def _put(self, ready: Ready, at: int, values: dict[str, int]) -> int:
        """Copy a common stencil; where it ends."""
        view, base = self._arena.view, self._arena.base
        view[at : at + len(ready.code)] = ready.code
        for offset, packer, symbol, addend in ready.absolute:
            PACKERS[packer](view, at + offset, values[symbol] + addend)
        for offset, packer, symbol, addend in ready.relative:
            target = self._library.symbols.get(symbol)
            assert target is not None or symbol == "NEXT"
            place = base + at
            value = (target if target is not None else place + len(ready.code)) + addend - place
            PACKERS[packer](view, at + offset, value)
        return at + len(ready.code)

    def kill(self, block: Block) -> None:
        """Let whoever still enters `block` leave native code instead."""
        block.dead = True
        self.redirect(block, block.gone)

    def connect(self, link: Link, block: Block) -> None:
        """Patch a jump to run into `block`."""
        self._aim(link, block.entry)

    def connect_through(self, link: Link) -> None:
        """Patch a jump to look for its target in the table of block entries.

        Raises ArenaFullError.
        """
        at = self._arena.allocate(len(self._library.through.code))
        self._put(self._library.through, at, {"H0_q": link.target})
        self._aim(link, self._arena.base + at)

    def _aim(self, link: Link, hva: int) -> None:
        place = self._arena.view, link.offset
        PACKERS[link.packer](*place, hva - self._arena.base + link.addend)

    def redirect(self, block: Block, hva: int) -> None:
        """Let whoever still enters `block` arrive at `hva` instead."""
        at = block.hva - self._arena.base
        self._arena.view[at] = 0xE9
        PACKERS[2](self._arena.view, at + 1, hva - block.hva - 5)
