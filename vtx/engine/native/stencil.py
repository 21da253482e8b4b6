"""The text of stencils: one function per form, with holes, that goes on at the next one.

Everything live is passed on in registers: the state, the budget, the lazy flags and the
translations. How stencils are put together is `blocks`' business.
"""

from vtx.engine.native.context import (
    CONTEXT,
    JUMP_CACHE_ENTRIES,
    LEFT_AFTER_STORE,
    LEFT_BY_MEMORY,
    LEFT_MISS,
    LEFT_RESYNC,
)
from vtx.engine.native.flag_values import (
    FLAG_NAMES,
    IN_SLOTS,
    KEEPS_CARRY,
    KIND_NUMBERS,
    condition_of,
    flags_of,
    operand_widths,
)
from vtx.engine.native.forms import ANY64, BEHIND, HERE, SIGNED32, SLOT, Form
from vtx.engine.native.helpers import DECLARATIONS as HELPERS
from vtx.engine.native.lower import Body
from vtx.isa.layout import FLAG_SLOTS, SLOT_NAMES, SLOTS
from vtx.isa.primitives import Prim
from vtx.isa.program import Op

PINNED = "ptr %s, i64 %bud, i64 %fk, i64 %f0, i64 %f1, i64 %f2, ptr %t"
PARAMETERS = f"{PINNED}, i64 %status, i64 %rip"
"""Every function that tail-calls another has the same parameters (LLVM asks for it); the last
two mean something only to `leave`."""
TYPES = "ptr, i64, i64, i64, i64, i64, ptr, i64, i64"
ATTRIBUTES = 'nounwind noimplicitfloat "no-jump-tables"="true"'
"""Of every stencil: its code has to stand alone, without tables or vector constants."""
UNUSED = "i64 undef, i64 undef"
"""What stands for the last two parameters elsewhere."""
_RANGES = {
    SLOT: "!{i64 0, i64 65536}", SIGNED32: "!{i64 -2147483648, i64 2147483648}",
    ANY64: "!{i64 -1, i64 -1}", "8": "!{i64 0, i64 2147483648}", "16": "!{i64 0, i64 2147483648}",
    "32": "!{i64 -1, i64 -1}",
}  # fmt: skip
_LARGE = frozenset({ANY64, "32"})
"""Kinds of holes whose numbers do not fit a sign-extended doubleword."""

DECLARATIONS = f"""{HELPERS}
declare dso_local preserve_nonecc i64 @leave({TYPES})
declare dso_local void @materialise(ptr, i64, i64, i64, i64)
declare dso_local preserve_mostcc ptr @slow_load(ptr, i64, i64) cold
declare dso_local preserve_mostcc i64 @slow_store(ptr, i64, i64, i64) cold
declare dso_local preserve_mostcc i64 @slow_probe(ptr, i64, i64) cold
declare dso_local i64 @physical_load(ptr, i64, i64)
declare dso_local void @physical_store(ptr, i64, i64, i64)
declare dso_local i64 @walk_load(ptr, i64, i64, i64)
declare dso_local i64 @context(ptr)
declare dso_local i64 @flush_tlb(ptr)
declare dso_local i64 @answer_cpuid(ptr)
declare dso_local void @service(ptr, i64, i64)
"""


class StencilBody(Body):
    """One form. `known` is the kind of flags it is entered with, None if that is not known."""

    def __init__(self, form: Form, known: int | None) -> None:
        super().__init__(form.variables)
        self._form = form
        self._kind = known
        self._kind_text = "%fk"
        self._operands = ["%f0", "%f1", "%f2"]
        self._flags: dict[str, str] = {}
        self.continuations: list[tuple[str, int]] = []
        """(symbol, hole of the target), in order; the one behind the instruction is C0."""
        self.stores = any(op.prim is Prim.STORE for op in form.ops)

    # --- the function ----------------------------------------------------------------------
    def text(self, name: str) -> str:
        """The function's definition."""
        if self.stores:
            self._left = self.cell(64)
            self.line(f"store i64 0, ptr {self._left}")
        self.keep_translations(self._form.ops)
        if self._form.eager or (self._form.reads_flags and self._kind is None):
            self._materialise()
        self.write(self._form.ops)
        head = f"define dso_local preserve_nonecc i64 @{name}({PARAMETERS}) {ATTRIBUTES} {{"
        return "\n".join([head, *self.function_lines(), "}"])

    def passed(self, budget: str = "%bud") -> str:
        f0, f1, f2 = self._operands
        return f"ptr %s, i64 {budget}, i64 {self._kind_text}, i64 {f0}, i64 {f1}, i64 {f2}, ptr %t"

    def hole(self, number: int) -> str:
        """A hole as a 64-bit constant."""
        return f"ptrtoint (ptr @{hole_symbol(number, self._form.holes[number])} to i64)"

    @property
    def writes_flags(self) -> bool:
        """It leaves flags of another kind than it may be entered with."""
        return any(op.prim is Prim.FLAGS for op in self._form.ops)

    @property
    def flags_out(self) -> int | None:
        """The kind of flags it leaves, None where that is the kind it was entered with."""
        return self._kind

    # --- arguments that are holes --------------------------------------------------------------
    def value(self, temp: int) -> str:
        if temp >= 0:
            return super().value(temp)
        return self.resized(self.hole(-1 - temp), 64, self.width(temp))

    def width(self, temp: int) -> int:
        if temp >= 0:
            return super().width(temp)
        kind = self._form.holes[-1 - temp]
        return 64 if kind in (SIGNED32, ANY64) else int(kind)

    def slot(self, attr: int) -> str:
        if attr < 0:
            return self.add(f"getelementptr i8, ptr %s, i64 {self.hole(-1 - attr)}")
        return super().slot(attr)

    def place(self, label: str) -> None:
        super().place(label)
        self._flags = {}  # what was computed on one way is not known on the other

    # --- flags -----------------------------------------------------------------------------
    def _materialise(self) -> None:
        """Put the flags into their slots, if they are not there."""
        if self._kind == IN_SLOTS:
            return
        if self._kind is None:
            lazy, done = self.label(), self.label()
            self.branch(self.add(f"icmp eq i64 {self._kind_text}, 0"), done, lazy)
            self.place(lazy)
            f0, f1, f2 = self._operands
            arguments = f"ptr %s, i64 {self._kind_text}, i64 {f0}, i64 {f1}, i64 {f2}"
            self.line(f"call void @materialise({arguments})")
            self.line(f"br label %{done}")
            self.place(done)
        else:
            for name in FLAG_NAMES:
                value = self.resized(self._flag(name), 1, 64)
                self.line(f"store i64 {value}, ptr {self.word(SLOTS[name])}")
        self._set_kind(IN_SLOTS, ["0", "0", "0"])

    def write_flags_of(self, kind: int) -> None:
        """Put the flags of the operands the function was given into their slots."""
        self._set_kind(kind, ["%f0", "%f1", "%f2"])
        self._materialise()

    def _set_kind(self, kind: int, operands: list[str]) -> None:
        self._kind, self._kind_text, self._operands = kind, str(kind), operands
        self._flags = {}

    def _flag(self, name: str) -> str:
        """One flag as an i1."""
        if self._kind == IN_SLOTS:
            return self.resized(self.get_word(SLOTS[name]), 64, 1)
        known = self._flags.get(name)
        if known is None:
            self._compute_flags()
            known = self._flags[name]
        return known

    def _compute_flags(self) -> None:
        assert self._kind
        fragment = flags_of(self._kind)
        inputs = [
            self.resized(text, 64, width)
            for text, width in zip(self._operands, operand_widths(self._kind), strict=False)
        ]
        values = self._fragment(fragment.ops, inputs)
        self._flags = {name: values[temp] for name, temp in fragment.results.items()}

    def _fragment(self, ops: tuple[Op, ...], inputs: list[str]) -> dict[int, str]:
        """Write ops over `inputs`; their values by temporary."""
        outer = self._names, self._widths
        self._names, self._widths = dict(enumerate(inputs)), {}
        self.write(ops)
        values = self._names
        self._names, self._widths = outer
        return values

    def _op_flags(self, op: Op) -> None:
        kind, widths = op.attr
        operands = [
            self.resized(self.value(t), width, 64) for t, width in zip(op.args, widths, strict=True)
        ]
        if kind in KEEPS_CARRY:
            operands.append(self.resized(self._flag("cf"), 1, 64))
        operands += ["0"] * (3 - len(operands))
        self._set_kind(KIND_NUMBERS[(kind, widths[0])], operands)
        if self._form.eager:
            self._materialise()

    def _op_cond(self, op: Op) -> None:
        fragment = condition_of(op.attr)
        values = self._fragment(fragment.ops, [self._flag(name) for name in FLAG_NAMES])
        self.define(op.dst[0], values[fragment.results[""]], 1)

    def _op_get(self, op: Op) -> None:
        if op.attr in FLAG_SLOTS and self._kind != IN_SLOTS:
            self.define(
                op.dst[0], self.resized(self._flag(SLOT_NAMES[op.attr]), 1, op.width), op.width
            )
        else:
            super()._op_get(op)

    # --- leaving ---------------------------------------------------------------------------
    def exact_budget(self) -> str:
        return self.add("add i64 %bud, ptrtoint (ptr @BACK_slot to i64)")

    def abandon(self, status: str = str(LEFT_BY_MEMORY)) -> None:
        self._leave(status, self.hole(HERE), self.exact_budget())

    def _leave(self, status: str, rip: str, budget: str) -> None:
        result = self.add(
            f"musttail call preserve_nonecc i64 @leave({self.passed(budget)}, "
            f"i64 {status}, i64 {rip})"
        )
        self.line(f"ret i64 {result}")
        self.ended = True

    def stored_slowly(self, status: str) -> None:
        # Any store of an instruction may ask to leave: PUSHA's first push, say, not its last.
        asked = self.add(f"load i64, ptr {self._left}")
        self.line(f"store i64 {self.add(f'or i64 {asked}, {status}')}, ptr {self._left}")

    def _completed(self) -> str:
        """The budget behind this instruction."""
        return self.add(f"sub i64 {self.exact_budget()}, 1")

    def _leave_behind_store(self, rip: str) -> None:
        """Leave if a slow store asked for it."""
        leave, onward = self.label(), self.label()
        left = self.add(f"load i64, ptr {self._left}")
        self.branch(self.add(f"icmp eq i64 {left}, 0"), onward, leave, "!prof !0")
        self.place(leave)
        self._leave(str(LEFT_AFTER_STORE), rip, self._completed())
        self.place(onward)

    def _op_next(self, op: Op) -> None:
        self._complete(self.hole(BEHIND), BEHIND)

    def _op_jump(self, op: Op) -> None:
        target = op.args[0]
        if target < 0:
            self._complete(self.hole(-1 - target), -1 - target)
        else:
            self._complete(self.value(target), None)

    def _complete(self, rip: str, target_hole: int | None) -> None:
        if self.stores:
            self._leave_behind_store(rip)
        if self._form.resync:
            self._leave(str(LEFT_RESYNC), rip, self._completed())
        elif target_hole is None:
            self.jump_through_cache(rip)
        else:
            self._go_on(self._continuation(target_hole))

    def _continuation(self, hole: int) -> str:
        for symbol, known in self.continuations:
            if known == hole:
                return symbol
        symbol = "NEXT" if hole == BEHIND else f"J{len(self.continuations)}"
        self.continuations.append((symbol, hole))
        return symbol

    def _go_on(self, symbol: str) -> None:
        arguments = f"{self.passed()}, {UNUSED}"
        result = self.add(f"musttail call preserve_nonecc i64 @{symbol}({arguments})")
        self.line(f"ret i64 {result}")
        self.ended = True

    def jump_through_cache(self, rip: str) -> None:
        """Go on at a computed target, if the table of block entries knows it."""
        hit, miss = self.label(), self.label()
        cache = self.get_word(CONTEXT["jump_cache"])
        folded = self.add(f"lshr i64 {rip}, 12")
        index = self.add(f"xor i64 {folded}, {rip}")
        index = self.add(f"and i64 {index}, {JUMP_CACHE_ENTRIES - 1}")
        index = self.add(f"shl i64 {index}, 4")
        base = self.add(f"inttoptr i64 {cache} to ptr")
        entry = self.add(f"getelementptr i8, ptr {base}, i64 {index}")
        known = self.add(f"load i64, ptr {entry}")
        self.branch(self.add(f"icmp eq i64 {known}, {rip}"), hit, miss, "!prof !0")
        self.place(hit)
        field = self.add(f"getelementptr i8, ptr {entry}, i64 8")
        code = self.add(f"load ptr, ptr {field}")
        result = self.add(f"musttail call preserve_nonecc i64 {code}({self.passed()}, {UNUSED})")
        self.line(f"ret i64 {result}")
        self.place(miss)
        self.set_word(CONTEXT["link"], "0")
        self._leave(str(LEFT_MISS), rip, self.add("add i64 %bud, 0"))


def hole_symbol(number: int, kind: str) -> str:
    """The name of a hole; its kind is part of it, since it decides how code refers to it."""
    return f"H{number}_{kind}"


def module_head(holes: set[tuple[str, str]], continuations: set[str], *, far: bool = False) -> str:
    """Declarations of holes (name, kind) and continuations for a module of stencils.

    `far`: no number is near the code, not even one that would fit its field.
    """
    lines = [DECLARATIONS]
    for name, kind in sorted(holes):
        model = 'code_model "large", ' if (far and kind != SLOT) or kind in _LARGE else ""
        number = list(_RANGES).index(kind) + 10
        lines.append(
            f"@{name} = external dso_local global i8, {model}!absolute_symbol !{number}"
            if not model
            else f'@{name} = external dso_local global i8, code_model "large", '
            f"!absolute_symbol !{number}"
        )
    for symbol in sorted(continuations):
        lines.append(f"declare dso_local preserve_nonecc i64 @{symbol}({TYPES})")
    for number, text in enumerate(_RANGES.values(), 10):
        lines.append(f"!{number} = {text}")
    return "\n".join(lines)
