"""Instruction bytes as Intel text."""

from __future__ import annotations

import pytest

from vtx.trace.disassemble import disassemble


@pytest.mark.parametrize(
    ("code", "bitness", "length", "text"),
    [
        ("0fa2", 64, 2, "cpuid"),
        ("488b4710", 64, 4, "mov rax, [rdi+0x10]"),
        ("b80a000000", 32, 5, "mov eax, 0xa"),
        ("b80a00", 16, 3, "mov ax, 0xa"),
        ("eefeff", 64, 1, "out dx, al"),
    ],
)
def test_the_first_instruction_is_spelled_in_intel_syntax(
    code: str, bitness: int, length: int, text: str
) -> None:
    assert disassemble(bytes.fromhex(code), 0x1000, bitness) == (length, text)


def test_a_branch_target_is_absolute() -> None:
    assert disassemble(b"\xeb\xfe", 0xFFFFFFFF80000000)[1] == "jmp short 0xffffffff80000000"


@pytest.mark.parametrize("code", [b"", b"\x0f", b"\x48\x8b", b"\xff\xff"])
def test_bytes_that_are_no_whole_instruction_are_bad(code: bytes) -> None:
    assert disassemble(code, 0) == (0, "(bad)")
