"""Every engine does the same as the others, instruction for instruction.

Generated programs run on two engines in slices of random length; behind each slice all state,
all of RAM and the reason for stopping must agree. A failure prints a program made as small as
possible. `-m campaign` runs many: VTX_LOCKSTEP_PROGRAMS says how many, VTX_LOCKSTEP_SEED the
first seed, VTX_LOCKSTEP_PAIR the engines ("reference native"; "regions" is native with every
block that is met twice compiled into a region), VTX_LOCKSTEP_LOG a file that counts them.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from lockstep_campaign import Campaign
from lockstep_engines import factory, native_is_there
from lockstep_generate import generate
from lockstep_places import MODES
from lockstep_program import Piece, Program
from lockstep_run import Divergence, Side, differ
from lockstep_shrink import shrink
from lockstep_vmx import VmxSide, differ_as_guests

from vtx.engine.native.engine import Native

NATIVE = pytest.mark.skipif(not native_is_there(), reason="the native engine is not there")
PAIRS = [
    pytest.param(("reference", "evaluate"), id="evaluate"),
    pytest.param(("reference", "native"), id="native", marks=NATIVE),
    pytest.param(("reference", "regions"), id="regions", marks=NATIVE),
]
MANY = {"evaluate": 6, "native": 10, "regions": 2}
MANY_GUESTS = {"evaluate": 1, "native": 3, "regions": 1}
FOUND = {
    # xor byte [the next instruction], 0x40; add eax, 0x71: the flags of the XOR are not dead
    "flags behind a write into the code that follows": ("8034250900010040", "83c071"),
    # inc byte [the next instruction]; or eax, imm32
    "a budget that ends behind such a write": ("fe042508000100", "0d00000001"),
    # mov eax, 0x11000; jmp rax: the next page is not touched before its instruction is due
    "a budget that ends where another page begins": ("b800100100ffe0",),
}
"""Code that once told two engines apart."""

FOUND_SEEDS = (11663, 67962, 100014, 100018, 100073, 445055)
"""Generated programs that did: an undefined opcode at the end of a page (its bytes on the next one
matter), and events delivered by the last instruction of a budget (nothing is fetched for what
comes next)."""

SEEDS, LENGTHS = st.integers(0, 1 << 48), st.integers(5, 60)
ONCE = {
    "deadline": None,
    "database": None,
    "suppress_health_check": list(HealthCheck),
    "phases": [Phase.generate],  # what is found is made smaller by `shrink`, which knows more
}
Sides = tuple[Side, Side]


@cache
def sides(pair: tuple[str, str], long: bool = True) -> Sides:
    """Two machines; engines are costly to make, so they are kept. A campaign has others for
    programs of legacy modes (`long` false), whose handlers would take turns with these."""
    first, second = (Side(name, factory(name)) for name in pair)
    return first, second


@cache
def guest_sides(pair: tuple[str, str]) -> tuple[VmxSide, VmxSide]:
    first, second = (VmxSide(name, factory(name)) for name in pair)
    return first, second


def explained(program: Program, find: Callable[[Program], Divergence | None]) -> str | None:
    """What differs in the smallest program that comes of this one; None when nothing does."""
    found = find(program)
    if found is None:
        return None
    small = find(shrink(program, lambda smaller: find(smaller) is not None))
    return str(small or found)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("pair", PAIRS)
def test_a_program_does_the_same_on_two_engines(pair: tuple[str, str], mode: str) -> None:
    a, b = sides(pair)

    @seed(7)
    @settings(max_examples=MANY[pair[1]], **ONCE)
    @given(SEEDS, LENGTHS)
    def check(number: int, length: int) -> None:
        assert explained(generate(number, mode, length), lambda p: differ(p, a, b)) is None

    check()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("pair", PAIRS)
def test_a_guest_takes_the_same_exits_on_two_engines(pair: tuple[str, str], mode: str) -> None:
    a, b = guest_sides(pair)

    @seed(8)
    @settings(max_examples=MANY_GUESTS[pair[1]], **ONCE)
    @given(SEEDS, LENGTHS)
    def check(number: int, length: int) -> None:
        program = generate(number, mode, length)
        assert explained(program, lambda p: differ_as_guests(p, a, b)) is None

    check()


@pytest.mark.parametrize("budget", [1, 2, 3, 40])
@pytest.mark.parametrize("code", FOUND.values(), ids=list(FOUND))
@pytest.mark.parametrize("pair", PAIRS)
def test_code_that_once_told_two_engines_apart_no_longer_does(
    pair: tuple[str, str], code: tuple[str, ...], budget: int
) -> None:
    pieces = tuple(Piece(n, bytes.fromhex(text)) for n, text in enumerate(code))
    program = replace(
        generate(1, "long-0"), pieces=pieces, budgets=(budget,), settings={}, arrivals=(), start=0
    )
    assert explained(program, lambda p: differ(p, *sides(pair))) is None


@pytest.mark.parametrize("number", FOUND_SEEDS)
@pytest.mark.parametrize("pair", PAIRS[1:])
def test_programs_that_once_told_two_engines_apart_no_longer_do(
    pair: tuple[str, str], number: int
) -> None:
    program = generate(number, list(MODES)[number % len(MODES)])
    assert explained(program, lambda p: differ(p, *sides(pair))) is None


@pytest.mark.parametrize("budget", [1, 10, 11, 400])
@pytest.mark.parametrize("pair", PAIRS)
def test_any_store_of_an_instruction_may_change_the_code_that_follows(
    pair: tuple[str, str], budget: int
) -> None:
    found = generate(20003917, "segmented32")  # a PUSHA whose first pushes are to itself
    program = replace(
        found, pieces=found.pieces[:4], settings={"paging": 2}, arrivals=(), budgets=(budget,)
    )
    assert explained(program, lambda p: differ(p, *sides(pair))) is None


def campaign_pairs() -> Sequence[tuple[str, str]]:
    first, second = os.environ.get("VTX_LOCKSTEP_PAIR", "reference native").split()
    return [(first, second)]


@pytest.mark.campaign
@pytest.mark.parametrize("as_guests", [False, True], ids=["bare", "guests"])
@pytest.mark.parametrize("pair", campaign_pairs())
def test_many_programs_do_the_same_on_two_engines(pair: tuple[str, str], as_guests: bool) -> None:
    if {"native", "regions"} & set(pair) and not native_is_there():
        pytest.skip("the native engine is not there")
    many = int(os.environ.get("VTX_LOCKSTEP_PROGRAMS", "2000"))
    first = int(os.environ.get("VTX_LOCKSTEP_SEED", "1000000"))
    log = os.environ.get("VTX_LOCKSTEP_LOG")

    def explain(program: Program) -> str | None:
        if not as_guests:
            return explained(program, lambda p: differ(p, *sides(pair, program.where.long)))
        a, b = guest_sides(pair)
        return explained(program, lambda p: differ_as_guests(p, a, b))

    def settle() -> None:
        # Pages of generated code never come again: records of them would only fill memory.
        for long in (True, False):
            for side in guest_sides(pair) if as_guests else sides(pair, long):
                if isinstance(side.engine, Native):
                    side.engine._pages.keep_nothing()

    what = f"{' against '.join(pair)}, {'guests' if as_guests else 'bare'}"
    found = Campaign(what, first, many, explain, settle, Path(log) if log else None).run()
    assert not found, f"{len(found)} of {many} programs diverge; the first:\n{found[0]}"
