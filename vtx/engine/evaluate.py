"""The plain evaluator: the algebra read on Python integers, one op at a time.

It is the oracle for every other reader, so it stays short and does nothing clever. It runs
lowered programs (no FLAGS or COND).
"""

from collections.abc import Callable
from dataclasses import dataclass

from vtx.isa.flags import lower
from vtx.isa.layout import SLOTS
from vtx.isa.primitives import PURE, Prim, apply
from vtx.isa.program import Op, Program, Service, routine
from vtx.isa.tables import table
from vtx.machine.cpu import EXIT, FAULT, OK, SOFTWARE_EVENT, Cpu

_RIP = SLOTS["rip"]
_EXIT_REASON = SLOTS["exit_reason"]
_VECTOR, _ERROR, _HAS_ERROR = (SLOTS[f"fault_{n}"] for n in ("vector", "error", "has_error"))

Results = tuple[int, ...]
_MOST_PREPARED = 20_000


@dataclass
class _Frame:
    """One program being run."""

    temps: list[int]
    variables: list[int]
    next_ip: int


@dataclass(frozen=True)
class _Prepared:
    """A program made ready to run. It keeps `program` alive, whose id() is the key it is under."""

    program: Program
    lowered: Program
    targets: list[int]
    """Per IF and ELSE: where to go on when its branch is not taken."""


class Evaluator:
    """Runs programs against one CPU."""

    def __init__(self, cpu: Cpu) -> None:
        self._cpu = cpu
        self._lowered: dict[int, _Prepared] = {}

    def instruction(self, program: Program, next_ip: int) -> int:
        """Run one instruction; RIP moves when it completes. Returns how it ended."""
        return self._cpu.status if self._run(program, (), next_ip) is None else OK

    def call(self, name: str, *args: int) -> Results | None:
        """Run a routine; None when it ended in a fault or exit (see cpu.status)."""
        return self._run(routine(name), args, 0)

    def _prepare(self, program: Program) -> "_Prepared":
        known = self._lowered.get(id(program))
        if known is None:
            if len(self._lowered) >= _MOST_PREPARED:
                self._lowered.clear()
            lowered = lower(program)
            known = _Prepared(program, lowered, _targets(lowered.ops))
            self._lowered[id(program)] = known
        return known

    def _run(self, program: Program, args: tuple[int, ...], next_ip: int) -> Results | None:
        prepared = self._prepare(program)
        lowered, targets = prepared.lowered, prepared.targets
        temps = [*args, *([0] * (lowered.temps - len(args)))]
        frame = _Frame(temps, [0] * len(lowered.variables), next_ip)
        ops, at = lowered.ops, 0
        while True:
            op = ops[at]
            prim = op.prim
            if prim in PURE:
                a = [temps[t] for t in op.args]
                temps[op.dst[0]] = apply(prim, op.width, op.operand_width or op.width, *a)
            elif prim is Prim.IF:
                if not temps[op.args[0]]:
                    at = targets[at]
            elif prim is Prim.ELSE:
                at = targets[at]
            elif prim in _ENDS:
                return _ENDS[prim](self._cpu, op, frame)
            elif prim is not Prim.END and not self._effect(op, frame):
                return None
            at += 1

    def _effect(self, op: Op, frame: _Frame) -> bool:
        """Run an op that is neither pure nor structure; False when it ends the program."""
        arguments = [frame.temps[t] for t in op.args]
        if op.prim is Prim.CALL:
            results = self.call(op.attr, *arguments)
            if results is None:
                return False
        else:
            results = _EFFECTS[op.prim](self._cpu, op, frame, arguments)
            if op.prim in _MAY_FAULT and results[0] < 0:
                return False
            results = results[: len(op.dst)]
        for temp, value in zip(op.dst, results, strict=True):
            frame.temps[temp] = value
        return True


def _targets(ops: tuple[Op, ...]) -> list[int]:
    """For each IF its ELSE or END, for each ELSE its END."""
    targets = [0] * len(ops)
    open_at: list[int] = []
    for at, op in enumerate(ops):
        if op.prim is Prim.IF:
            open_at.append(at)
        elif op.prim is Prim.ELSE:
            targets[open_at.pop()] = at
            open_at.append(at)
        elif op.prim is Prim.END:
            targets[open_at.pop()] = at
    return targets


# --- effects ---------------------------------------------------------------------------------

Effect = Callable[[Cpu, Op, _Frame, list[int]], Results]


def _get(cpu: Cpu, op: Op, frame: _Frame, a: list[int]) -> Results:
    return (cpu.words[op.attr] & ((1 << op.width) - 1),)


def _put(cpu: Cpu, op: Op, frame: _Frame, a: list[int]) -> Results:
    cpu.words[op.attr] = a[0]
    return ()


def _setvar(cpu: Cpu, op: Op, frame: _Frame, a: list[int]) -> Results:
    frame.variables[op.attr] = a[0]
    return ()


def _lookup(cpu: Cpu, op: Op, frame: _Frame, a: list[int]) -> Results:
    name, default = op.attr
    return (table(name).get(a[0], default),)


def _service(cpu: Cpu, op: Op, frame: _Frame, a: list[int]) -> Results:
    service: Service = op.attr
    result = cpu.services[service](*a)
    if len(service.results) == 1:
        return (int(result),)
    return tuple(result) if service.results else ()


_EFFECTS: dict[Prim, Effect] = {
    Prim.CONST: lambda cpu, op, frame, a: (op.attr,),
    Prim.IP: lambda cpu, op, frame, a: (cpu.words[_RIP],),
    Prim.GET: _get,
    Prim.PUT: _put,
    Prim.GETVAR: lambda cpu, op, frame, a: (frame.variables[op.attr],),
    Prim.SETVAR: _setvar,
    Prim.LOAD: lambda cpu, op, frame, a: (cpu.load(a[0], op.width, op.attr),),
    Prim.STORE: lambda cpu, op, frame, a: (cpu.store(a[0], a[1], op.width, op.attr),),
    Prim.PROBE: lambda cpu, op, frame, a: (cpu.probe(a[0], op.attr),),
    Prim.PLOAD: lambda cpu, op, frame, a: (cpu.load_physical(a[0], op.width),),
    Prim.PSTORE: lambda cpu, op, frame, a: (cpu.store_physical(a[0], a[1], op.width),),
    Prim.WALK_LOAD: lambda cpu, op, frame, a: (cpu.walk_load(a[0], op.width, op.attr),),
    Prim.LOOKUP: _lookup,
    Prim.SERVICE: _service,
}
_MAY_FAULT = frozenset({Prim.LOAD, Prim.STORE, Prim.PROBE})


# --- ends ------------------------------------------------------------------------------------


def _next(cpu: Cpu, op: Op, frame: _Frame) -> Results:
    cpu.words[_RIP] = frame.next_ip
    return ()


def _jump(cpu: Cpu, op: Op, frame: _Frame) -> Results:
    cpu.words[_RIP] = frame.temps[op.args[0]]
    return ()


def _fault(cpu: Cpu, op: Op, frame: _Frame) -> None:
    cpu.words[_VECTOR] = op.attr
    cpu.words[_HAS_ERROR] = len(op.args)
    cpu.words[_ERROR] = frame.temps[op.args[0]] if op.args else 0
    cpu.status = FAULT


def _raised(cpu: Cpu, op: Op, frame: _Frame) -> None:
    cpu.status = SOFTWARE_EVENT


def _exit(cpu: Cpu, op: Op, frame: _Frame) -> None:
    cpu.words[_EXIT_REASON] = op.attr
    cpu.status = EXIT


_ENDS: dict[Prim, Callable[[Cpu, Op, _Frame], Results | None]] = {
    Prim.NEXT: _next,
    Prim.JUMP: _jump,
    Prim.RETURN: lambda cpu, op, frame: tuple(frame.temps[t] for t in op.args),
    Prim.FAULT: _fault,
    Prim.RAISED: _raised,
    Prim.EXIT: _exit,
}

HANDLED = frozenset(PURE) | frozenset(_EFFECTS) | frozenset(_ENDS)
STRUCTURE = frozenset({Prim.IF, Prim.ELSE, Prim.END, Prim.CALL})
"""Primitives that `_run` handles itself; FLAGS and COND are lowered away."""
