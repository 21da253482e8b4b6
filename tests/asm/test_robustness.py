"""Whatever the source, the assembler gives an Assembly or AssemblyErrors, nothing else."""

from __future__ import annotations

from gnu_cases import CASES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import asm

_LINES = sorted({line for cases in CASES.values() for case in cases for line in case.split("\n")})
_VOCABULARY = r"""
[ ] ( ) , : + - * / rax eax st(0) offset dword ptr 1f 1b . ' " \ .if .else .endif .macro .endm .rept
9999 .irp .include .section .org .fill .align .bss .text -1 0xffffffffffffffff 99999999999999999999
{k1} {z} {1to8} lock rep jmp call mov lea .set foo = ; # /* */ .code32 .code16 .code64 .uleb128
.comm .size .type @function é % $ ! ~ << >> && || \@ \() .previous .popsection .subsection .incbin
.octa .ascii .exitm fs: es:[rdi] .end .purgem
"""
_WORDS = _VOCABULARY.split()

_NUMBERED = [
    "N: nop", "jmp Nb", ".section .x, N", "²: .byte N", '.section .x,"aMS",@progbits,N',
    ".text N", ".byte 0xN", ".codeN", "nop {1toN}", ".octa N", ".byte N", "mov eax, st(N)",
]  # fmt: skip
_cuts = st.tuples(st.integers(0, 200), st.integers(0, 4), st.sampled_from(["", "\n", *_WORDS]))


@st.composite
def mutated_sources(draw: st.DrawFn) -> str:
    """Real lines, cut and spliced with words of the language."""
    lines = draw(st.lists(st.sampled_from(_LINES), min_size=1, max_size=12))
    text = "\n".join(lines)
    for place, length, word in draw(st.lists(_cuts, max_size=6)):
        start = place * len(text) // 200
        text = text[:start] + word + text[start + length :]
    return text


def outcome(source: str, elf_class: int | None) -> str:
    """'ok', or the errors' text, which must be printable."""
    try:
        result = asm.assemble(source, name="fuzz.s", elf_class=elf_class)
        result.object()
        result.elf()
        result.listing()
    except asm.AssemblyErrors as errors:
        assert errors.diagnostics
        assert all(d.line >= 1 and d.column >= 1 for d in errors.diagnostics)
        return str(errors)
    return "ok"


_settings = settings(
    max_examples=500, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip


@_settings
@given(mutated_sources(), st.sampled_from([None, 32, 64]))
def test_mutated_sources_see_only_assembly_errors(source: str, elf_class: int | None) -> None:
    assert outcome(source, elf_class)


@_settings
@given(st.text(max_size=80))
def test_arbitrary_text_sees_only_assembly_errors(source: str) -> None:
    assert outcome(source, None)


@_settings
@given(st.binary(max_size=60), st.sampled_from([b"", b"mov eax, ", b".ascii ", b".byte "]))
def test_files_that_are_not_utf_8_see_only_assembly_errors(data: bytes, head: bytes) -> None:
    text = (head + data).decode("utf-8", "surrogateescape")

    outcome(text, None).encode()


def test_numbers_of_any_length_and_script_see_only_assembly_errors() -> None:
    long = "9" * 6000
    for digits in (long, "²", "٣", "1" * 20):
        for line in _NUMBERED:
            assert outcome(line.replace("N", digits), None)


def test_deep_nesting_sees_only_assembly_errors() -> None:
    for source in ("(" * 5000, "[" * 3000 + "]" * 3000, "- " * 20000 + "1", "1+" * 20000 + "1"):
        assert outcome(f".long {source}", None)
        assert outcome(f"mov eax, {source}", None)
    assert outcome(".if 1\n" * 5000, None)
    assert outcome('.include "x"\n' * 100, None)
