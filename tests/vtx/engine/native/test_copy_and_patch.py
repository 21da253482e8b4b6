"""The whole way: LLVM text, object, stencils, executable memory, and the code runs."""

import ctypes
import platform
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vtx.engine.native import compiler
from vtx.engine.native.arena import Arena
from vtx.engine.native.compiler import host_compiler
from vtx.engine.native.objects import ObjectCode, extract, parse_object
from vtx.engine.native.relocate import (
    HOST,
    RelocationError,
    link,
    place,
    prepare,
    unresolved,
    veneer,
    without_final_jump,
)

pytestmark = pytest.mark.skipif(
    not compiler.available() or platform.machine() != "x86_64", reason="run on x86-64 only"
)

MASK = (1 << 64) - 1

STENCILS = """
@SMALL = external dso_local global i8, !absolute_symbol !0
@DISP = external dso_local global i8, !absolute_symbol !1
@WIDE = external dso_local global i8, code_model "large", !absolute_symbol !2
@BYTE = external dso_local global i8, !absolute_symbol !3
declare dso_local preserve_nonecc void @C0(ptr, i64, i64)
declare dso_local preserve_nonecc void @C1(ptr, i64, i64)
declare dso_local preserve_mostcc i64 @slow(i64)

; b = load(state + DISP) ^ WIDE; a += SMALL
define dso_local preserve_nonecc void @first(ptr %state, i64 %a, i64 %b) nounwind {
  %p = getelementptr i8, ptr %state, i64 ptrtoint (ptr @DISP to i64)
  %v = load i64, ptr %p
  %x = xor i64 %v, ptrtoint (ptr @WIDE to i64)
  %y = add i64 %a, ptrtoint (ptr @SMALL to i64)
  musttail call preserve_nonecc void @C0(ptr %state, i64 %y, i64 %x) nounwind
  ret void
}
; a < BYTE: a = slow(a) and C1; else a += WIDE and C0
define dso_local preserve_nonecc void @second(ptr %state, i64 %a, i64 %b) nounwind {
  %less = icmp ult i64 %a, ptrtoint (ptr @BYTE to i64)
  br i1 %less, label %slowly, label %quickly, !prof !9
slowly:
  %r = call preserve_mostcc i64 @slow(i64 %a) nounwind
  musttail call preserve_nonecc void @C1(ptr %state, i64 %r, i64 %b) nounwind
  ret void
quickly:
  %x = add i64 %a, ptrtoint (ptr @WIDE to i64)
  musttail call preserve_nonecc void @C0(ptr %state, i64 %x, i64 %b) nounwind
  ret void
}
; state[0] = a; state[1] = b; state[2] = SMALL
define dso_local preserve_nonecc void @third(ptr %state, i64 %a, i64 %b) nounwind {
  store i64 %a, ptr %state
  %p = getelementptr i8, ptr %state, i64 8
  store i64 %b, ptr %p
  %q = getelementptr i8, ptr %state, i64 16
  store i64 ptrtoint (ptr @SMALL to i64), ptr %q
  ret void
}
!0 = !{i64 0, i64 65536}
!1 = !{i64 -2147483648, i64 2147483648}
!2 = !{i64 -1, i64 -1}
!3 = !{i64 0, i64 128}
!9 = !{!"branch_weights", i32 1, i32 1000}
"""

ROUTINES = """
declare dso_local preserve_nonecc void @start(ptr, i64, i64)
define dso_local void @enter(ptr %state, i64 %a) nounwind {
  call preserve_nonecc void @start(ptr %state, i64 %a, i64 0) nounwind
  ret void
}
define dso_local preserve_mostcc i64 @slow(i64 %a) nounwind {
  %r = mul i64 %a, 1000003
  ret i64 %r
}
; Its table and its constant lie in other sections of the object.
define dso_local double @tabled(i64 %n, double %x) nounwind {
  switch i64 %n, label %none [
    i64 0, label %zero
    i64 1, label %one
    i64 2, label %two
    i64 3, label %three
    i64 4, label %four
  ]
zero:
  ret double %x
one:
  %a = fadd double %x, 3.25
  ret double %a
two:
  %b = fmul double %x, 1.5
  ret double %b
three:
  %c = fdiv double %x, 0.75
  ret double %c
four:
  %d = fsub double %x, 100.0
  ret double %d
none:
  ret double -1.0
}
"""

WIDE = 0xFEDC_BA98_7654_3210


class Placed:
    """The three stencils one after another in an arena, for holes of given values."""

    def __init__(self, small: int, displacement: int, wide: int, byte: int, *, cut: bool) -> None:
        self.arena = Arena(1 << 16)
        stencils = {name: extract(CODE, name) for name in ("first", "second", "third")}
        if cut:
            shorter = without_final_jump(stencils["first"])
            assert shorter is not None and shorter[1] == "C0"
            stencils["first"] = shorter[0]
        slow = self._routines({"start": self.arena.base})["slow"]
        alignment = 1 if cut else 16
        places = {name: self.arena.allocate(len(s.code), alignment) for name, s in stencils.items()}
        at = {name: self.arena.base + offset for name, offset in places.items()}
        holes = {"SMALL": small, "DISP": displacement, "WIDE": wide, "BYTE": byte, "slow": slow}
        follows = {"first": "second", "second": "third", "third": "third"}
        for name, stencil in stencils.items():
            values = holes | {"C0": at[follows[name]], "C1": at["third"]}
            place(prepare(stencil), self.arena.view, places[name], at[name], values)
        enter = self._routines({"start": at["first"]})["enter"]
        self.arena.flush(0, self.arena.used)
        self._enter = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint64)(enter)

    def _routines(self, symbols: dict[str, int]) -> dict[str, int]:
        return _linked(parse_object(ROUTINES_OBJECT), self.arena, symbols)

    def run(self, a: int, loaded: int, displacement: int) -> tuple[int, int, int]:
        words = (ctypes.c_uint64 * 64)()
        words[32 + displacement // 8] = loaded
        state = ctypes.addressof(words) + 32 * 8
        self._enter(state, a)
        return words[32], words[33], words[34]


def _linked(code: ObjectCode, arena: Arena, symbols: dict[str, int]) -> dict[str, int]:
    start = arena.append(code.code, code.alignment)
    return link(code, arena.view, start, arena.base + start, symbols)


CODE = parse_object(host_compiler().compile(STENCILS)) if compiler.available() else None
ROUTINES_OBJECT = host_compiler().compile(ROUTINES) if compiler.available() else b""


@pytest.mark.parametrize("cut", [False, True])
@settings(max_examples=60, deadline=None)
@given(
    small=st.integers(0, 65535),
    slot=st.integers(-32, 31),
    wide=st.integers(0, MASK),
    byte=st.integers(0, 127),
    a=st.one_of(st.integers(0, MASK), st.integers(0, 200)),
    loaded=st.integers(0, MASK),
)
def test_patched_stencils_compute_with_the_values_of_their_holes(
    cut: bool, small: int, slot: int, wide: int, byte: int, a: int, loaded: int
) -> None:
    placed = Placed(small, slot * 8, wide, byte, cut=cut)
    x = (a + small) & MASK
    x = x * 1000003 & MASK if x < byte else (x + wide) & MASK
    assert placed.run(a, loaded, slot * 8) == (x, loaded ^ wide, small)


def test_each_branch_of_a_stencil_is_reached() -> None:
    placed = Placed(5, 0, WIDE, 100, cut=False)
    assert placed.run(94, 0, 0)[0] == 99 * 1000003
    assert placed.run(95, 0, 0)[0] == 100 + WIDE


def test_a_hole_beyond_its_range_is_refused() -> None:
    with pytest.raises(RelocationError, match="DISP"):
        Placed(0, 1 << 31, 0, 0, cut=False)
    with pytest.raises(RelocationError, match="BYTE"):
        Placed(0, 0, 0, 128, cut=False)


def test_a_linked_object_finds_its_tables_and_constants() -> None:
    arena = Arena(1 << 16)
    arena.append(b"\xcc")
    at = _linked(parse_object(ROUTINES_OBJECT), arena, {"start": arena.base})["tabled"]
    tabled = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_uint64, ctypes.c_double)(at)
    assert [tabled(n, 6.0) for n in range(6)] == [6.0, 9.25, 9.0, 8.0, -94.0, -1.0]


def test_an_object_with_a_symbol_of_no_value_is_refused() -> None:
    code = parse_object(ROUTINES_OBJECT)
    assert unresolved(code.relocations) == {"start"}
    with pytest.raises(RelocationError, match="start has no value"):
        _linked(code, Arena(1 << 16), {})


def test_a_veneer_reaches_a_function_far_away() -> None:
    callback_type = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64)
    callback: Callable[[int], int] = callback_type(lambda value: value + 1)
    target = ctypes.cast(callback, ctypes.c_void_p).value  # type: ignore[arg-type]
    assert target is not None
    arena = Arena(4096)
    start = arena.append(veneer(target, HOST))
    assert callback_type(arena.base + start)(41) == 42
