"""The quick path of the reference engine: programs written out as Python source.

A block of instructions becomes one function without arguments that returns how it ended; a
routine becomes a function of its arguments that returns its results, or None. The source
refers to names of a namespace made per CPU (`engine.namespace`), so compiled code is shared.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import CodeType

from vtx.engine.optimise import drop_dead
from vtx.isa.flags import lower
from vtx.isa.layout import FLAG_SLOTS, SLOTS
from vtx.isa.primitives import COMPARISONS, DIVIDES_FIT, PURE, Prim
from vtx.isa.program import Access, Op, Program
from vtx.machine.tlb import PRIVILEGES

RIP, RETIRED = SLOTS["rip"], SLOTS["retired"]
_PRIVILEGE = {privilege: n for n, privilege in enumerate(PRIVILEGES)}


def mask(width: int) -> int:
    return (1 << width) - 1


@dataclass
class Step:
    """One instruction of a block: its program, where it starts in the block, its length."""

    program: Program
    offset: int
    length: int


def compile_block(steps: Sequence[Step], ip_mask: int, name: str) -> CodeType:
    """Code object that defines `block()` for consecutive instructions."""
    lists = drop_dead([lower(step.program).ops for step in steps])
    writer = _Writer(ip_mask=ip_mask)
    writer.line("def block():")
    writer.depth = 1
    writer.line(f"ip = S[{RIP}]")
    if any(op.prim is Prim.STORE for ops in lists[:-1] for op in ops):
        writer.line("left = 0")
    base = 0
    for index, (step, ops) in enumerate(zip(steps, lists, strict=True)):
        writer.begin(step, index, base, last=index == len(steps) - 1)
        writer.body(ops)
        base += lower(step.program).temps
    return compile(writer.source(), name, "exec")


def compile_routine(program: Program) -> CodeType:
    """Code object that defines `routine(a0, a1, ...)`."""
    lowered = lower(program)
    writer = _Writer(routine=True)
    writer.line(f"def routine({', '.join(f't{n}' for n in range(len(program.params)))}):")
    writer.depth = 1
    writer.body(drop_dead([lowered.ops])[0])
    return compile(writer.source(), f"<routine {program.name}>", "exec")


@dataclass
class _Writer:
    """Source of one function, line by line."""

    routine: bool = False
    ip_mask: int = 0
    depth: int = 0
    lines: list[str] = field(default_factory=list)
    offset: int = 0
    length: int = 0
    index: int = 0
    base: int = 0
    last: bool = True
    stored: bool = False
    constants: dict[int, int] = field(default_factory=dict)

    def line(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)

    def source(self) -> str:
        return "\n".join(self.lines) + "\n"

    def begin(self, step: Step, index: int, base: int, *, last: bool) -> None:
        """Start the next instruction of the block."""
        self.offset, self.length, self.index = step.offset, step.length, index
        self.base, self.last, self.stored = base, last, False
        self.constants.clear()

    def body(self, ops: Sequence[Op]) -> None:
        for position, op in enumerate(ops):
            if op.prim is Prim.CONST:
                self.constants[op.dst[0]] = op.attr
            elif op.prim is Prim.IF:
                self.line(f"if {self.value(op.args[0])}:")
                self.depth += 1
                if ops[position + 1].prim in (Prim.ELSE, Prim.END):
                    self.line("pass")
            elif op.prim is Prim.ELSE:
                self.depth -= 1
                self.line("else:")
                self.depth += 1
                if ops[position + 1].prim is Prim.END:
                    self.line("pass")
            elif op.prim is Prim.END:
                self.line("pass")
                self.depth -= 1
            elif op.prim in PURE:
                self.assign(op, expression(op, [self.value(t) for t in op.args], self.number))
            else:
                _WRITERS[op.prim](self, op)

    # --- names -------------------------------------------------------------------------------
    def number(self, temp: int) -> int | None:
        return self.constants.get(temp)

    def name(self, temp: int) -> str:
        return f"t{temp + self.base}"

    def value(self, temp: int) -> str:
        known = self.constants.get(temp)
        return self.name(temp) if known is None else str(known)

    def arguments(self, op: Op) -> str:
        return ", ".join(self.value(t) for t in op.args)

    def assign(self, op: Op, text: str) -> None:
        self.line(f"{self.name(op.dst[0])} = {text}")

    # --- leaving -----------------------------------------------------------------------------
    @property
    def here(self) -> str:
        """RIP of the present instruction."""
        return f"(ip + {self.offset}) & {self.ip_mask}" if self.offset else "ip"

    @property
    def behind(self) -> str:
        return f"(ip + {self.offset + self.length}) & {self.ip_mask}"

    @property
    def abandon(self) -> str:
        """Statement that ends the program where something faulted."""
        return "return None" if self.routine else f"return leave({self.here}, {self.index})"

    def complete(self, rip: str) -> None:
        self.line(f"S[{RIP}] = {rip}")
        self.line(f"S[{RETIRED}] += {self.index + 1}")
        self.line("return 0")


# --- pure expressions ------------------------------------------------------------------------

Number = Callable[[int], int | None]


def expression(op: Op, a: list[str], number: Number) -> str:
    """Python expression of a pure op over the argument texts `a`."""
    width = op.width
    source = op.operand_width or width
    top, ones = 1 << (source - 1), mask(width)
    infix = _INFIX.get(op.prim)
    if infix is not None:
        text = f"({a[0]} {infix} {a[1]})"
        return f"{text} & {ones}" if op.prim in _OVERFLOWS else text
    match op.prim:
        case Prim.SHL | Prim.SHR | Prim.SAR:
            return _shift(op, a, number(op.args[1]), ones, top)
        case Prim.SLT:
            return f"(({a[0]} ^ {top}) < ({a[1]} ^ {top}))"
        case Prim.SLE:
            return f"(({a[0]} ^ {top}) <= ({a[1]} ^ {top}))"
        case Prim.SELECT:
            return f"({a[1]} if {a[0]} else {a[2]})"
        case Prim.TRUNC:
            return f"{a[0]} & {ones}"
        case Prim.ZEXT:
            return a[0]
        case Prim.SEXT:
            return f"(({a[0]} ^ {top}) - {top}) & {ones}"
        case Prim.POPCNT:
            return f"int.bit_count({a[0]})"
    return f"PURE_{op.prim.name}({source}, {', '.join(a)}) & {ones}"


def _shift(op: Op, a: list[str], count: int | None, ones: int, top: int) -> str:
    width = op.width
    if op.prim is Prim.SAR:
        by = f"min({a[1]}, {width})" if count is None else str(min(count, width))
        return f"((({a[0]} ^ {top}) - {top}) >> {by}) & {ones}"
    text = f"{a[0]} << {a[1]} & {ones}" if op.prim is Prim.SHL else f"{a[0]} >> {a[1]}"
    if count is None:
        return f"({text} if {a[1]} < {width} else 0)"
    return f"({text})" if count < width else "0"


_INFIX = {
    Prim.ADD: "+", Prim.SUB: "-", Prim.MUL: "*", Prim.AND: "&", Prim.OR: "|", Prim.XOR: "^",
    Prim.EQ: "==", Prim.NE: "!=", Prim.ULT: "<", Prim.ULE: "<=",
}  # fmt: skip
_OVERFLOWS = frozenset({Prim.ADD, Prim.SUB, Prim.MUL})
assert set(PURE) >= COMPARISONS | DIVIDES_FIT


# --- everything else -------------------------------------------------------------------------


def _get(w: _Writer, op: Op) -> None:
    whole = op.width == 64 or (op.attr in FLAG_SLOTS)
    w.assign(op, f"S[{op.attr}]" if whole else f"S[{op.attr}] & {mask(op.width)}")


def _load(w: _Writer, op: Op) -> None:
    access: Access = op.attr
    kind = f"{'w' if access.write else 'r'}{_PRIVILEGE[access.privilege]}{'s' * access.stack}"
    w.assign(op, f"ld{op.width}{kind}({w.arguments(op)}, {w.index})")
    w.line(f"if {w.name(op.dst[0])} < 0: {w.abandon}")


def _store(w: _Writer, op: Op) -> None:
    access: Access = op.attr
    kind = f"{_PRIVILEGE[access.privilege]}{'s' * access.stack}"
    w.line(f"x = st{op.width}{kind}({w.arguments(op)}, {w.index})")
    if w.routine or w.last:
        w.line(f"if x < 0: {w.abandon}")
        return
    w.line("if x:")
    w.line(f"    if x < 0: {w.abandon}")
    w.line("    left = 1")
    w.stored = True


def _probe(w: _Writer, op: Op) -> None:
    access: Access = op.attr
    kind = (access.write, access.privilege, access.stack, access.size)
    text = f"Access({kind[0]}, Privilege.{kind[1].name}, {kind[2]}, {kind[3]})"
    w.line(f"if probe({w.arguments(op)}, {text}) < 0: {w.abandon}")


def _results(w: _Writer, op: Op, call: str, *, may_end: bool) -> None:
    names = [w.name(t) for t in op.dst]
    if not names:
        w.line(f"if {call} is None: {w.abandon}" if may_end else call)
        return
    if may_end:
        w.line(f"r = {call}")
        w.line(f"if r is None: {w.abandon}")
        call = "r"
    w.line(f"{', '.join(names)} = {call}" if len(names) > 1 else f"{names[0]} = {call}")


def _call(w: _Writer, op: Op) -> None:
    _results(w, op, f"routine_{op.attr}({w.arguments(op)})", may_end=True)


def _service(w: _Writer, op: Op) -> None:
    _results(w, op, f"service_{op.attr.label}({w.arguments(op)})", may_end=False)


def _next(w: _Writer, op: Op) -> None:
    if w.last or w.depth > 1:
        w.complete(w.behind)
    elif w.stored:
        w.line("if left:")
        w.depth += 1
        w.complete(w.behind)
        w.depth -= 1


def _return(w: _Writer, op: Op) -> None:
    if not op.args:
        w.line("return ()")
    else:
        w.line(f"return {w.arguments(op)}")


def _fault(w: _Writer, op: Op) -> None:
    error = w.value(op.args[0]) if op.args else "-1"
    w.line(f"fault({op.attr}, {error})")
    w.line(w.abandon)


def _exit(w: _Writer, op: Op) -> None:
    w.line(f"exit_({op.attr})")
    w.line(w.abandon)


def _raised(w: _Writer, op: Op) -> None:
    w.line("raised()")
    w.line(w.abandon)


_WRITERS: dict[Prim, Callable[[_Writer, Op], None]] = {
    Prim.IP: lambda w, op: w.assign(op, w.here),
    Prim.GET: _get,
    Prim.PUT: lambda w, op: w.line(f"S[{op.attr}] = {w.arguments(op)}"),
    Prim.GETVAR: lambda w, op: w.assign(op, f"v{op.attr}"),
    Prim.SETVAR: lambda w, op: w.line(f"v{op.attr} = {w.arguments(op)}"),
    Prim.LOAD: _load,
    Prim.STORE: _store,
    Prim.PROBE: _probe,
    Prim.PLOAD: lambda w, op: w.assign(op, f"pload({w.arguments(op)}, {op.width})"),
    Prim.PSTORE: lambda w, op: w.line(f"pstore({w.arguments(op)}, {op.width})"),
    Prim.WALK_LOAD: lambda w, op: w.assign(
        op, f"walk_load({w.arguments(op)}, {op.width}, {op.attr!r})"
    ),
    Prim.LOOKUP: lambda w, op: w.assign(
        op, f"table_{op.attr[0]}.get({w.arguments(op)}, {op.attr[1]})"
    ),
    Prim.CALL: _call,
    Prim.SERVICE: _service,
    Prim.NEXT: _next,
    Prim.JUMP: lambda w, op: w.complete(w.value(op.args[0])),
    Prim.RETURN: _return,
    Prim.FAULT: _fault,
    Prim.EXIT: _exit,
    Prim.RAISED: _raised,
}

HANDLED = frozenset(PURE) | frozenset(_WRITERS) | {Prim.CONST, Prim.IF, Prim.ELSE, Prim.END}
"""What this reader understands; FLAGS and COND are lowered away."""
