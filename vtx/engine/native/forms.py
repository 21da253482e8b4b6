"""Forms: what stays of an instruction's program when registers and numbers are taken out.

Everything that depends only on the instruction's bytes and its place is computed in Python
beforehand (a *known* value); general registers become numbered holes. What is left is a form,
and a few hundred forms cover all code. Nothing is compiled here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from vtx.engine.generate import expression
from vtx.engine.native.encoding import Encoding
from vtx.isa.layout import FLAG_SLOTS, GPR_NAMES, SLOTS
from vtx.isa.primitives import PURE, Prim
from vtx.isa.program import Op, Origin, Program, routine

GPR_SLOTS = frozenset(SLOTS[name] for name in GPR_NAMES)
SLOT, SIGNED32, ANY64 = "slot", "s", "q"
"""Kinds of holes besides the widths "8", "16", "32": a register's byte offset in the state, a
64-bit number that sign-extends from 32 bits, any other 64-bit number."""

HERE, BEHIND = 0, 1
"""Known values that every split program has first: the instruction's own offset in CS and the
next one's."""
Kinds = tuple[int | str, ...]
_WRAP = 0xFFFF_FFFF_FFFF_FFFF


class Form(NamedTuple):
    """A canonical program. Arguments below zero are holes: -1 is hole 0.

    GET and PUT of a general register name the hole of its slot in `attr`.
    """

    ops: tuple[Op, ...]
    variables: tuple[int, ...]
    holes: tuple[str, ...]
    """Kind of each hole."""
    resync: bool
    eager: bool
    """Flags are written to their slots: they are written one by one, or conditionally."""
    reads_flags: bool


@dataclass(frozen=True, slots=True)
class Canonical:
    """A form, and what an instruction puts into the holes."""

    form: Form
    fixed: tuple[int | None, ...]
    """Per hole its number where that is the same for every instruction of the head."""
    varying: tuple[int | None, ...]
    """Per hole the index of the known value that goes there."""


@dataclass(frozen=True)
class Split:
    """A program, split into what is known beforehand and the rest."""

    program: Program
    values: str
    """Text of a tuple: the known values that the rest uses, over `ip` and the fields of the
    encoding."""
    widths: tuple[int, ...]
    """Of the known values, in bits."""
    exact: bool
    """The program holds for these very bytes, not for others with the same head."""
    indexes: dict[int, int]
    """Known temporary -> index of its value."""
    constants: dict[int, int]
    residue: tuple[Op, ...]

    def canonical(self, kinds: Kinds) -> Canonical:
        """The form for known values of these kinds."""
        return _Canonical(self, kinds).result()


def kinds_of(values: Sequence[int], widths: Sequence[int]) -> Kinds:
    """What kinds of holes known values need."""
    return tuple(map(kind_of, values, widths))


def kind_of(value: int, width: int) -> int | str:
    """What kind of hole a known value needs; conditions are part of the form by their value."""
    if width == 64:
        return SIGNED32 if (value + 0x8000_0000) & _WRAP < 1 << 32 else ANY64
    return value if width == 1 else str(width)


def split(program: Program, encoding: Encoding | None, length: int, ip_mask: int) -> Split:
    """Split a program. Without an encoding all its numbers are constants."""
    texts: dict[int, str] = {}
    constants: dict[int, int] = {}
    residue: list[Op] = []
    exact = program.specialised or encoding is None
    for op in program.ops:
        if op.prim is Prim.CONST:
            source = _source(op, encoding)
            if source is not None:
                texts[op.dst[0]] = f"({source} & {(1 << op.width) - 1})"
            else:
                exact = exact or bool(op.operand_width)
                constants[op.dst[0]] = op.attr
        elif op.prim is Prim.IP:
            texts[op.dst[0]] = "ip"
        elif op.prim in PURE and _knowable(op, texts, constants):
            arguments = [texts.get(t) or str(constants[t]) for t in op.args]
            text = expression(op, arguments, lambda t: constants.get(t))
            texts[op.dst[0]] = f"({text})"
        else:
            residue.append(op)
    used = sorted({t for op in residue for t in op.args if t in texts})
    width_of = {op.dst[0]: op.width for op in program.ops if op.dst}
    parts = ["ip", f"(ip + {length}) & {ip_mask}", *(texts[t] for t in used)]
    return Split(
        program=program,
        values=f"({', '.join(parts)},)",
        widths=(64, 64, *(width_of[t] for t in used)),
        exact=exact,
        indexes={t: n + 2 for n, t in enumerate(used)},
        constants=constants,
        residue=tuple(residue),
    )


def _source(op: Op, encoding: Encoding | None) -> str | None:
    """How a constant is read from the instruction's bytes; None: it is not."""
    if not op.operand_width or encoding is None:
        return None
    return encoding.sources.get(Origin(op.operand_width))


VALUE_NAMES: dict[str, Any] = {f"PURE_{prim.name}": meaning for prim, meaning in PURE.items()}
"""What the text of known values refers to."""


def _knowable(op: Op, texts: dict[int, str], constants: dict[int, int]) -> bool:
    known = all(t in texts or t in constants for t in op.args)
    return known and any(t in texts for t in op.args)


class _Canonical:
    """Renumbers one program's residue for known values of given kinds."""

    def __init__(self, whole: Split, kinds: Kinds) -> None:
        self._whole, self._kinds = whole, kinds
        self._temps: dict[int, int] = {}
        self._ops: list[Op] = []
        self._holes: list[str] = []
        self._fixed: list[int | None] = []
        self._varying: list[int | None] = []
        self._hole_of: dict[tuple[str, int], int] = {}

    def result(self) -> Canonical:
        program = self._whole.program
        self._value_hole(HERE)
        self._value_hole(BEHIND)
        self._branch(self._whole.residue, 0)
        ops = tuple(self._ops)
        form = Form(
            ops, program.variables, tuple(self._holes), program.resync or program.alone,
            _writes_flags_singly(ops), _reads_flags(ops),
        )  # fmt: skip
        return Canonical(form, tuple(self._fixed), tuple(self._varying))

    # --- structure: an IF whose condition is known leaves only the branch that is taken ---------
    def _branch(self, ops: Sequence[Op], at: int, emit: bool = True) -> int:
        while at < len(ops):
            op = ops[at]
            if op.prim in (Prim.ELSE, Prim.END):
                return at
            if op.prim is Prim.IF:
                at = self._conditional(ops, at, emit)
            else:
                if emit:
                    self._op(op)
                at += 1
        return at

    def _conditional(self, ops: Sequence[Op], at: int, emit: bool) -> int:
        known = self._known_condition(ops[at].args[0])
        whole = emit and known is None
        if whole:
            self._op(ops[at])
        at = self._branch(ops, at + 1, emit and known is not False)
        if ops[at].prim is Prim.ELSE:
            if whole:
                self._ops.append(Op(Prim.ELSE))
            at = self._branch(ops, at + 1, emit and known is not True)
        if whole:
            self._ops.append(Op(Prim.END))
        return at + 1

    def _known_condition(self, temp: int) -> bool | None:
        constant = self._whole.constants.get(temp)
        if constant is not None:
            return bool(constant)
        index = self._whole.indexes.get(temp)
        return None if index is None else bool(self._kinds[index])

    # --- ops -------------------------------------------------------------------------------
    def _op(self, op: Op) -> None:
        args = tuple(self._argument(t) for t in op.args)
        attr = op.attr
        if op.prim in (Prim.GET, Prim.PUT) and attr in GPR_SLOTS:
            attr = -1 - self._slot_hole(attr)
        dst = tuple(self._define(t) for t in op.dst)
        self._ops.append(op._replace(dst=dst, args=args, attr=attr))

    def _define(self, temp: int) -> int:
        number = self._temps[temp] = len(self._temps)
        return number

    def _argument(self, temp: int) -> int:
        number = self._temps.get(temp)
        if number is not None:
            return number
        constant = self._whole.constants.get(temp)
        index = self._whole.indexes.get(temp)
        if constant is None:
            assert index is not None, "a temporary is defined, known or constant"
            kind = self._kinds[index]
            if isinstance(kind, str):
                return -1 - self._value_hole(index)
            constant = kind
        number = self._define(temp)
        width = self._width(temp)
        self._ops.append(Op(Prim.CONST, (number,), width, (), constant))
        del self._temps[temp]  # a constant is written again where another branch needs it
        self._temps[-1 - len(self._temps)] = number
        return number

    def _width(self, temp: int) -> int:
        return next(op.width for op in self._whole.program.ops if temp in op.dst)

    # --- holes -----------------------------------------------------------------------------
    def _slot_hole(self, slot: int) -> int:
        return self._hole(("slot", slot), SLOT, slot * 8, None)

    def _value_hole(self, index: int) -> int:
        kind = self._kinds[index]
        assert isinstance(kind, str)
        return self._hole(("value", index), kind, None, index)

    def _hole(self, name: tuple[str, int], kind: str, fixed: int | None, index: int | None) -> int:
        known = self._hole_of.get(name)
        if known is None:
            known = self._hole_of[name] = len(self._holes)
            self._holes.append(kind)
            self._fixed.append(fixed)
            self._varying.append(index)
        return known


def _writes_flags_singly(ops: Sequence[Op]) -> bool:
    """Some path writes flags that another does not, or a routine or slot access needs them."""
    depth = 0
    for op in ops:
        if op.prim is Prim.IF:
            depth += 1
        elif op.prim is Prim.END:
            depth -= 1
        elif op.prim is Prim.FLAGS:
            if depth:
                return True
        elif op.prim not in (Prim.COND, Prim.GET) and _touches(op):
            return True
    return False


def _reads_flags(ops: Sequence[Op]) -> bool:
    return any(
        op.prim is Prim.COND
        or (op.prim is Prim.GET and op.attr in FLAG_SLOTS)
        or (op.prim is Prim.FLAGS and op.attr[0] in ("inc", "dec"))
        for op in ops
    )


_touching: dict[str, bool] = {}


def touches_flags(name: str) -> bool:
    """A routine, or one it calls, reads or writes an arithmetic flag or asks a service."""
    known = _touching.get(name)
    if known is None:
        _touching[name] = False  # a routine does not call itself; this only stops a mistake
        known = _touching[name] = any(_touches(op) for op in routine(name).ops)
    return known


def _touches(op: Op) -> bool:
    if op.prim in (Prim.GET, Prim.PUT):
        return op.attr in FLAG_SLOTS
    if op.prim is Prim.CALL:
        return touches_flags(op.attr)
    return op.prim in (Prim.FLAGS, Prim.COND, Prim.SERVICE)
