"""Functions compiled by `words` mean what their Python text says, modulo two to the 64."""

import ctypes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vtx.engine.choice import native_problem
from vtx.engine.native.arena import Arena
from vtx.engine.native.compiler import host_compiler
from vtx.engine.native.objects import parse_object
from vtx.engine.native.relocate import link
from vtx.engine.native.words import (
    WordsError,
    below,
    i8,
    module_text,
    put16,
    u8,
    u16,
    u64,
)

pytestmark = pytest.mark.skipif(native_problem() is not None, reason=str(native_problem()))

WRAP = (1 << 64) - 1
LARGE = 0x9E37_79B9_7F4A_7C15


def mixed(a: int, b: int) -> int:
    """Every operator."""
    c = (a + b) * LARGE ^ (a & 0xFFFF | b << 3)
    c -= b >> 60
    return c + (a == b) + (a != 3) * 2


def ordered(a: int, b: int) -> int:
    """Comparisons, `and`, `or` and `not`."""
    if a < b and not below(a, b):
        return 1
    if below(a, b) or a == -1:
        return 2
    return 3


def summed(a: int, b: int) -> int:
    """Of the bytes from `a` to `b`, without zeros, up to one that is 255; and of what it calls."""
    total = 0
    while a != b:
        a += 1
        if u8(a - 1) == 255:
            break
        if u8(a - 1) == 0:
            continue
        total += signed(a - 1)
    return total


def signed(a: int) -> int:
    """The number there with its sign."""
    return i8(a)


def written(a: int, b: int) -> int:
    """Write sixteen bits, and read around them."""
    put16(a, b)
    return u64(a) + u16(a)


VISIBLE = (mixed, ordered, summed, written)
_Call = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint64)


@pytest.fixture(scope="module")
def run() -> object:
    """Calls a function of VISIBLE."""
    code = parse_object(host_compiler().compile(module_text((*VISIBLE, signed), VISIBLE)))
    arena = Arena(1 << 16)
    start = arena.append(code.code, code.alignment)
    places = link(code, arena.view, start, arena.base + start, {})
    arena.flush(start, len(code.code))
    return lambda function, a, b: (arena, _Call(places[function.__name__])(a, b))[1]


words = st.one_of(st.integers(0, WRAP), st.integers(0, 3), st.integers(WRAP - 3, WRAP))


@settings(max_examples=200, deadline=None)
@given(a=words, b=words)
def test_operators_wrap(run: object, a: int, b: int) -> None:
    assert callable(run)
    c = ((a + b) * LARGE ^ (a & 0xFFFF | b << 3)) - (b >> 60)
    assert run(mixed, a, b) == c + (a == b) + (a != 3) * 2 & WRAP


@settings(max_examples=200, deadline=None)
@given(a=words, b=words)
def test_comparisons_have_a_sign_unless_they_say_otherwise(run: object, a: int, b: int) -> None:
    assert callable(run)
    with_sign = [x - (1 << 64) if x >> 63 else x for x in (a, b)]
    expected = 1 if with_sign[0] < with_sign[1] and a >= b else 2 if a < b or a == WRAP else 3
    assert run(ordered, a, b) == expected


def test_loops_memory_and_calls(run: object) -> None:
    assert callable(run)
    buffer = (ctypes.c_uint8 * 16)(1, 0, 2, 0x80, 5, 255, 7)
    start = ctypes.addressof(buffer)
    assert run(summed, start, start + 5) == 1 + 2 - 128 + 5 & WRAP
    assert run(summed, start, start + 7) == 1 + 2 - 128 + 5 & WRAP
    assert run(summed, start, start) == 0
    assert run(written, start + 8, 0x1_2345) == 2 * 0x2345


def test_what_is_not_allowed_is_refused_with_its_line() -> None:
    def floating(a: int) -> int:
        return a + len("x")[0]  # type: ignore[index]

    with pytest.raises(WordsError, match="floating, line 2"):
        module_text((floating,), ())
