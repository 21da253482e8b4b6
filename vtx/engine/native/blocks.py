"""Blocks of native code: stencils copied one behind another, patched, and linked to each other.

A block holds consecutive instructions of one page, translated for one place and one translation
key. Its jumps to the same page can be patched to run into each other; others look their target
up in the table of block entries.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from vtx.engine.native.arena import Arena
from vtx.engine.native.compiler import CompileError
from vtx.engine.native.library import Library
from vtx.engine.native.links import Link as Link
from vtx.engine.native.links import Links
from vtx.engine.native.plans import Plan, symbol_numbers
from vtx.engine.native.relocate import JUMP, PACKERS
from vtx.engine.native.stencils import common, plan_ahead
from vtx.engine.native.templates import Piece as Piece

_MODULUS = 1 << 64
_WRAP = _MODULUS - 1
_HIGHEST = _MODULUS // 2 - 1
_PAGES = ~0xFFF

_Jump = tuple[int, int, int, int]
"""Offset of the field, packer, addend less the place, target."""


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
    dead: bool = False
    single: bool = False
    """It holds one instruction although others could have followed."""
    crosses: bool = False
    """Its bytes lie on two pages: only who knows both may enter it."""
    plain: "Block | None" = None
    """The block itself, where entering it leads to a region now."""


@dataclass(frozen=True, slots=True)
class Copy:
    """The code of a block as it was written, before anything was linked to it."""

    start: int
    """Offset in the arena."""
    code: bytes
    callers: list[tuple[int, Plan]]
    """Stencils in it that call functions, and where they lie in the arena."""
    ways_out: list[tuple[int, Link]]
    """Jumps to the same page, and where in the arena the stencil lies that they lead to."""


class BlockWriter:
    """Copies stencils to the arena. Raises ArenaFullError."""

    def __init__(self, library: Library, arena: Arena) -> None:
        """Raises CompileError."""
        self._library, self._arena = library, arena
        self._head, self._unlinked, self._through = common()
        self._size_of_end = max(self._unlinked.size, self._through.size)
        self._size_of_ends = self._head.size + 2 * self._size_of_end + len(JUMP.code)
        library.number_symbols()
        self._linked: set[str] = set()
        """Routines whose addresses are known."""
        self.links = Links()
        self.copy: Copy | None = None
        """Of the block that was written last."""
        self._callers: list[tuple[int, Plan]] = []
        self._ways_out: list[tuple[int, Link]] = []
        self.problem: CompileError | None = None
        """Why an instruction that was met cannot be run natively."""

    def write(self, ip: int, pieces: Sequence[Piece], base: int = 0) -> Block:
        """A block of `pieces` at `ip` in a code segment with this base; no jump is linked yet.

        It ends before the first instruction that cannot be compiled. Raises CompileError if that
        is the first of all.
        """
        plans = self.plans(pieces)
        arena, count = self._arena, len(plans)
        length = size = ends = 0
        for piece, plan in zip(pieces, plans, strict=False):
            length += piece.template.length
            size += plan.size
            ends += len(plan.jumps)
        start = arena.allocate(size + ends * self._size_of_end + self._size_of_ends)
        self._callers, self._ways_out = [], []
        hva = arena.base + start
        block = Block(ip, hva, count, length, hva, pieces[count - 1].template.repeats)
        at = self._put(self._head, start, (count, ip))
        pending: list[_Jump] = []
        at = self._copy_all(at, pieces, plans, pending)
        for offset, packer, addend, target in pending:
            same_page = (target + base ^ ip + base) & _PAGES == 0
            at = self._way_out(block if same_page else None, at, offset, packer, addend, target)
        block.gone = arena.base + at
        at = self._put(self._unlinked, at, (0, ip))
        arena.reset(at)
        arena.flush(start, at - start)
        self.copy = Copy(start, bytes(arena.view[start:at]), self._callers, self._ways_out)
        self._callers, self._ways_out = [], []
        return block

    def plans(self, pieces: Sequence[Piece]) -> list[Plan]:
        """One for each piece, up to the first that cannot be compiled.

        Raises CompileError if that is the first of all.
        """
        if len(self._library.addresses) < len(symbol_numbers):
            self._library.number_symbols()
        known: int | None = None
        plans: list[Plan] = []
        for piece in pieces:
            plan = piece.filling.plans.get(known)
            if plan.__class__ is not Plan or plan.routines:
                try:
                    plan = self._plan(pieces[len(plans) :], known)
                except CompileError as error:
                    self.problem = self.problem or error
                    if not plans:
                        raise
                    return plans
            if plan.flags_out is not None:
                known = plan.flags_out
            plans.append(plan)
        return plans

    def _plan(self, pieces: Sequence[Piece], known: int | None) -> Plan:
        """The plan of the first of `pieces`, all of which will be wanted. Raises CompileError."""
        plans = pieces[0].filling.plans
        if known not in plans:
            plan_ahead([piece.filling for piece in pieces], known)
            self._library.number_symbols()
        plan: Plan | CompileError = plans[known]
        if isinstance(plan, CompileError):
            raise plan
        for routine in plan.routines:
            self._link(routine)
        return plan

    def _link(self, routine: str) -> None:
        if routine not in self._linked:  # the library may have linked it since it was numbered
            self._library.routine(routine)
            self._library.number_symbols()
            self._linked.add(routine)

    def _copy_all(
        self, at: int, pieces: Sequence[Piece], plans: Sequence[Plan], pending: list[_Jump]
    ) -> int:
        """Copy the stencils, and note their jumps that leave the block. Where they end."""
        view, addresses = self._arena.view, self._library.addresses
        back, callers = len(plans), self._callers
        for piece, plan in zip(pieces, plans, strict=False):
            values = piece.values
            arguments = plan.arguments.copy()
            for argument, index, addend, signed in plan.varying:
                value = values[index] + addend
                if signed:
                    arguments[argument] = value if value <= _HIGHEST else value - _MODULUS
                else:
                    arguments[argument] = value & _WRAP
            for argument, addend in plan.back:
                arguments[argument] = back + addend
            if plan.calls:
                callers.append((at, plan))
                for argument, number, addend in plan.calls:
                    arguments[argument] = addresses[number] + addend - at
            plan.pack(view, at, *arguments)
            back -= 1
            if plan.jumps and (not back or plan.leaves):
                self._note_jumps(at, plan, values, pending, not back)
            at += plan.size
        if plan.falls_through:
            # Nothing lies behind the last stencil: it needs the jump that was left out.
            view[at : at + len(JUMP.code)] = JUMP.code
            field = at + JUMP.field
            target = values[plan.targets["NEXT"]]
            pending.append((field, JUMP.packer, JUMP.addend - field, target))
            at += len(JUMP.code)
        return at

    def _note_jumps(
        self, at: int, plan: Plan, values: tuple[int, ...], pending: list[_Jump], last: bool
    ) -> None:
        for offset, packer, symbol, addend in plan.jumps:
            if last or symbol != "NEXT":
                target = values[plan.targets[symbol]]
                pending.append((at + offset, packer, addend - at, target))

    def _way_out(
        self, block: Block | None, at: int, offset: int, packer: int, addend: int, target: int
    ) -> int:
        """Lead a jump out of the block; where the code goes on behind what was written.

        `block` is None if the jump leaves the page.
        """
        PACKERS[packer](self._arena.view, offset, at + addend)
        if block is None:
            return self._put(self._through, at, (0, target))
        link = Link(offset, packer, addend, target)
        self._ways_out.append((at, link))
        return self._put(self._unlinked, at, (self.links.add(link), target))

    def way_out(
        self, block: Block | None, offset: int, packer: int, addend: int, target: int
    ) -> None:
        """Lead a jump at `offset` to `target`, from code that belongs to `block`.

        `block` is None if the jump leaves the page. Raises ArenaFullError.
        """
        size = max(self._through.size, self._unlinked.size)
        self._way_out(block, self._arena.allocate(size), offset, packer, addend, target)

    def _put(self, plan: Plan, at: int, values: tuple[int, int]) -> int:
        """Copy a common stencil; where it ends."""
        addresses = self._library.addresses
        arguments = plan.arguments.copy()
        for argument, index, addend, _ in plan.varying:
            arguments[argument] = values[index] + addend
        self._callers.append((at, plan))
        for argument, number, addend in plan.calls:
            arguments[argument] = addresses[number] + addend - at
        plan.pack(self._arena.view, at, *arguments)
        return at + plan.size

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
        at = self._arena.allocate(self._through.size)
        self._put(self._through, at, (0, link.target))
        self._aim(link, self._arena.base + at)

    def _aim(self, link: Link, hva: int) -> None:
        place = self._arena.view, link.offset
        PACKERS[link.packer](*place, hva - self._arena.base + link.addend)
        self._arena.flush(link.offset, 4)

    def redirect(self, block: Block, hva: int) -> None:
        """Let whoever still enters `block` arrive at `hva` instead."""
        at = block.hva - self._arena.base
        view = self._arena.view
        view[at : at + len(JUMP.code)] = JUMP.code
        field = at + JUMP.field
        PACKERS[JUMP.packer](view, field, hva - self._arena.base + JUMP.addend - field)
        self._arena.flush(at, len(JUMP.code))
