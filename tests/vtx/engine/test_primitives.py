"""Every primitive, every engine: total, and equal to its one definition at edge operands."""

from itertools import product

import pytest

from tests.vtx.engines import ENGINES
from vtx.engine import evaluate, generate
from vtx.engine.choice import make_engine
from vtx.engine.native.routines import RoutineBody
from vtx.engine.native.stencil import StencilBody
from vtx.engine.reference import Reference
from vtx.isa.primitives import COMPARISONS, DIVIDES_FIT, PURE, WIDTHS, Prim, apply
from vtx.isa.program import Op, Program, register_routine, routine, verify
from vtx.machine.bus import Bus
from vtx.machine.cpu import Cpu
from vtx.machine.memory import PhysicalMemory

LOWERED = {Prim.FLAGS, Prim.COND}
NARROWS, WIDENS = {Prim.TRUNC}, {Prim.ZEXT, Prim.SEXT}
ARITY = {prim: meaning.__code__.co_argcount - 1 for prim, meaning in PURE.items()}
_registered: set[str] = set()


def test_both_readers_handle_every_primitive() -> None:
    evaluated = evaluate.HANDLED | evaluate.STRUCTURE
    assert set(Prim) - LOWERED == evaluated == generate.HANDLED


def test_native_code_handles_every_primitive_where_it_may_stand() -> None:
    instructions_only = {Prim.NEXT, Prim.JUMP, Prim.IP}

    # The place of an instruction is known before its code is compiled.
    assert StencilBody.handled() == set(Prim) - {Prim.RETURN, Prim.IP}
    assert RoutineBody.handled() == set(Prim) - LOWERED - instructions_only


def _edges(width: int) -> list[int]:
    top = 1 << (width - 1)
    values = {0, 1, 2, width - 1, width, width + 1, top - 1, top, 2 * top - 2, 2 * top - 1, 0x5A}
    return sorted(value for value in values if 0 <= value < 2 * top)


def _shapes(prim: Prim) -> list[tuple[int, int]]:
    """(result width, operand width) pairs that are legal for `prim`."""
    if prim in COMPARISONS | DIVIDES_FIT:
        return [(1, width) for width in WIDTHS]
    if prim in NARROWS:
        return [(to, width) for to in WIDTHS for width in WIDTHS if to < width]
    if prim in WIDENS:
        return [(to, width) for to in WIDTHS for width in WIDTHS if to > width]
    if prim is Prim.BSWAP:
        return [(width, width) for width in WIDTHS if width >= 8]
    return [(width, width) for width in WIDTHS]


def _argument_widths(prim: Prim, operand: int) -> tuple[int, ...]:
    return (1, operand, operand) if prim is Prim.SELECT else (operand,) * ARITY[prim]


def _program(prim: Prim, width: int, operand: int, constants: tuple[int, ...] | None) -> str:
    """Name of a routine that applies `prim` to its arguments, or to the given constants."""
    name = f"test_{prim.name}_{width}_{operand}_{constants}"
    if name in _registered:
        return name
    widths = _argument_widths(prim, operand)
    count = len(widths)
    ops = []
    if constants is not None:
        ops = [
            Op(Prim.CONST, (n,), w, (), c)
            for n, (w, c) in enumerate(zip(widths, constants, strict=True))
        ]
    ops.append(Op(prim, (count,), width, tuple(range(count)), None, operand))
    ops.append(Op(Prim.RETURN, args=(count,)))
    params = widths if constants is None else ()
    program = Program(name, tuple(ops), params, (width,), temps=count + 1)
    verify(program)
    register_routine(name, lambda: program)
    _registered.add(name)
    return name


def _engine(name: str) -> Reference:
    return make_engine(name, Cpu(Bus(PhysicalMemory(1 << 16))), frozenset())


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("prim", PURE, ids=lambda prim: prim.name)
def test_a_primitive_is_total_and_equal_on_every_engine(prim: Prim, name: str) -> None:
    engine = _engine(name)
    for width, operand in _shapes(prim):
        program = _program(prim, width, operand, None)
        for values in product(*(_edges(w) for w in _argument_widths(prim, operand))):
            expected = (apply(prim, width, operand, *values),)
            assert engine.call(program, *values) == expected, (prim, width, values)


@pytest.mark.parametrize("prim", PURE, ids=lambda prim: prim.name)
def test_constant_operands_give_what_run_time_ones_give(prim: Prim) -> None:
    quick = _engine("reference")
    for width, operand in _shapes(prim):
        widths = _argument_widths(prim, operand)
        edges = [(0, (1 << w) - 1, w & ((1 << w) - 1)) for w in widths]
        for values in set(product(*edges)):
            name = _program(prim, width, operand, values)
            assert quick.call(name) == (apply(prim, width, operand, *values),), (prim, values)


def test_every_test_routine_is_a_legal_program() -> None:
    for name in _registered:
        verify(routine(name))
