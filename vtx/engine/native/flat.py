"""Templates, variants and plans as tables in one piece of memory, for compiled code to read.

What an instruction is found by, how its known values are computed, and the stencil that is
copied for it: as numbers, filled in by Python when an instruction is first met, and kept for
other processes. Addresses of functions belong to an engine and are not here.
Only code of x86-64 hosts is put down, and what does not fit is left to Python.
"""

import atexit
import ctypes
import mmap
import struct
import zlib
from collections.abc import Sequence

from vtx.engine.native import page_layout as code
from vtx.engine.native.formulas import WIDE
from vtx.engine.native.kept import kept, name_of
from vtx.engine.native.plans import BY_CALL, Plan
from vtx.engine.native.relocate import JUMP
from vtx.engine.native.templates import Piece, Template, Templates
from vtx.isa.key import Key

_SIZE = 16 << 20
"""Bytes of the tables of one translation key. Memory is only taken for what is used."""
_MOST_KEPT = 4 << 20
"""Bytes of tables that are still kept for other processes."""
_KIND = "tables"
_NODE = 1024
_I32 = 2
_LAST_PACKER = 5
"""The later ones are fields of AArch64."""


def is_possible() -> bool:
    """This host's code is what the tables can describe."""
    return (JUMP.code[:1], len(JUMP.code), JUMP.field, JUMP.packer, JUMP.addend) == (
        bytes([code.JUMP_OPCODE]), code.JUMP_SIZE, code.JUMP_FIELD, _I32, code.JUMP_ADDEND,
    )  # fmt: skip


class FlatTables:
    """The tables for one translation key. A place in them is an offset; 0 is none."""

    def __init__(self, name: bytes) -> None:
        """`name` is what they are kept as."""
        self._memory = mmap.mmap(-1, _SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._view = memoryview(self._memory)
        self.hva = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self._name = name
        self._used = code.ROOT + _NODE
        self._commons: tuple[int, ...] | None = None
        self.symbols: list[str] = []
        """Functions that are called, by the numbers that the tables have for them."""
        self._numbers: dict[str, int] = {}
        self._load()
        self._saved = self._used

    # --- what is asked for -------------------------------------------------------------------
    def learn(
        self, templates: Templates, raw: bytes, piece: Piece, plan: Plan, known: int | None
    ) -> bool:
        """Put down the instruction at the start of `raw`, entered with flags of the kind `known`.

        False if it is left to Python.
        """
        try:
            at = self._entry(templates.head_of(raw))
            if at == 0:
                return False
            found = self._word(at)
            if found == 0:
                found = self._put_template(piece.template)
                self._set(at, found | code.IS_TEMPLATE if found else code.IS_PYTHON)
            elif found & 3 == code.IS_TEMPLATE:
                found -= code.IS_TEMPLATE
            else:
                found = 0
            return found != 0 and self._add_plan(piece, self._variant(piece, found), plan, known)
        except _FullError:
            return False

    def commons(self, plans: Sequence[Plan]) -> tuple[int, ...] | None:
        """Host addresses of the stencils that are no instruction; None if it is not possible."""
        if self._commons is None:
            try:
                self._commons = tuple(self._put_plan(plan, 0, is_common=True) for plan in plans)
            except _FullError:
                return None
        return tuple(self.hva + at for at in self._commons) if all(self._commons) else None

    # --- between processes -------------------------------------------------------------------
    def save(self) -> None:
        """Keep them if they have grown, and are not too large."""
        if self._saved < self._used <= _MOST_KEPT:
            raw = zlib.compress(self._view[: self._used], 1)
            kept().put(_KIND, self._name, (raw, self._used, self._commons, tuple(self.symbols)))
            self._saved = self._used

    def _load(self) -> None:
        known = kept().get(_KIND, self._name)
        if known is not None:
            raw, self._used, self._commons, symbols = known
            self._view[: self._used] = zlib.decompress(raw)
            self.symbols = list(symbols)
            self._numbers = {name: n for n, name in enumerate(symbols)}

    # --- putting down ------------------------------------------------------------------------
    def _allocate(self, size: int) -> int:
        at = self._used
        if at + size + 16 > _SIZE:
            raise _FullError
        self._used = at + (size + 7 & -8)
        return at

    def _word(self, at: int) -> int:
        return int.from_bytes(self._view[at : at + 4], "little")

    def _set(self, at: int, value: int) -> None:
        self._view[at : at + 4] = value.to_bytes(4, "little")

    def _entry(self, head: bytes) -> int:
        """Where it stands what is found by a head; 0 if a shorter head finds something."""
        node = code.ROOT
        for byte in head[:-1]:
            at = node + 4 * byte
            found = self._word(at)
            if found == 0:
                found = self._allocate(_NODE) | code.IS_NODE
                self._set(at, found)
            if found & 3 != code.IS_NODE:
                return 0
            node = found - code.IS_NODE
        return node + 4 * head[-1]

    def _put_template(self, template: Template) -> int:
        formula = template.formula
        if formula is None:
            return 0
        sizes, steps, values = formula
        flags = (
            code.ENDS * template.ends_block | code.ALONE * template.alone
            | code.REPEATS * template.repeats | code.GOES_BEHIND * template.goes_behind
        )  # fmt: skip
        raw = struct.pack(
            "<6B2xI4s", template.length, template.length - sum(sizes), len(sizes), len(steps),
            len(values), flags, 0, bytes(sizes),
        )  # fmt: skip
        for op, first, second, number in steps:
            is_number = second < 0
            raw += struct.pack("<4B4xQ", op, first, 0 if is_number else second, is_number, number)
        raw += b"".join(bytes(one) for one in values)
        return self._put(raw)

    def _put(self, raw: bytes) -> int:
        at = self._allocate(len(raw))
        self._view[at : at + len(raw)] = raw
        return at

    def _variant(self, piece: Piece, template: int) -> int:
        assert piece.template.formula is not None
        signature = 0
        for n, (_, kind) in enumerate(piece.template.formula.values):
            value = piece.values[n]
            if kind == WIDE:
                signature |= (value + 0x8000_0000 & (1 << 64) - 1 >= 1 << 32) << n
            elif kind:
                signature |= value << n
        head = template + code.T_VARIANT
        first = found = self._word(head)
        while found and self._view[found : found + 8] != signature.to_bytes(8, "little"):
            found = self._word(found + code.V_NEXT)
        if found == 0:
            is_any = not piece.filling.uses_flags
            found = self._put(struct.pack("<QIII4x", signature, first, is_any, 0))
            self._set(head, found)
        return found

    def _add_plan(self, piece: Piece, variant: int, plan: Plan, known: int | None) -> bool:
        entered = 0 if known is None or not piece.filling.uses_flags else known + 1
        head = variant + code.V_PLAN
        first = found = self._word(head)
        while found and self._word(found + code.P_KNOWN) != entered:
            found = self._word(found + code.P_NEXT)
        if found:
            return True
        place = self._put_plan(plan, entered, is_common=False)
        if place == 0:
            return False
        self._set(place + code.P_NEXT, first)
        self._set(head, place)
        return True

    def _put_plan(self, plan: Plan, entered: int, *, is_common: bool) -> int:
        """Where a plan is now; 0 if its fields are of other kinds."""
        patches = self._patches(plan)
        jumps = [] if is_common else _jumps(plan)
        if patches is None or jumps is None:
            return 0
        place = self._put(plan.code + bytes(16))
        out = 0 if plan.flags_out is None else plan.flags_out + 1
        flags = code.FALLS * plan.falls_through | code.LEAVES * plan.leaves
        raw = struct.pack(
            "<9I", entered, 0, plan.size, place, out, len(patches), len(jumps), flags,
            plan.targets.get("NEXT", 0),
        )  # fmt: skip
        return self._put(raw + b"".join([*patches, *jumps]))

    def _patches(self, plan: Plan) -> Sequence[bytes] | None:
        """The fields that get numbers, as entries; None if some are of other kinds."""
        called = {offset: symbol for offset, _, symbol, _ in plan.call_fields}
        entries = []
        for offset, packer, kind, index, addend in plan.fields:
            if packer > _LAST_PACKER or (kind == BY_CALL and packer != _I32):
                return None
            number = self._number(called[offset]) if kind == BY_CALL else index
            entries.append(struct.pack("<IBBHq", offset, packer, kind, number, addend))
        return entries

    def _number(self, symbol: str) -> int:
        number = self._numbers.setdefault(symbol, len(self.symbols))
        if number == len(self.symbols):
            self.symbols.append(symbol)
        return number


def _jumps(plan: Plan) -> Sequence[bytes] | None:
    entries = []
    for offset, packer, symbol, addend in plan.jumps:
        if packer != _I32 or symbol not in plan.targets:
            return None
        target = plan.targets[symbol]
        entries.append(struct.pack("<IBBBxq", offset, packer, symbol == "NEXT", target, addend))
    return entries


class _FullError(Exception):
    """No room is left."""


_all: dict[bytes, FlatTables] = {}


def flat_tables(key: Key, features: tuple[str, ...]) -> FlatTables:
    """The tables that all engines of this process share."""
    name = name_of(tuple(key), features)
    known = _all.get(name)
    if known is None:
        known = FlatTables(name)
        if not _all:
            atexit.register(_save_all)  # behind what they are kept in, to come before it
        _all[name] = known
    return known


def _save_all() -> None:
    for tables in _all.values():
        tables.save()
