"""Division of 128 bits on hosts that have no instruction for it."""

import ctypes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vtx.engine.native import compiler, pure
from vtx.engine.native.arena import Arena
from vtx.engine.native.helpers import HELPERS
from vtx.engine.native.objects import parse_object
from vtx.engine.native.relocate import link
from vtx.isa.primitives import PURE, Prim, apply
from vtx.isa.program import Op

pytestmark = pytest.mark.skipif(not compiler.available(), reason="LLVM is not here")

DIVISIONS = (Prim.UDIV, Prim.UREM, Prim.SDIV, Prim.SREM)
words = st.integers(0, (1 << 64) - 1) | st.sampled_from(
    [0, 1, 2, (1 << 63) - 1, 1 << 63, (1 << 63) + 1, (1 << 64) - 2, (1 << 64) - 1]
)


@pytest.fixture(scope="module")
def divide() -> dict[Prim, object]:
    """The four functions as code that does not use the host's wide division."""
    texts = [*HELPERS.values()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pure, "HAS_DIVQ", False)
        for prim in DIVISIONS:
            numbers = iter(range(1000))
            op = Op(prim, (9,), 64, (0, 1, 2))
            arguments = ["%a", "%b", "%c"]
            lines, result = pure.pure_lines(op, arguments, lambda n=numbers: f"%v{next(n)}")
            texts.append(f"define i64 @{prim.name}(i64 %a, i64 %b, i64 %c) nounwind {{")
            texts += [*lines, f"ret i64 {result}", "}"]
    assert not any("divq" in text for text in texts)
    code = parse_object(compiler.host_compiler().compile("\n".join(texts)))
    arena = Arena(1 << 16)
    start = arena.append(code.code, 16)
    functions = link(code, arena.view, start, arena.base + start, {})
    kind = ctypes.CFUNCTYPE(ctypes.c_uint64, *[ctypes.c_uint64] * 3)
    made: dict[Prim, object] = {prim: kind(functions[prim.name]) for prim in DIVISIONS}
    made[Prim.CONST] = arena  # lives as long as the functions
    return made


@pytest.mark.parametrize("prim", DIVISIONS)
@settings(max_examples=150, deadline=None)
@given(a=words, b=words, c=words)
def test_division_without_an_instruction_is_the_algebras(
    divide: dict[Prim, object], prim: Prim, a: int, b: int, c: int
) -> None:
    function = divide[prim]

    assert callable(function)
    assert prim in PURE
    assert function(a, b, c) == apply(prim, 64, 64, a, b, c)
