"""Programs of the algebra: ops, their legality, and the routines that programs may call.

A program is a flat list of ops over numbered temporaries (each defined once), with IF/ELSE/END
nesting and an end on every path. It stands for one instruction or for one shared routine.
Nothing here executes; `verify` says what a legal program is, for every executor to rely on.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Any, NamedTuple

from vtx.isa.layout import SLOT_COUNT
from vtx.isa.primitives import COMPARISONS, DIVIDES_FIT, ENDS, PURE, WIDTHS, Prim


class Privilege(Enum):
    """On whose behalf memory is accessed (SDM 3A, Determination of Access Rights)."""

    USER = "user"
    SUPERVISOR = "supervisor"
    SUPERVISOR_AC = "supervisor_ac"  # explicit supervisor access while SMAP is suspended by AC
    SYSTEM = "system"  # implicit: descriptor tables, the TSS, event delivery


class Access(NamedTuple):
    """How LOAD, STORE and PROBE touch linear memory."""

    write: bool = False
    """Write rights are needed (a LOAD with this set reads for a later write)."""
    privilege: Privilege = Privilege.SUPERVISOR
    stack: bool = False
    """A non-canonical address is #SS rather than #GP."""
    size: int = 0
    """Bytes; PROBE only."""


class Service(Enum):
    """What the core asks of its surroundings: name, argument widths, result widths."""

    PORT_IN = ("port_in", (16, 8), (32,))  # port, bytes -> value
    PORT_OUT = ("port_out", (16, 8, 32), ())  # port, bytes, value
    CPUID = ("cpuid", (32, 32), (32, 32, 32, 32))  # leaf, subleaf -> eax ebx ecx edx
    NOW = ("now", (), (64,))  # virtual time in TSC ticks
    RANDOM = ("random", (), (64,))
    APIC_READ = ("apic_read", (32,), (1, 64))  # MSR index -> legal, value
    APIC_WRITE = ("apic_write", (32, 64), (1,))  # MSR index, value -> legal
    APIC_BASE = ("apic_base", (64,), (1,))  # value for IA32_APIC_BASE -> legal
    TSC_DEADLINE = ("tsc_deadline", (64,), ())  # 0 disarms
    TSC_DEADLINE_READ = ("tsc_deadline_read", (), (64,))
    TSC_WRITTEN = ("tsc_written", (), ())
    TPR_READ = ("tpr_read", (), (8,))  # CR8: bits 7:4 of the task priority
    TPR_WRITE = ("tpr_write", (8,), ())
    FLUSH_TLB = ("flush_tlb", (8, 64, 64), ())  # Flush kind, first and second operand
    CONTEXT = ("context", (), ())  # a paging control, CR3, VPID or EPTP changed
    VMENTRY = ("vmentry", (), ())  # VM entry is complete
    VMEXIT = ("vmexit", (), ())  # a VM exit is complete

    __hash__ = object.__hash__  # members are alone; looked up with every service

    def __init__(self, label: str, params: tuple[int, ...], results: tuple[int, ...]) -> None:
        self.label = label
        self.params = params
        self.results = results


class Flush(IntEnum):
    """What Service.FLUSH_TLB forgets; its two operands are named behind each kind."""

    PAGE = 0  # gva, PCID: that page of the current VPID, global or not
    PCID_LOCAL = 1  # PCID: its pages of the current VPID that are not global
    LOCAL = 2  # every page of the current VPID that is not global
    ALL = 3  # every page of the current VPID
    PAGE_LOCAL = 4  # gva, PCID: that page unless global
    VPID_PAGE = 5  # VPID, gva
    VPID = 6  # VPID
    VPID_LOCAL = 7  # VPID: its pages that are not global
    ALL_VPIDS = 8  # everything tagged with a VPID other than 0
    EPT = 9  # EPTP: everything translated through it
    ALL_EPT = 10


class Origin(IntEnum):
    """Where in the instruction a constant stands (CONST's `operand_width`); 0: nowhere."""

    IMMEDIATE0 = 1  # operand 0 as iced sign-extends it, cut to the constant's width
    IMMEDIATE1 = 2
    IMMEDIATE2 = 3
    IMMEDIATE3 = 4
    DISPLACEMENT = 5  # of the memory operand; of a RIP-relative one from the instruction's start
    BRANCH = 6  # a near target, from the instruction's start
    COMPUTED = 7  # folded from others: to be read from the program only


class Op(NamedTuple):
    """One operation. `dst` are the temporaries it defines, `args` those it reads."""

    prim: Prim
    dst: tuple[int, ...] = ()
    width: int = 0
    args: tuple[int, ...] = ()
    attr: Any = None
    operand_width: int = 0
    """Width of the operands where it differs from `width` (comparisons, width changes).

    Of a CONST: its Origin.
    """


@dataclass(frozen=True, slots=True)
class Program:
    """The ops of one instruction or routine."""

    name: str
    ops: tuple[Op, ...]
    params: tuple[int, ...] = ()
    """Widths of the arguments, which are temporaries 0, 1, ..."""
    results: tuple[int, ...] = ()
    variables: tuple[int, ...] = ()
    """Widths of the local variables."""
    temps: int = 0
    alone: bool = False
    """Runs as a block of its own: it needs exact time, or asks a service."""
    resync: bool = False
    """May change the translation key: nothing may be chained behind it."""
    falls_through: bool = True
    """Some path ends in NEXT."""
    specialised: bool = False
    """With other constants in the instruction its ops would be others, not only their numbers."""


class IllegalProgramError(Exception):
    """A program that breaks a rule of the algebra; always a bug of vtx."""


def verify(program: Program) -> None:
    """Raise IllegalProgramError unless `program` obeys the rules every executor relies on."""
    _Verifier(program).check()


@dataclass
class _Verifier:
    program: Program
    widths: dict[int, int] = field(default_factory=dict)

    def check(self) -> None:
        for index, width in enumerate(self.program.params):
            self.widths[index] = width
        rest, ended = self._branch(0, top=True)
        self._require(rest == len(self.program.ops), "ops behind the last end")
        self._require(ended, "a path without an end")

    def _require(self, condition: bool, why: str, op: Op | None = None) -> None:
        if not condition:
            raise IllegalProgramError(f"{self.program.name}: {why}" + (f" in {op}" if op else ""))

    def _branch(self, at: int, *, top: bool = False) -> tuple[int, bool]:
        """Check ops from `at` to the end of the branch; (where it stopped, did it end)."""
        ops, ended = self.program.ops, False
        while at < len(ops):
            op = ops[at]
            if op.prim in (Prim.ELSE, Prim.END):
                self._require(not top, "an ELSE or END without IF", op)
                return at, ended
            self._require(not ended, "an op behind an end", op)
            if op.prim is Prim.IF:
                at, ended = self._conditional(at)
                continue
            self._op(op)
            ended = op.prim in ENDS
            at += 1
        return at, ended

    def _conditional(self, at: int) -> tuple[int, bool]:
        ops = self.program.ops
        self._require(self._width_of(ops[at], 0) == 1, "a condition that is not 1 bit", ops[at])
        outer = dict(self.widths)
        at, then_ends = self._branch(at + 1)
        self.widths = dict(outer)
        else_ends = False
        if at < len(ops) and ops[at].prim is Prim.ELSE:
            at, else_ends = self._branch(at + 1)
            self.widths = outer
        self._require(at < len(ops) and ops[at].prim is Prim.END, "an IF without END")
        return at + 1, then_ends and else_ends

    def _width_of(self, op: Op, index: int) -> int:
        self._require(len(op.args) > index, "too few arguments", op)
        self._require(op.args[index] in self.widths, "a temporary read before it is defined", op)
        return self.widths[op.args[index]]

    def _op(self, op: Op) -> None:
        argument_widths = [self._width_of(op, n) for n in range(len(op.args))]
        self._shape(op, argument_widths)
        results = self._result_widths(op)
        self._require(len(results) == len(op.dst), "wrong number of results", op)
        for temp, width in zip(op.dst, results, strict=True):
            self._require(temp not in self.widths, "a temporary defined twice", op)
            self._require(width in WIDTHS, "an unknown width", op)
            self.widths[temp] = width

    def _result_widths(self, op: Op) -> tuple[int, ...]:
        if op.prim is Prim.SERVICE:
            return tuple(op.attr.results)
        if op.prim is Prim.CALL:
            return routine(op.attr).results
        return (op.width,) if op.dst else ()

    def _shape(self, op: Op, widths: list[int]) -> None:
        prim = op.prim
        if prim in COMPARISONS or prim in DIVIDES_FIT:
            self._require(op.width == 1, "a comparison wider than 1 bit", op)
            self._require(set(widths) == {op.operand_width}, "operands of unequal width", op)
        elif prim is Prim.SELECT:
            self._require(widths == [1, op.width, op.width], "a mixed-width SELECT", op)
        elif prim in (Prim.TRUNC, Prim.ZEXT, Prim.SEXT):
            shorter = prim is Prim.TRUNC
            self._require(widths == [op.operand_width], "a wrong source width", op)
            self._require((op.width < widths[0]) == shorter, "a width change the wrong way", op)
        elif prim in PURE:
            self._require(set(widths) == {op.width}, "operands of unequal width", op)
        elif prim in (Prim.GET, Prim.PUT):
            self._require(0 <= op.attr < SLOT_COUNT, "an unknown slot", op)
        elif prim in (Prim.LOAD, Prim.STORE, Prim.PROBE):
            self._require(isinstance(op.attr, Access) and widths[0] == 64, "a bad access", op)
        elif prim in (Prim.GETVAR, Prim.SETVAR):
            self._require(self.program.variables[op.attr] == op.width, "a bad variable", op)
        elif prim is Prim.SERVICE:
            self._require(tuple(widths) == op.attr.params, "bad service arguments", op)
        elif prim is Prim.CALL:
            self._require(tuple(widths) == routine(op.attr).params, "bad call arguments", op)
        elif prim is Prim.RETURN:
            self._require(tuple(widths) == self.program.results, "bad results", op)


# --- routines: programs that other programs call by name -------------------------------------

_BUILDERS: dict[str, Callable[[], Program]] = {}
_ROUTINES: dict[str, Program] = {}
_RESULTS: dict[str, tuple[int, ...]] = {}


def register_routine(
    name: str, build: Callable[[], Program], results: tuple[int, ...] | None = None
) -> None:
    """Make `name` callable; its program is built when first asked for."""
    if name in _BUILDERS:
        raise ValueError(f"routine {name} is registered twice")
    _BUILDERS[name] = build
    if results is not None:
        _RESULTS[name] = results


def is_declared(name: str) -> bool:
    """The routine is part of vtx's sources, and not made by whoever registered it."""
    return name in _RESULTS


def results_of(name: str) -> tuple[int, ...]:
    """Widths of a routine's results, if possible without building it."""
    known = _RESULTS.get(name)
    return routine(name).results if known is None else known


def routine(name: str) -> Program:
    """The program of a registered routine (KeyError when there is none)."""
    program = _ROUTINES.get(name)
    if program is None:
        program = _ROUTINES[name] = _BUILDERS[name]()
    return program


def routine_names() -> tuple[str, ...]:
    """All registered routines, in order of registration."""
    return tuple(_BUILDERS)
