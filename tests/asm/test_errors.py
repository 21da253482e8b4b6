"""Mistakes are shown with file, line, column, the line and a caret."""

from __future__ import annotations

import pytest

import asm


def errors_of(source: str, **options: object) -> list[asm.Diagnostic]:
    with pytest.raises(asm.AssemblyErrors) as caught:
        asm.assemble(source, name="t.s", **options).elf()  # type: ignore[arg-type]
    return caught.value.diagnostics


def only_error(source: str) -> asm.Diagnostic:
    errors = errors_of(source)
    assert len(errors) == 1, [str(error) for error in errors]
    return errors[0]


def test_an_error_shows_file_line_column_source_and_caret() -> None:
    error = only_error("nop\n    mvo eax, ebx  # typo\n")

    assert str(error) == (
        "t.s:2:5: error: unknown instruction 'mvo'; did you mean 'cmovo', 'mov'?\n"
        "        mvo eax, ebx  # typo\n"
        "        ^"
    )


@pytest.mark.parametrize(
    ("line", "at", "message"),
    [
        ("mov rax rbx", "rbx", "unexpected 'rbx'"),
        ("mov eax, rbx", "rbx", "no form of 'mov' takes these operands"),
        ("mov [rax], 5", "[rax]", "operand size of 'mov' is ambiguous"),
        ("mov eax, [rbx, 5", ", 5", "'[' is never closed"),
        ("mov eax, byte [rbx]", "byte", "write 'byte ptr [...]'"),
        ("mov eax, $1", "$1", "AT&T syntax"),
        ("lea rax, [rel foo]", "foo", "write [rip + symbol]"),
        ("lea rax, [rax + rbx * 3]", "[rax + rbx", "must be 1, 2, 4 or 8, not 3"),
        ("lea rax, [rbx + rsp * 2]", "rsp", "'rsp' cannot be an index register"),
        ("lea rax, [rbx - rcx]", "rcx", "'rcx' cannot be subtracted"),
        ("lea rax, [ebx + rcx]", "rcx", "differ in width"),
        ("lea rax, [rax + al]", "al]", "'al' cannot be used in an address"),
        ("add eax, 0x500000000", "0x5", "does not fit this operand"),
        ("cmp dword ptr [rbx], later", "later", "write 'offset later' for its address"),
        ("xor eax, ebx, ecx", "ecx", "takes 2 operand(s), not 3"),
        ("lock mov eax, ebx", "mov", "'mov' cannot be locked"),
        ("lock add eax, ebx", "add", "'lock' needs a memory operand"),
        ("pusha", "pusha", "in 64-bit code (it exists in 32-bit code)"),
        ("call far ptr foo", "far", "write selector:offset"),
        ("monitor eax, ecx, edx", "eax", "write 'addr32 monitor'"),
        (".code32\nmov ebx, rax", "rax", "'rax' does not exist in 32-bit code"),
        (".code16\nmov al, [r9]", "r9", "'r9' does not exist in 16-bit code"),
        ("mov eax, 'ab'", "b'", "one character"),
        (".byte 1, , 2", ", 2", "a value is missing"),
        (".long 5 / 0", "5 /", "division by zero"),
        ('.ascii "abc', '"abc', "unterminated string"),
        (".algin 4", ".algin", "unknown directive '.algin'; did you mean '.align'"),
        (".align 3", "3", "alignment 3 is not a power of 2"),
        (".p2align 40", "40", "out of range"),
        ('.section .x,"aq"', 'q"', "unknown section flag 'q'"),
        (".code99", ".code99", "unknown directive '.code99'"),
        (".error \"stop here\"", ".error", "stop here"),
        (".att_syntax", ".att_syntax", "AT&T syntax is not supported"),
        (".if foo", "foo", "depends on 'foo'"),
        (".skip foo - bar", ".skip", "must be a number"),
        (".incbin \"nothing.bin\"", "nothing", "cannot find 'nothing.bin'"),
        (".rept 2", ".rept", "no matching .endm or .endr"),
        (".endif", ".endif", ".endif without .if"),
        (".popsection", ".popsection", "without .pushsection"),
        (".exitm", ".exitm", "outside a macro"),
        ("jmp 7b", "7b", "no label '7:' before this"),
        (".octa 1 << 200 + x", "x", "depends on 'x'"),
        ("1: loop 1b + 1000", "loop", "out of range"),
        (".bss\n.byte 1", ".byte", "holds no bytes"),
    ],
)  # fmt: skip
def test_the_caret_stands_at_the_mistake(line: str, at: str, message: str) -> None:
    errors = errors_of(f"nop\n{line}")

    last = line.split("\n")[-1]
    assert message in errors[0].message
    assert errors[0].line == 1 + len(line.split("\n"))
    if not last.startswith((".error", ".att", ".if", ".pop", ".endif", ".exitm", ".rept", "1:")):
        assert last[errors[0].column - 1 :].startswith(at), str(errors[0])


def test_many_mistakes_are_reported_in_one_run_but_not_more_than_twenty() -> None:
    assert len(errors_of("mvo eax\nadd rbx\n.byte ,\n.foo\n")) == 4
    assert len(errors_of("mvo eax\n" * 50)) == 20


def test_a_mistake_in_a_macro_tells_where_the_macro_was_called() -> None:
    source = (
        ".macro inner r\n mov \\r, [rax\n.endm\n.macro outer\n inner ecx\n.endm\n nop\n outer\n"
    )

    error = only_error(source)

    assert (error.line, error.column) == (2, 15)
    assert error.source_line == " mov ecx, [rax"
    assert error.notes == (
        "t.s:5: note: in expansion of macro 'inner'",
        "t.s:8: note: in expansion of macro 'outer'",
    )


def test_an_undefined_symbol_is_reported_once_at_its_first_use() -> None:
    errors = errors_of("nop\n  call missing\n jmp missing\n lea rax, [rip + other]\n")

    assert [(e.line, e.column, e.message) for e in errors] == [
        (2, 8, "undefined symbol 'missing'"),
        (4, 18, "undefined symbol 'other'"),
    ]


def test_a_forward_label_that_never_comes_is_reported() -> None:
    assert "'3:' is referred to but does not follow" in only_error("jmp 3f").message


def test_a_symbol_defined_twice_tells_where_it_was_defined() -> None:
    error = only_error("a: nop\n\n a: nop")

    assert (error.line, error.column) == (3, 2)
    assert error.message == "symbol 'a' is already defined at t.s:1"


@pytest.mark.parametrize("source", ["", "\n\n", "# only a comment\n", ".globl x\n", ".align 1\n"])
def test_an_empty_source_is_an_error(source: str) -> None:
    assert only_error(source).message == "there is nothing to assemble: no code and no data"


def test_an_open_condition_and_an_open_comment_are_reported() -> None:
    assert only_error(".if 1\nnop").message == "this condition has no .endif"
    assert only_error("nop /* never\nclosed").message == "comment is never closed"


def test_a_symbol_that_depends_on_itself_is_reported() -> None:
    errors = errors_of(".set a, b + 1\n.set b, a + 1\n.long a\n")

    assert any("depends on itself" in error.message for error in errors)


def test_a_warning_does_not_stop_the_assembly() -> None:
    result = asm.assemble('.byte 300\n.warning "careful"\n', name="t.s")

    assert [w.message for w in result.warnings] == [
        "value 0x12c is truncated to 1 byte(s)",
        "careful",
    ]
    assert str(result.warnings[0]).startswith("t.s:1:1: warning: ")


def test_endless_recursion_and_repetition_end_with_an_error() -> None:
    assert "nested too deeply" in errors_of(".macro m\nm\n.endm\nm\n")[0].message
    assert "lines after expansion" in errors_of(".rept 10000000\nnop\n.endr\n")[-1].message
    assert "larger than" in errors_of(".org 0x100000000\nnop\n")[0].message


@pytest.mark.parametrize("line", ["lodsbb", "stosqq", "pushfqq", "lodsb eax, eax", "movsb eax"])
def test_a_size_is_said_once_and_string_operands_are_those_the_instruction_has(line: str) -> None:
    with pytest.raises(asm.AssemblyErrors):
        asm.assemble(f".intel_syntax noprefix\n_start: {line}\n", name="x.s")
