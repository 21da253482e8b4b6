"""`vtx asm`."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from elftools.elf.elffile import ELFFile

Cli = Callable[..., Result]

SOURCE = """.intel_syntax noprefix
.globl _start
_start:
    mov eax, 42
    hlt
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "guest.s"
    path.write_text(SOURCE)
    return path


def kind_of(path: Path) -> str:
    return str(ELFFile(io.BytesIO(path.read_bytes())).header["e_type"])


def test_source_becomes_an_executable(cli: Cli, source: Path, tmp_path: Path) -> None:
    result = cli("asm", source, "-o", tmp_path / "guest.elf")

    assert (result.exit_code, result.output) == (0, "")
    assert kind_of(tmp_path / "guest.elf") == "ET_EXEC"


def test_c_makes_a_relocatable_object(cli: Cli, source: Path, tmp_path: Path) -> None:
    assert cli("asm", "-c", source, "-o", tmp_path / "guest.o").exit_code == 0
    assert kind_of(tmp_path / "guest.o") == "ET_REL"


def test_a_listing_shows_bytes_beside_lines(cli: Cli, source: Path, tmp_path: Path) -> None:
    cli("asm", source, "-o", tmp_path / "guest.elf", "--listing", tmp_path / "guest.lst")

    lines = (tmp_path / "guest.lst").read_text().splitlines()
    assert any("mov eax, 42" in line and "b82a000000" in line.replace(" ", "") for line in lines)


def test_include_directories_and_symbols_reach_the_source(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "inc").mkdir()
    (tmp_path / "inc" / "more.inc").write_text("mov ebx, WHAT\n")
    path = tmp_path / "guest.s"
    path.write_text('.intel_syntax noprefix\n.include "more.inc"\n')
    result = cli("asm", path, "-o", tmp_path / "out", "-I", tmp_path / "inc", "-D", "WHAT=0x1234")

    assert result.exit_code == 0
    assert b"\xbb\x34\x12\x00\x00" in (tmp_path / "out").read_bytes()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "bad.s:1:1: error: "),
        (".intel_syntax noprefix\nmov eax,\n", "bad.s:2:"),
        ('.include "bad.s"\n', "error: "),
        ("call nowhere\n", "nowhere"),
    ],
)
def test_a_bad_source_is_told_by_file_line_and_column(
    cli: Cli, tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "bad.s"
    path.write_text(text)
    result = cli("asm", path, "-o", tmp_path / "out")

    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stdout == ""
    assert not (tmp_path / "out").exists()


def test_files_that_cannot_be_used_are_one_line(cli: Cli, source: Path, tmp_path: Path) -> None:
    for arguments in (
        ("asm", tmp_path / "none.s", "-o", tmp_path / "out"),
        ("asm", tmp_path, "-o", tmp_path / "out"),
        ("asm", source, "-o", tmp_path / "no" / "out"),
        ("asm", source, "-o", tmp_path / "out", "--listing", tmp_path / "no" / "list"),
        ("asm", source, "-o", tmp_path / "out", "-D", "1x"),
    ):
        result = cli(*arguments)
        assert result.exit_code == 2
        assert result.stderr.startswith("vtx: error: ")
        assert result.stderr.count("\n") == 1
