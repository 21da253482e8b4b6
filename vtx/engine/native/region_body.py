"""How instructions of a region are written: registers in cells, flags known, numbers literal.

The cells become SSA values. Where the region goes on and how it is left is the business of
`region_text`; this module writes what happens inside one instruction.
"""

from collections.abc import Sequence

from vtx.engine.native.region_flag_body import FlagBody
from vtx.engine.native.region_flags import writes_in_branches
from vtx.engine.native.region_plan import Step
from vtx.engine.native.region_ranges import BASE, DISTANCE, LIMITS, MISSED, range_of
from vtx.engine.native.region_values import Scope
from vtx.isa.primitives import Prim
from vtx.isa.program import Access, Op

STATE, TABLE, MEMORY = "!13", "!14", "!15"
_NOT_STATE, _NOT_TABLE, _NOT_MEMORY = "!16", "!17", "!18"
ALIAS_METADATA = """
!9 = distinct !{!9}
!10 = distinct !{!10, !9}
!11 = distinct !{!11, !9}
!12 = distinct !{!12, !9}
!13 = !{!10}
!14 = !{!11}
!15 = !{!12}
!16 = !{!11, !12}
!17 = !{!10, !12}
!18 = !{!10, !11}
"""
"""State words, translations and guest memory are different memory."""
_OF_STATE = f", !alias.scope {STATE}, !noalias {_NOT_STATE}"
_OF_TABLE = f", !alias.scope {TABLE}, !noalias {_NOT_TABLE}"
_OF_MEMORY = f", !alias.scope {MEMORY}, !noalias {_NOT_MEMORY}"


class RegionBody(FlagBody):
    """Writes one instruction after another. A subclass says how instructions end."""

    def __init__(self) -> None:
        super().__init__()
        self._step = Step.__new__(Step)
        self._variables: list[str] = []
        self._leaving = False
        """A slow store asked for it: nothing may follow this instruction."""
        self._at_last = False
        """The instruction is the last of its block."""
        self._range_words: list[int] = []
        """Offsets in the table of those words of ranges that are kept in registers."""
        self._guess = ""
        """How likely the two ways of a conditional jump are."""
        self._here: tuple[Sequence[Op], int] = ((), 0)

    def branch(self, condition: str, then: str, otherwise: str, weight: str = "") -> None:
        super().branch(condition, then, otherwise, weight or self._guess)

    def write_step(self, step: Step) -> None:
        """Write one instruction up to its ends."""
        self._step, self._scope = step, Scope(step)
        self._variables = [self.cell(width) for width in step.form.variables]
        if writes_in_branches(step.form):
            self._spread_flags()
        self.write(step.form.ops)
        self._gather_flags()

    # --- numbers and registers -----------------------------------------------------------------
    def slot(self, attr: int) -> str:
        if attr < 0:
            return f"%reg{self._step.numbers[-1 - attr] // 8}"
        return super().slot(attr)

    def set_word(self, index: int, value: str) -> None:
        self.line(f"store i64 {value}, ptr {self.word(index)}{_OF_STATE}")

    def get_word(self, index: int) -> str:
        return self.add(f"load i64, ptr {self.word(index)}{_OF_STATE}")

    def _op_getvar(self, op: Op) -> None:
        text = self.add(f"load i{op.width}, ptr {self._variables[op.attr]}")
        self.define(op.dst[0], text, op.width)

    def _op_setvar(self, op: Op) -> None:
        self.line(f"store i{op.width} {self.value(op.args[0])}, ptr {self._variables[op.attr]}")

    # --- memory ----------------------------------------------------------------------------
    def _hit(self, entry: str, gva: str, access: Access, size: int) -> str:
        tag = self.add(f"getelementptr i8, ptr {entry}, i64 8") if access.write else entry
        known = self.add(f"load i64, ptr {tag}{_OF_TABLE}")
        last = self.add(f"add i64 {gva}, {size - 1}") if size > 1 else gva
        page = self.add(f"and i64 {last}, -4096")
        return self.add(f"icmp eq i64 {known}, {page}")

    def _host(self, entry: str, gva: str) -> str:
        field = self.add(f"getelementptr i8, ptr {entry}, i64 16")
        distance = self.add(f"load i64, ptr {field}{_OF_TABLE}")
        place = self.add(f"add i64 {gva}, {distance}")
        return self.add(f"inttoptr i64 {place} to ptr")

    def _in_range(self, gva: str, access: Access, size: int) -> tuple[str, str]:
        """Go on here if the access lies in its range; labels of here and of where if not."""
        ranged, other = self.label(), self.label()
        at = range_of(access)
        shift = size.bit_length() - 1
        distance = self.add(f"sub i64 {gva}, {self._table_word(at + BASE)}")
        if shift:
            arguments = f"i64 {distance}, i64 {distance}, i64 {64 - shift}"
            distance = self.add(f"call i64 @llvm.fshl.i64({arguments})")
        limit = self._table_word(at + LIMITS + 8 * shift)
        self.branch(self.add(f"icmp ult i64 {distance}, {limit}"), ranged, other, "!prof !0")
        self.place(ranged)
        return ranged, other

    def _ranged_host(self, gva: str, access: Access) -> str:
        """Host pointer of a gva that lies in the range."""
        place = self.add(f"add i64 {gva}, {self._table_word(range_of(access) + DISTANCE)}")
        return self.add(f"inttoptr i64 {place} to ptr")

    def _table_word(self, offset: int) -> str:
        if offset in self._range_words:
            return self.add(f"load i64, ptr %range{offset}")
        pointer = self.add(f"getelementptr i8, ptr {self.translations()}, i64 {offset}")
        return self.add(f"load i64, ptr {pointer}{_OF_TABLE}")

    def _take_ranges(self) -> None:
        """Read the ranges that are kept in registers: they may have changed."""
        for offset in self._range_words:
            pointer = self.add(f"getelementptr i8, ptr {self.translations()}, i64 {offset}")
            word = self.add(f"load i64, ptr {pointer}{_OF_TABLE}")
            self.line(f"store i64 {word}, ptr %range{offset}")

    def _ask(self, result: str, function: str, arguments: str, access: int) -> str:
        answer = super()._ask(result, function, arguments, access)
        self._take_ranges()
        return answer

    def _note_missed(self, gva: str, access: Access) -> None:
        offset = range_of(access) + MISSED
        pointer = self.add(f"getelementptr i8, ptr {self.translations()}, i64 {offset}")
        self.line(f"store i64 {gva}, ptr {pointer}{_OF_TABLE}")

    def _op_load(self, op: Op) -> None:
        gva, width = self.value(op.args[0]), op.width
        ranged, other = self._in_range(gva, op.attr, width // 8)
        near = self.add(
            f"load i{width}, ptr {self._ranged_host(gva, op.attr)}, align 1{_OF_MEMORY}"
        )
        looked_up, join = self.label(), self.label()
        self.line(f"br label %{join}")
        self.place(other)
        with self.cold():
            super()._op_load(op)
        far = self.value(op.dst[0])
        self._note_missed(gva, op.attr)
        self.line(f"br label %{looked_up}")
        self.place(looked_up)
        self.line(f"br label %{join}")
        self.place(join)
        text = self.add(f"phi i{width} [ {near}, %{ranged} ], [ {far}, %{looked_up} ]")
        self.define(op.dst[0], text, width)

    def _op_store(self, op: Op) -> None:
        gva, value = self.value(op.args[0]), self.value(op.args[1])
        width = self.width(op.args[1])
        access = op.attr._replace(write=True)
        _, other = self._in_range(gva, access, width // 8)
        host = self._ranged_host(gva, access)
        self.line(f"store i{width} {value}, ptr {host}, align 1{_OF_MEMORY}")
        join = self.label()
        self.line(f"br label %{join}")
        self.place(other)
        with self.cold():
            super()._op_store(op)
        self._note_missed(gva, access)
        self.line(f"br label %{join}")
        self.place(join)

    def _one(self, ops: Sequence[Op], at: int) -> int:
        if ops[at].prim is Prim.STORE:
            self._here = ops, at
        return super()._one(ops, at)

    def stored_slowly(self, status: str) -> None:
        """Write the rest of the instruction once more for stores that nothing may follow."""
        if self._leaving:
            return
        leave, onward = self.label(), self.label()
        self.branch(self.add(f"icmp eq i64 {status}, 0"), onward, leave, "!prof !0")
        self.place(leave)
        flags, names = self._flags, dict(self._scope.names)
        self._leaving = True
        with self.cold():
            self.write(_rest(*self._here))
        self._leaving = False
        assert self.ended, "an instruction has an end"
        self._flags, self._scope.names = flags, names
        self.place(onward)


def _rest(ops: Sequence[Op], at: int) -> list[Op]:
    """What is executed behind the op at `at`."""
    rest: list[Op] = []
    depth, skipping = 0, False
    for op in ops[at + 1 :]:
        if op.prim is Prim.IF:
            depth += 1
        elif op.prim is Prim.END:
            depth -= 1
            if depth < 0:  # the end of the branch that the op stands in
                depth, skipping = 0, False
                continue
        elif op.prim is Prim.ELSE and depth == 0:
            skipping = True  # the other branch
            continue
        if not skipping:
            rest.append(op)
    return rest
