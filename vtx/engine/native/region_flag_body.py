"""The flags of a region as text: how instructions write, read and hand them over.

What is known of the flags at a place is `region_flags`' business, what an instruction does
besides is `region_body`'s. Flags live in cells between blocks, which become SSA values.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

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
from vtx.engine.native.region_conditions import DERIVED, comparison, derivation
from vtx.engine.native.region_flags import FLAGS_OF, Known
from vtx.engine.native.region_values import Lazy, Text, ValueBody
from vtx.isa.flags import POSITIVE_OF
from vtx.isa.layout import FLAG_SLOTS, SLOT_NAMES, SLOTS
from vtx.isa.program import Op


@dataclass(eq=False, slots=True)
class Flags:
    """The flags at a place."""

    kind: int | None
    """None: only the running code knows."""
    kind_text: str
    operands: list[Text]
    """Of the kind's own widths; of 64 bits where the kind is not known."""
    single: dict[str, Text] = field(default_factory=dict)
    """Flags that stand by themselves."""
    computed: dict[str, Lazy] = field(default_factory=dict)


class FlagBody(ValueBody):
    """Writes what is done with flags."""

    def __init__(self) -> None:
        super().__init__()
        self._flags = Flags(None, "%fk", ["%f0", "%f1", "%f2"])
        self._in_branches = False
        """The flags stand in their cells, since branches write them differently."""
        self.cells += [f"  %one_{name} = alloca i1" for name in FLAG_NAMES]
        self.cells += [f"  %lazy{n} = alloca i64" for n in range(4)]

    # --- from block to block -------------------------------------------------------------------
    def _enter_flags(self, known: Known) -> None:
        """Take the flags from their cells, at the entry of a block."""
        loaded = [self.add(f"load i64, ptr %lazy{n}") for n in range(4)]
        if known.kind is None:
            self._flags = Flags(None, loaded[0], list[Text](loaded[1:]))
        elif known.kind == IN_SLOTS:
            self._flags = Flags(IN_SLOTS, "0", [])
        else:
            operands: list[Text] = [
                self.resized(text, 64, width)
                for text, width in zip(loaded[1:], operand_widths(known.kind), strict=False)
            ]
            self._flags = self._flags_of_kind(known.kind, operands)
        for name in sorted(known.single):
            self._flags.single[name] = self.add(f"load i1, ptr %one_{name}")

    def _hand_over_flags(self, known: Known) -> None:
        """Put the flags into the cells as a block with this entry expects them."""
        values = {name: self._flag(name) for name in sorted(known.single)}
        operands = self._wide_operands(known.kind is None)
        for name, value in values.items():
            self.line(f"store i1 {value}, ptr %one_{name}")
        if known.kind is None:
            self.line(f"store i64 {self._flags.kind_text}, ptr %lazy0")
        for n, operand in operands.items():
            self.line(f"store i64 {operand}, ptr %lazy{n + 1}")

    def _flags_of_kind(self, kind: int, operands: list[Text]) -> Flags:
        """Flags of a known kind; the operand that follows from the others waits until asked for."""
        flags = Flags(kind, str(kind), operands)
        n = DERIVED.get(LAZY[kind - 1][0])
        if n is not None:
            operands[n] = Lazy(lambda: self.add(derivation(kind, self._operand_of(flags))))
        return flags

    def _operand_of(self, flags: Flags) -> "_Operands":
        return _Operands(self, flags)

    def _wide_operands(self, derived: bool = True) -> dict[int, str]:
        """Operand number -> the operand as 64 bits; the derived one only if it is wanted."""
        flags = self._flags
        if flags.kind is None:
            return {n: self.text_of(text) for n, text in enumerate(flags.operands)}
        wide = dict.fromkeys(range(3), "0")
        if flags.kind == IN_SLOTS:
            return wide
        without = None if derived else DERIVED.get(LAZY[flags.kind - 1][0])
        for n, width in enumerate(operand_widths(flags.kind)[: len(flags.operands)]):
            if n != without:
                wide[n] = self.resized(self.text_of(flags.operands[n]), width, 64)
        if without is not None:
            del wide[without]
        return wide

    # --- reading -----------------------------------------------------------------------------
    def _flag(self, name: str) -> str:
        """One flag as an i1."""
        if self._in_branches:
            return self.add(f"load i1, ptr %one_{name}")
        return self._flag_of(self._flags, name)

    def _flag_of(self, flags: Flags, name: str) -> str:
        single = flags.single.get(name)
        if single is not None:
            return self.text_of(single)
        if not flags.kind:
            return self._flag_at_run_time(flags, name)
        known = flags.computed.get(name)
        if known is None:
            known = flags.computed[name] = Lazy(lambda: self._compute_flag(flags, name))
        return self.text_of(known)

    def _flag_at_run_time(self, flags: Flags, name: str) -> str:
        """A flag of a kind that only the running code knows."""
        if flags.kind is None:
            f0, f1, f2 = (self.text_of(text) for text in flags.operands)
            arguments = f"ptr %s, i64 {flags.kind_text}, i64 {f0}, i64 {f1}, i64 {f2}"
            self.line(f"call void @materialise({arguments})")
        return self.resized(self.get_word(SLOTS[name]), 64, 1)

    def _compute_flag(self, flags: Flags, name: str) -> str:
        assert flags.kind
        code = {"zf": "e", "cf": "b", "sf": "s"}.get(name)
        short = comparison(code, flags.kind, self._operand_of(flags)) if code else None
        if short is not None:
            return self.add(short)
        return self.text_of(self._defined_flags(flags.kind, flags.operands)[name])

    def _defined_flags(self, kind: int, operands: Sequence[Text]) -> dict[str, Text]:
        """All flags by the definition of their kind. CF of a kind that keeps it is not among
        them, unless there is an operand that says what it was."""
        fragment = flags_of(kind)
        values = self.fragment(fragment.ops, operands)
        return {name: values[t] for name, t in fragment.results.items() if t in values}

    def _op_cond(self, op: Op) -> None:
        needed = FLAGS_OF[POSITIVE_OF.get(op.attr, op.attr)]
        flags, text = self._flags, None
        if flags.kind and not self._in_branches and not needed & flags.single.keys():
            text = comparison(op.attr, flags.kind, self._operand_of(flags))
        if text is not None:
            self.define(op.dst[0], self.add(text), 1)
            return
        fragment = condition_of(op.attr)
        inputs = [self._flag(name) if name in needed else "false" for name in FLAG_NAMES]
        value = self.fragment(fragment.ops, inputs)[fragment.results[""]]
        self.define(op.dst[0], self.text_of(value), 1)

    def _op_get(self, op: Op) -> None:
        if op.attr in FLAG_SLOTS:
            flag = self._flag(SLOT_NAMES[op.attr])
            self.define(op.dst[0], self.resized(flag, 1, op.width), op.width)
        else:
            super()._op_get(op)

    # --- writing -----------------------------------------------------------------------------
    def _spread_flags(self) -> None:
        """Put every flag into its cell, for an instruction whose branches write some."""
        for name, value in {name: self._flag(name) for name in FLAG_NAMES}.items():
            self.line(f"store i1 {value}, ptr %one_{name}")
        self._flags = Flags(IN_SLOTS, "0", [])
        self._in_branches = True

    def _gather_flags(self) -> None:
        """Take the flags from where `_spread_flags` put them, behind the instruction."""
        if self._in_branches and not self.ended:
            self._flags.single = {name: self._flag(name) for name in FLAG_NAMES}
        self._in_branches = False

    def _op_flags(self, op: Op) -> None:
        name, widths = op.attr
        kind = KIND_NUMBERS[(name, widths[0])]
        operands = [self.later(temp) for temp in op.args]
        if self._in_branches:
            for flag, value in self._defined_flags(kind, operands).items():
                self.line(f"store i1 {self.text_of(value)}, ptr %one_{flag}")
            return
        before = self._flags
        if name in KEEPS_CARRY:
            operands.append("false")  # CF stands by itself
        self._flags = self._flags_of_kind(kind, operands)
        if name in KEEPS_CARRY:
            self._flags.single["cf"] = Lazy(lambda: self._flag_of(before, "cf"))

    def _op_put(self, op: Op) -> None:
        if op.attr not in FLAG_SLOTS:
            super()._op_put(op)
            return
        name, temp = SLOT_NAMES[op.attr], op.args[0]
        if self._in_branches:
            value = self.resized(self.value(temp), self.width(temp), 1)
            self.line(f"store i1 {value}, ptr %one_{name}")
            return
        narrow = self.later(temp)
        if self.width(temp) != 1:
            narrow = self.resized(self.text_of(narrow), self.width(temp), 1)
        before = self._flags
        self._flags = Flags(before.kind, before.kind_text, before.operands, dict(before.single),
                            before.computed)  # fmt: skip
        self._flags.single[name] = narrow


@dataclass(frozen=True, slots=True)
class _Operands:
    """The operands of flags by number, written when they are asked for."""

    body: FlagBody
    flags: Flags

    def __call__(self, number: int) -> str:
        return self.body.text_of(self.flags.operands[number])
