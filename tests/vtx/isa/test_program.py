"""verify() accepts what the builder writes and refuses every kind of illegal program."""

import pytest

from vtx.isa.builder import Builder
from vtx.isa.layout import SLOT_COUNT
from vtx.isa.primitives import Prim
from vtx.isa.program import Access, IllegalProgramError, Op, Program, Service, verify

NEXT = Op(Prim.NEXT)
ONE = Op(Prim.CONST, (0,), 32, (), 1)
BIT = Op(Prim.CONST, (0,), 1, (), 1)


def _program(*ops: Op, **more: object) -> Program:
    return Program("broken", ops, **more)  # type: ignore[arg-type]


ILLEGAL = {
    "a path without an end": _program(ONE),
    "a path without an end: one branch": _program(BIT, Op(Prim.IF, args=(0,)), NEXT, Op(Prim.END)),
    "an op behind an end": _program(NEXT, ONE),
    "an ELSE or END without IF": _program(Op(Prim.END), NEXT),
    "an IF without END": _program(BIT, Op(Prim.IF, args=(0,)), NEXT),
    "a condition that is not 1 bit": _program(ONE, Op(Prim.IF, args=(0,)), Op(Prim.END), NEXT),
    "a temporary read before it is defined": _program(Op(Prim.ADD, (1,), 32, (0, 0)), NEXT),
    "a temporary read before it is defined: outside its branch": _program(
        BIT, Op(Prim.IF, args=(0,)), Op(Prim.CONST, (1,), 32, (), 1), Op(Prim.END),
        Op(Prim.PUT, (), 32, (1,), 0), NEXT,
    ),
    "a temporary defined twice": _program(ONE, ONE, NEXT),
    "an unknown width": _program(Op(Prim.CONST, (0,), 7, (), 1), NEXT),
    "operands of unequal width": _program(
        ONE, Op(Prim.CONST, (1,), 64, (), 1), Op(Prim.ADD, (2,), 32, (0, 1)), NEXT
    ),
    "a comparison wider than 1 bit": _program(
        ONE, Op(Prim.EQ, (1,), 32, (0, 0), None, 32), NEXT
    ),
    "a mixed-width SELECT": _program(ONE, Op(Prim.SELECT, (1,), 32, (0, 0, 0)), NEXT),
    "a width change the wrong way": _program(ONE, Op(Prim.ZEXT, (1,), 8, (0,), None, 32), NEXT),
    "an unknown slot": _program(Op(Prim.GET, (0,), 64, (), SLOT_COUNT), NEXT),
    "a bad access": _program(ONE, Op(Prim.LOAD, (1,), 32, (0,), Access()), NEXT),
    "a bad variable": _program(Op(Prim.GETVAR, (0,), 64, (), 0), NEXT, variables=(32,)),
    "bad service arguments": _program(
        ONE, Op(Prim.SERVICE, (), 0, (0,), Service.TPR_WRITE), NEXT
    ),
    "bad results": _program(ONE, Op(Prim.RETURN, args=(0,)), results=(64,)),
    "wrong number of results": _program(Op(Prim.SERVICE, (), 0, (), Service.NOW), NEXT),
}  # fmt: skip


@pytest.mark.parametrize("why", ILLEGAL)
def test_an_illegal_program_is_refused_with_the_reason(why: str) -> None:
    with pytest.raises(IllegalProgramError, match=why.split(":")[0]):
        verify(ILLEGAL[why])


def test_a_value_computed_before_a_branch_may_be_used_in_it() -> None:
    b = Builder("legal")
    value = b.get("rax")
    with b.if_(value == 0):
        b.put("rbx", value + 1)
    with b.else_():
        b.put("rbx", value)
    b.next()
    verify(b.program())


def test_a_python_if_on_a_run_time_value_is_an_error() -> None:
    b = Builder("wrong")
    with pytest.raises(TypeError, match="translation key"):
        bool(b.get("rax") == 0)


def test_values_of_different_widths_do_not_mix() -> None:
    b = Builder("wrong")
    with pytest.raises(TypeError, match="32 bits are needed"):
        _ = b.get("rax", 32) + b.get("rbx", 64)
