"""A VM-entry rule as a program over its inputs: which it has, and what it gives for numbers.

Where `NumberView` folds a predicate on one set of numbers, this writes it once with its fields
unknown, so that a search may try thousands of values. The program also tells what the search
wants to know: the constants the rule compares with, and its conjuncts. Must not know what a
rule means or where values come from.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from vtx.isa.builder import Builder, Value
from vtx.isa.primitives import PURE, Prim
from vtx.isa.program import Op
from vtx.spec import field as vmcs_field
from vtx.spec import profile as profile_row
from vtx.vmx.capability import capability_msrs
from vtx.vmx.checks import Check

Memory = Callable[[int, int], int]
"""(width in bits, host-physical address) -> what physical memory holds there."""


class _ConjunctBuilder(Builder):
    """Notes the conditions of every `all_of`: a search may satisfy them one by one."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.conjuncts: dict[int, None] = {}

    def all_of(self, *conditions: Value) -> Value:
        for condition in conditions:
            self.conjuncts[condition.temp] = None
        return super().all_of(*conditions)


class _UnknownView:
    """A view whose fields and state are inputs, and whose capability MSRs are a profile's."""

    def __init__(self, name: str, profile: str) -> None:
        self._noting = _ConjunctBuilder(name)
        self.b: Builder = self._noting
        self._msrs = capability_msrs(profile_row(profile))
        self.inputs: dict[str, Value] = {}

    @property
    def conjuncts(self) -> tuple[int, ...]:
        return tuple(self._noting.conjuncts)

    def _input(self, name: str, width: int) -> Value:
        if name not in self.inputs:
            self.inputs[name] = self.b.emit1(Prim.GETVAR, width, attr=name)
        return self.inputs[name]

    def __getitem__(self, name: str) -> Value:
        return self._input(name, vmcs_field(name).bits)

    def capability(self, index: int) -> Value:
        return self.b.const(64, self._msrs.get(index, 0))

    def state(self, slot: str) -> Value:
        return self._input(slot, 64)

    def load(self, width: int, hpa: Value, when: Value) -> Value:
        return self.b.emit1(Prim.PLOAD, width, (hpa, when))  # `_run` looks at `when`


_Step = tuple[int, Callable[..., int], int, int, tuple[int, ...]]
"""(temporary, meaning, width of the operands, mask of the result, operands)."""


@dataclass(frozen=True)
class Predicate:
    """One rule on one profile, ready to be tried on numbers."""

    inputs: Mapping[str, int]
    """Fields and state slots the rule reads -> width in bits, in the order it reads them."""
    constants: frozenset[int]
    """Every number that stands in the rule: masks, shifts, bounds, capability MSRs."""
    _inputs: tuple[tuple[int, str, int], ...]
    """(temporary, name, mask) of every input."""
    _steps: tuple[_Step, ...]
    _blank: tuple[int, ...]
    """The temporaries with the constants in their places."""
    _conjuncts: tuple[int, ...]
    _result: int

    def holds(self, values: Mapping[str, int], memory: Memory) -> bool:
        """Whether the rule holds; an input that `values` lacks is 0."""
        return bool(self._run(values, memory)[self._result])

    def conjuncts_held(self, values: Mapping[str, int], memory: Memory) -> int:
        """How many of the rule's conjuncts hold: all of them where the rule does."""
        temps = self._run(values, memory)
        return sum(temps[temp] for temp in self._conjuncts)

    def loads(self, values: Mapping[str, int], memory: Memory) -> dict[int, tuple[int, int]]:
        """The physical memory the rule looks at: address -> (width, value)."""
        seen: dict[int, tuple[int, int]] = {}

        def watched(width: int, hpa: int) -> int:
            seen[hpa] = width, memory(width, hpa)
            return seen[hpa][1]

        self._run(values, watched)
        return seen

    def _run(self, values: Mapping[str, int], memory: Memory) -> list[int]:
        temps = list(self._blank)
        for to, name, mask in self._inputs:
            temps[to] = values.get(name, 0) & mask
        for to, meaning, width, mask, args in self._steps:
            if meaning is _load:
                place, wanted = args
                temps[to] = memory(width, temps[place]) if temps[wanted] else 0
            else:
                temps[to] = meaning(width, *[temps[temp] for temp in args]) & mask
        return temps


def _load(width: int, hpa: int) -> int:
    """Stands for a load (address, whether it is wanted); `Predicate` asks its own memory."""
    raise NotImplementedError


@lru_cache(maxsize=1024)
def predicate_of(rule: Check, profile: str) -> Predicate:
    """The rule's predicate as a program, on a CPU of `profile`."""
    view = _UnknownView(rule.id, profile)
    result = rule.predicate(view)
    ops = view.b.ops
    constants = {op.dst[0]: op.attr for op in ops if op.prim is Prim.CONST}
    blank = [0] * (1 + max(op.dst[0] for op in ops))
    for temp, number in constants.items():
        blank[temp] = number
    return Predicate(
        inputs={name: value.width for name, value in view.inputs.items()},
        constants=frozenset(constants.values()),
        _inputs=tuple(
            (value.temp, name, (1 << value.width) - 1) for name, value in view.inputs.items()
        ),
        _steps=tuple(_step(op) for op in ops if op.prim not in (Prim.CONST, Prim.GETVAR)),
        _blank=tuple(blank),
        _conjuncts=view.conjuncts,
        _result=result.temp,
    )


def _step(op: Op) -> _Step:
    meaning = _load if op.prim is Prim.PLOAD else PURE[op.prim]
    width = op.operand_width or op.width
    return op.dst[0], meaning, width, (1 << op.width) - 1, op.args
