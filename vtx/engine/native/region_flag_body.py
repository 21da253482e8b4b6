"""The flags of a region as text: how instructions write, read and hand them over.

What is known of the flags at a place is `region_flags`' business, what an instruction does
besides is `region_body`'s. Flags live in cells between blocks, which become SSA values.
"""

from vtx.engine.native.flag_values import (
    FLAG_NAMES,
    IN_SLOTS,
    KEEPS_CARRY,
    KIND_NUMBERS,
    LAZY,
    condition_of,
    flags_of,
    operand_widths,
)
from vtx.engine.native.lower import Body
from vtx.engine.native.region_conditions import DERIVED, comparison, derivation
from vtx.engine.native.region_flags import FLAGS_OF, Known
from vtx.isa.flags import POSITIVE_OF
from vtx.isa.layout import FLAG_SLOTS, SLOT_NAMES, SLOTS
from vtx.isa.program import Op

_IN_PLACE = "in place"
"""Beside the computed flags: all flags of the kind stand in their slots."""


class FlagBody(Body):
    """Writes what is done with flags. They are of one kind at every place of the text."""

    def __init__(self) -> None:
        super().__init__(())
        self._kind: int | None = None
        self._kind_text = "%fk"
        self._operands: list[str] = []
        """Of the kind's own widths; of 64 bits where the kind is not known. "" is derived."""
        self._single: dict[str, str] = {}
        self._computed: dict[str, str] = {}
        self._in_branches = False
        """The flags stand in their cells, since branches write them differently."""
        self.cells += [f"  %one_{name} = alloca i1" for name in FLAG_NAMES]
        self.cells += [f"  %lazy{n} = alloca i64" for n in range(4)]

    def place(self, label: str) -> None:
        super().place(label)
        self._computed = {}  # what was computed on one way is not known on the other

    def _enter_flags(self, known: Known) -> None:
        """Take the flags from their cells, at the entry of a block."""
        self._kind, self._computed = known.kind, {}
        if known.kind is None:
            self._kind_text = self.add("load i64, ptr %lazy0")
            widths: tuple[int, ...] = (64, 64, 64)
        else:
            self._kind_text = str(known.kind)
            widths = operand_widths(known.kind) if known.kind else ()
        self._operands = []
        for n, width in enumerate(widths[:3]):
            wide = self.add(f"load i64, ptr %lazy{n + 1}")
            self._operands.append(self.resized(wide, 64, width))
        self._derive_later()
        self._single = {
            name: self.add(f"load i1, ptr %one_{name}")
            for name in FLAG_NAMES
            if name in known.single
        }

    def _hand_over_flags(self, known: Known) -> None:
        """Put the flags into the cells as a block with this entry expects them."""
        # Single flags first: to compute one may take the operands that are replaced below.
        values = {name: self._flag(name) for name in FLAG_NAMES if name in known.single}
        operands = self._wide_operands(known.kind is None)
        for name, value in values.items():
            self.line(f"store i1 {value}, ptr %one_{name}")
        if known.kind is None:
            self.line(f"store i64 {self._kind_text}, ptr %lazy0")
        for n, operand in enumerate(operands):
            if operand:
                self.line(f"store i64 {operand}, ptr %lazy{n + 1}")

    def _derive_later(self) -> None:
        """Forget the operand that follows from the others."""
        n = DERIVED.get(LAZY[self._kind - 1][0]) if self._kind else None
        if n is not None:
            self._operands[n] = ""

    def _operand(self, number: int) -> str:
        """An operand of a known kind."""
        assert self._kind
        return self._operands[number] or self.add(derivation(self._kind, self._operands))

    def _all_operands(self) -> list[str]:
        return [self._operand(n) for n in range(len(self._operands))]

    def _wide_operands(self, derived: bool = True) -> list[str]:
        """The operands as 64 bits; the derived one is "" unless it is wanted."""
        if self._kind is None:
            return self._operands
        if self._kind == IN_SLOTS:
            return ["0"] * 3
        operands = [
            self.resized(text, width, 64) if text else ""
            for text, width in zip(
                self._all_operands() if derived else self._operands,
                operand_widths(self._kind),
                strict=False,
            )
        ]
        return operands + ["0"] * (3 - len(operands))

    def _set_kind(self, kind: int, operands: list[str]) -> None:
        self._kind, self._kind_text, self._operands = kind, str(kind), operands
        self._derive_later()
        self._computed = {}

    def _flag(self, name: str) -> str:
        """One flag as an i1."""
        if self._in_branches:
            return self.add(f"load i1, ptr %one_{name}")
        single = self._single.get(name)
        if single is not None:
            return single
        if self._kind is None or self._kind == IN_SLOTS:
            return self._flag_at_run_time(name)
        known = self._computed.get(name)
        if known is None:
            known = self._computed[name] = self._compute_flag(name)
        return known

    def _flag_at_run_time(self, name: str) -> str:
        """A flag of a kind that only the running code knows."""
        if self._kind is None and not self._computed.get(_IN_PLACE):
            f0, f1, f2 = self._operands
            arguments = f"ptr %s, i64 {self._kind_text}, i64 {f0}, i64 {f1}, i64 {f2}"
            self.line(f"call void @materialise({arguments})")
            self._computed[_IN_PLACE] = "true"
        return self.resized(self.get_word(SLOTS[name]), 64, 1)

    def _compute_flag(self, name: str) -> str:
        assert self._kind
        code = {"zf": "e", "cf": "b", "sf": "s"}.get(name)
        short = self._comparison(code) if code else None
        if short is not None:
            return short
        return self._flags_from(self._kind, self._all_operands(), (name,))[name]

    def _comparison(self, code: str) -> str | None:
        """A condition over a known kind as one comparison, if there is one."""
        assert self._kind
        text = comparison(code, self._kind, self._operand)
        return None if text is None else self.add(text)

    def _flags_from(self, kind: int, operands: list[str], names: tuple[str, ...]) -> dict[str, str]:
        """Flags by the definition of their kind."""
        fragment = flags_of(kind)
        wanted = {fragment.results[name] for name in names}
        ops = []
        for op in reversed(fragment.ops):  # only what these flags come from
            if wanted & set(op.dst):
                ops.append(op)
                wanted |= set(op.args)
        values = self._fragment(tuple(reversed(ops)), operands)
        return {name: values[fragment.results[name]] for name in names}

    def _fragment(self, ops: tuple[Op, ...], inputs: list[str]) -> dict[int, str]:
        """Write ops over `inputs`; their values by temporary."""
        outer = self._names, self._widths
        self._names, self._widths = dict(enumerate(inputs)), {}
        self.write(ops)
        values = self._names
        self._names, self._widths = outer
        return values

    def _spread_flags(self) -> None:
        """Put every flag into its cell, for an instruction whose branches write some."""
        for name, value in {name: self._flag(name) for name in FLAG_NAMES}.items():
            self.line(f"store i1 {value}, ptr %one_{name}")
        self._set_kind(IN_SLOTS, [])
        self._single = {}
        self._in_branches = True

    def _op_flags(self, op: Op) -> None:
        name, widths = op.attr
        kind = KIND_NUMBERS[(name, widths[0])]
        operands = [self.value(t) for t in op.args]
        if self._in_branches:
            kept = {"cf"} if name in KEEPS_CARRY else set()
            written = tuple(n for n in FLAG_NAMES if n not in kept)
            for flag, value in self._flags_from(kind, operands, written).items():
                self.line(f"store i1 {value}, ptr %one_{flag}")
            return
        self._single = {"cf": self._flag("cf")} if name in KEEPS_CARRY else {}
        if name in KEEPS_CARRY:
            operands.append("false")
        self._set_kind(kind, operands)

    def _op_cond(self, op: Op) -> None:
        text = self._short_condition(op.attr)
        if text is None:
            fragment = condition_of(op.attr)
            needed = FLAGS_OF[POSITIVE_OF.get(op.attr, op.attr)]
            inputs = [self._flag(name) if name in needed else "false" for name in FLAG_NAMES]
            text = self._fragment(fragment.ops, inputs)[fragment.results[""]]
        self.define(op.dst[0], text, 1)

    def _short_condition(self, code: str) -> str | None:
        needed = FLAGS_OF[POSITIVE_OF.get(code, code)]
        if not self._kind or self._in_branches or needed & self._single.keys():
            return None
        return self._comparison(code)

    def _op_get(self, op: Op) -> None:
        if op.attr in FLAG_SLOTS:
            flag = self._flag(SLOT_NAMES[op.attr])
            self.define(op.dst[0], self.resized(flag, 1, op.width), op.width)
        else:
            super()._op_get(op)

    def _op_put(self, op: Op) -> None:
        if op.attr not in FLAG_SLOTS:
            super()._op_put(op)
            return
        name = SLOT_NAMES[op.attr]
        value = self.resized(self.value(op.args[0]), self.width(op.args[0]), 1)
        if self._in_branches:
            self.line(f"store i1 {value}, ptr %one_{name}")
        else:
            self._single[name] = value
