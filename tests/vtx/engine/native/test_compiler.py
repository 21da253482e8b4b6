"""Modules become objects of this host; what LLVM refuses becomes one line."""

import platform

import pytest

from vtx.engine.native import compiler
from vtx.engine.native.compiler import CompileError, description, host_compiler
from vtx.engine.native.objects import extract, parse_object

pytestmark = pytest.mark.skipif(not compiler.available(), reason="needs LLVM")

HOLE = """
@H = external dso_local global i8, {model}!absolute_symbol !0
!0 = !{{i64 {low}, i64 {high}}}
"""
ADDS = """
define i64 @f(i64 %a) nounwind {
  %r = add i64 %a, ptrtoint (ptr @H to i64)
  ret i64 %r
}
"""


@pytest.mark.parametrize("effort", range(4))
def test_every_effort_makes_an_object_with_the_function(effort: int) -> None:
    code = parse_object(
        host_compiler().compile("define i64 @f() nounwind {\n ret i64 3\n}", effort=effort)
    )
    assert code.functions["f"].size > 0


@pytest.mark.parametrize("effort", range(4))
def test_equal_text_makes_equal_objects(effort: int) -> None:
    text = HOLE.format(model="", low=0, high=128) + ADDS
    assert host_compiler().compile(text, effort=effort) == host_compiler().compile(
        text, effort=effort
    )


def test_from_effort_1_on_stack_slots_are_gone() -> None:
    text = """
define i64 @f(i64 %a) nounwind {
  %p = alloca i64
  store i64 %a, ptr %p
  %b = load i64, ptr %p
  ret i64 %b
}
"""
    sizes = [
        parse_object(host_compiler().compile(text, effort=effort)).functions["f"].size
        for effort in range(4)
    ]
    assert sizes[0] > sizes[1] == sizes[2] == sizes[3]


@pytest.mark.parametrize(
    "text",
    [
        "define i64 @f( {",
        "define i64 @f() { ret i32 0 }",
        "define i64 @f() {\n %a = add i64 %b, 1\n %b = add i64 %a, 1\n ret i64 %a\n}",
        "define i64 @f() {\n musttail call void @g()\n ret i64 0\n}\ndeclare void @g()",
    ],
)
def test_a_module_that_is_refused_gives_one_line(text: str) -> None:
    with pytest.raises(CompileError) as caught:
        host_compiler().compile(text)
    assert str(caught.value) and "\n" not in str(caught.value)


def test_an_effort_out_of_range_is_refused() -> None:
    with pytest.raises(CompileError, match="effort 4"):
        host_compiler().compile("", effort=4)


def test_there_is_one_compiler_and_its_description_names_the_host() -> None:
    assert host_compiler() is host_compiler()
    assert description().startswith("LLVM ") and "\n" not in description()


def test_a_host_of_another_architecture_has_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert not compiler.available()
    with pytest.raises(CompileError, match="riscv64"):
        compiler.HostCompiler()


def test_functions_that_do_not_unwind_leave_no_unwind_tables() -> None:
    text = "declare void @g()\ndefine void @f() {attributes} {{\n call void @g()\n ret void\n}}"
    assert b".eh_frame" not in host_compiler().compile(text.format(attributes="nounwind"))
    assert b".eh_frame" in host_compiler().compile(text.format(attributes="uwtable"))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="names x86-64 relocations")
@pytest.mark.parametrize(
    ("model", "low", "high", "kind"),
    [
        ("", 0, 65536, 11),
        ("", 0, 1 << 31, 11),
        ("", -(1 << 31), 1 << 31, 11),
        ('code_model "large", ', -1, -1, 1),
        # Without the model the full range is folded into a displacement of 32 bits.
        ("", -1, -1, 11),
    ],
)
def test_a_hole_of_a_range_is_added_with_the_field_the_docstring_says(
    model: str, low: int, high: int, kind: int
) -> None:
    code = parse_object(
        host_compiler().compile(HOLE.format(model=model, low=low, high=high) + ADDS)
    )
    assert [relocation.kind for relocation in extract(code, "f").relocations] == [kind]
