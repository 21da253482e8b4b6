"""The comparison notices an engine that gets one thing wrong, and the programs are what they say.

Each broken engine is wrong in one way only; some program among a fixed few must tell it apart.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest
from lockstep_broken import BROKEN
from lockstep_engines import factory
from lockstep_generate import generate
from lockstep_places import MODES
from lockstep_program import place
from lockstep_run import Divergence, Side, differ
from lockstep_shrink import shrink

from vtx.engine.reference import Reference

MOST = 60


@pytest.fixture(scope="module")
def right() -> Side:
    return Side("reference", factory("reference"))


def first_difference(right: Side, broken: type[Reference]) -> Divergence:
    wrong = Side(broken.__name__, broken)
    for number in range(MOST):
        for mode in ("long-0", "flat32-0", "long-3"):
            found = differ(generate(number, mode), right, wrong)
            if found is not None:
                return found
    pytest.fail(f"{broken.__name__}: {3 * MOST} programs told nothing")


@pytest.mark.parametrize("broken", BROKEN)
def test_an_engine_that_is_wrong_in_one_way_is_found(right: Side, broken: type[Reference]) -> None:
    found = first_difference(right, broken)
    assert found.words or found.memory or found.ended[0] != found.ended[1]
    assert f"seed {found.program.seed}" in str(found)


def test_a_python_error_in_an_engine_is_a_difference(right: Side) -> None:
    class Crashes(Reference):
        def run_block(self, room: int) -> bool:
            raise KeyError("lost")

    found = differ(generate(1, "long-0"), right, Side("crashes", Crashes))
    assert found is not None
    assert found.ended[1].startswith("KeyError")


def test_shrinking_keeps_the_difference_and_loses_pieces(right: Side) -> None:
    found = first_difference(right, BROKEN[0])
    wrong = Side("broken", BROKEN[0])
    fails: Callable[..., bool] = lambda p: differ(p, right, wrong) is not None  # noqa: E731
    small = shrink(found.program, fails)
    assert fails(small)
    assert len(small.pieces) < len(found.program.pieces)


@pytest.mark.parametrize("mode", MODES)
def test_a_seed_is_always_the_same_program(mode: str) -> None:
    assert generate(5, mode) == generate(5, mode)
    assert generate(5, mode) != generate(6, mode)


@pytest.mark.parametrize("mode", MODES)
def test_a_program_without_some_of_its_pieces_is_still_a_program(mode: str, right: Side) -> None:
    program = generate(9, mode)
    half = replace(program, pieces=program.pieces[::2])
    assert len(place(half).places) == len(half.pieces)
    assert differ(half, right, right) is None
