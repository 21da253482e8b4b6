"""Templates, variants and plans as tables in one piece of memory, for `page_code` to read.

What an instruction is found by, how its known values are computed, and the stencil that is
copied for it: as numbers, filled in by Python when an instruction is first met. What is in the
tables holds for the whole process; addresses of functions belong to an engine and are not here.
Only code of x86-64 hosts is put down, and what does not fit is left to Python.
"""

import ctypes
import mmap
import struct
from collections.abc import Sequence

from vtx.engine.native import page_code as code
from vtx.engine.native.formulas import WIDE
from vtx.engine.native.plans import BY_CALL, Plan
from vtx.engine.native.relocate import JUMP
from vtx.engine.native.templates import Piece, Template, Templates

_SIZE = 16 << 20
"""Bytes of the tables of one translation key. Memory is only taken for what is used."""
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

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._view = memoryview(self._memory)
        self.hva = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self._used = code.ROOT + _NODE
        self._templates: dict[int, tuple[Template, int]] = {}
        """id() of a template, which is kept so that the number stays its own -> where it is."""
        self._variants: dict[tuple[int, int], int] = {}
        self._plans: set[tuple[int, int]] = set()
        self._heads: set[bytes] = set()
        self._commons: dict[int, tuple[Plan, int]] = {}

    # --- what is asked for -------------------------------------------------------------------
    def learn(
        self, templates: Templates, raw: bytes, piece: Piece, plan: Plan, known: int | None
    ) -> bool:
        """Put down the instruction at the start of `raw`, entered with flags of the kind `known`.

        False if it is left to Python.
        """
        try:
            template = self._template(piece.template)
            if template == 0:
                return False
            place = self._variant(piece, template)
            if not self._add_plan(piece, place, plan, known):
                return False
            return self._find_by(templates.head_of(raw), template | code.IS_TEMPLATE)
        except _FullError:
            return False

    def leave_to_python(self, templates: Templates, raw: bytes) -> None:
        """The instruction at the start of `raw` ends what is translated here."""
        try:
            self._find_by(templates.head_of(raw), code.IS_PYTHON)
        except _FullError:
            return

    def common(self, plan: Plan) -> int:
        """Host address of one of the stencils that are no instruction; 0 if it is not possible."""
        known = self._commons.get(id(plan))
        if known is None:
            try:
                known = self._commons[id(plan)] = (plan, self._put_plan(plan, 0, True))
            except _FullError:
                return 0
        return self.hva + known[1] if known[1] else 0

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

    def _find_by(self, head: bytes, entry: int) -> bool:
        """Let the instruction be found by its head, unless something else is."""
        if head in self._heads:
            return True
        node = code.ROOT
        for byte in head[:-1]:
            at = node + 4 * byte
            found = self._word(at)
            if found == 0:
                found = self._allocate(_NODE) | code.IS_NODE
                self._set(at, found)
            if found & 3 != code.IS_NODE:
                return False
            node = found - code.IS_NODE
        at = node + 4 * head[-1]
        if self._word(at) not in (0, entry):
            return False
        self._set(at, entry)
        self._heads.add(head)
        return True

    def _template(self, template: Template) -> int:
        known = self._templates.get(id(template))
        if known is None:
            known = self._templates[id(template)] = (template, self._put_template(template))
        return known[1]

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
        found = self._variants.get((template, signature))
        if found is None:
            head = template + code.T_VARIANT
            raw = struct.pack(
                "<QIII4x", signature, self._word(head), not piece.filling.uses_flags, 0
            )
            found = self._variants[template, signature] = self._put(raw)
            self._set(head, found)
        return found

    def _add_plan(self, piece: Piece, variant: int, plan: Plan, known: int | None) -> bool:
        entered = 0 if known is None or not piece.filling.uses_flags else known + 1
        if (variant, entered) in self._plans:
            return True
        place = self._put_plan(plan, entered, False)
        if place == 0:
            return False
        head = variant + code.V_PLAN
        self._set(place + code.P_NEXT, self._word(head))
        self._set(head, place)
        self._plans.add((variant, entered))
        return True

    def _put_plan(self, plan: Plan, entered: int, is_common: bool) -> int:
        """Where a plan is now; 0 if its fields are of other kinds."""
        patches = _patches(plan)
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


class _FullError(Exception):
    """No room is left."""


def _patches(plan: Plan) -> Sequence[bytes] | None:
    """The fields that get numbers, each as its entry; None if some are of other kinds."""
    entries = []
    for offset, packer, kind, index, addend in plan.fields:
        if packer > _LAST_PACKER or (kind == BY_CALL and packer != _I32) or index >= 1 << 16:
            return None
        entries.append(struct.pack("<IBBHq", offset, packer, kind, index, addend))
    return entries


def _jumps(plan: Plan) -> Sequence[bytes] | None:
    entries = []
    for offset, packer, symbol, addend in plan.jumps:
        if packer != _I32 or symbol not in plan.targets:
            return None
        target = plan.targets[symbol]
        entries.append(struct.pack("<IBBBxq", offset, packer, symbol == "NEXT", target, addend))
    return entries
