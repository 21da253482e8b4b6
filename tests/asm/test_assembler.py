"""Files, includes, definitions and the order in which statements take effect."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

import asm


def text_of(result: asm.Assembly, section: str = ".text") -> bytes:
    return bytes(ELFFile(io.BytesIO(result.elf())).get_section_by_name(section).data())


def code(source: str, **options: object) -> bytes:
    return text_of(asm.assemble(source, name="t.s", **options))  # type: ignore[arg-type]


def test_an_included_file_is_found_beside_the_source_then_in_the_directories(
    tmp_path: Path,
) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "far.inc").write_text(".byte 3\n")
    (tmp_path / "near.inc").write_text('.byte 2\n.include "far.inc"\n')
    (tmp_path / "data.bin").write_bytes(b"\x07\x08\x09")
    main = tmp_path / "main.s"
    main.write_text('.byte 1\n.include "near.inc"\n.incbin "data.bin", 1, 1\n.byte 4\n')

    result = asm.assemble_file(main, include=[tmp_path / "lib"])

    assert text_of(result) == bytes([1, 2, 3, 8, 4])


def test_a_recursive_include_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "a.s").write_text('nop\n.include "b.inc"\n')
    (tmp_path / "b.inc").write_text('nop\n .include "a.s"\n')

    with pytest.raises(asm.AssemblyErrors) as caught:
        asm.assemble_file(tmp_path / "a.s")

    error = caught.value.diagnostics[0]
    assert (error.file, error.line) == (str(tmp_path / "b.inc"), 2)
    assert error.message == "'a.s' includes itself (a.s -> b.inc -> a.s)"


def test_an_error_in_an_included_file_names_that_file(tmp_path: Path) -> None:
    (tmp_path / "a.s").write_text('.include "b.inc"\nfoo eax\n')
    (tmp_path / "b.inc").write_text("nop\nbar ebx\n")

    with pytest.raises(asm.AssemblyErrors) as caught:
        asm.assemble_file(tmp_path / "a.s")

    places = [(Path(e.file).name, e.line) for e in caught.value.diagnostics]
    assert places == [("b.inc", 2), ("a.s", 2)]


def test_a_missing_file_is_an_assembly_error(tmp_path: Path) -> None:
    with pytest.raises(asm.AssemblyErrors, match="No such file"):
        asm.assemble_file(tmp_path / "none.s")


def test_definitions_are_numbers_or_expressions_and_may_be_redefined() -> None:
    defines = {"A": 5, "B": "0x10 + 1", "C": ""}

    assert code(".byte A, B, C\n.set A, 6\n.byte A", defines=defines) == bytes([5, 17, 1, 6])
    with pytest.raises(asm.AssemblyErrors, match="-D X"):
        code("nop", defines={"X": "1 +"})


def test_end_stops_the_source() -> None:
    assert code(".byte 1\n.end\n.byte 2\nnonsense here\n") == b"\x01"


def test_dot_assignment_moves_the_place() -> None:
    assert code(".byte 1\n. = . + 3\n.byte 2") == bytes([1, 0, 0, 0, 2])


def test_a_common_symbol_gets_zeroed_storage() -> None:
    result = asm.assemble("nop\n.comm buffer, 100, 32\n.data\n.quad buffer", name="t.s")

    assert result.address_of("buffer") % 32 == 0
    assert text_of(result, ".data") == result.address_of("buffer").to_bytes(8, "little")
    assert result.symbols["buffer"].is_global


def test_slashes_and_blocks_are_comments_and_semicolons_separate() -> None:
    source = "nop // one\nnop /* two\n*/ nop # three\n.ascii \"//;#\" ; .byte ';', '#' # four\n"

    assert code(source) == b"\x90\x90\x90//;#;#"


def test_case_does_not_matter_for_words_of_the_language() -> None:
    assert code("MOV EAX, DWORD PTR [RBX]\n.BYTE 1 SHL 2") == bytes([0x8B, 0x03, 4])


def test_addresses_of_an_equated_label_follow_layout() -> None:
    source = "lea rax, [rip + alias]\njmp 1f\n.skip 200\n1: nop\nalias = 1b\n"

    assert code(source)[:7] == b"\x48\x8d\x05" + (205).to_bytes(4, "little")


def test_short_jumps_grow_only_when_they_must() -> None:
    assert len(code("jmp 1f\n.skip 127\n1: nop")) == 2 + 127 + 1
    assert len(code("jmp 1f\n.skip 128\n1: nop")) == 5 + 128 + 1
    assert len(code("1: .skip 126\n jz 1b")) == 126 + 2
    assert len(code("1: .skip 127\n jz 1b")) == 127 + 6
    assert len(code(".code16\njmp 1f\n.skip 128\n1: nop")) == 3 + 128 + 1


def test_twenty_thousand_lines_assemble() -> None:
    body = "1: mov rax, [rbx + rcx * 8 + 16]\n add rax, 5\n jnz 1b\n call f\n"

    assert len(code(body * 5000 + "f: ret")) == 5000 * (5 + 4 + 2 + 5) + 1
