"""The files a guest is made of."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vtx.cli.errors import DiagnosedError, InputError
from vtx.cli.inputs import (
    SourceOptions,
    console_input,
    parse_defines,
    read_image,
    read_module,
)

SOURCE = ".intel_syntax noprefix\n_start: mov eax, WHAT\nhlt\n"


def test_an_image_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(b"\x7fELF")

    assert read_image(path, SourceOptions()) == b"\x7fELF"


@pytest.mark.parametrize("suffix", [".s", ".S", ".asm"])
def test_source_is_assembled_with_its_symbols(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"guest{suffix}"
    path.write_text(SOURCE)

    image = read_image(path, SourceOptions(defines=(("WHAT", "0x1234"),)))
    assert image.startswith(b"\x7fELF")
    assert b"\xb8\x34\x12\x00\x00\xf4" in image


def test_source_with_errors_is_told_by_the_assembler(tmp_path: Path) -> None:
    path = tmp_path / "bad.s"
    path.write_text(".intel_syntax noprefix\nnonsense eax\n")

    with pytest.raises(DiagnosedError, match=r"bad.s:2:1: error: "):
        read_image(path, SourceOptions())


def test_an_undefined_symbol_is_told_by_the_assembler(tmp_path: Path) -> None:
    path = tmp_path / "bad.s"
    path.write_text(".intel_syntax noprefix\ncall nowhere\n")

    with pytest.raises(DiagnosedError, match="nowhere"):
        read_image(path, SourceOptions())


def test_a_missing_source_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^cannot read .*none.s: No such file or directory$"):
        read_image(tmp_path / "none.s", SourceOptions())


def test_a_directory_and_a_name_with_a_zero_byte_are_no_images(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Is a directory"):
        read_image(tmp_path, SourceOptions())
    with pytest.raises(InputError, match="null"):
        read_image(tmp_path / "a\0b", SourceOptions())


def test_a_module_is_a_file_and_its_command_line(tmp_path: Path) -> None:
    path = tmp_path / "module"
    path.write_bytes(b"data")

    assert read_module(f"{path} one two") == (b"data", f"{path} one two")
    assert read_module(str(path)) == (b"data", str(path))
    with pytest.raises(InputError):
        read_module("")


def test_a_define_is_a_name_with_a_value_or_1() -> None:
    assert parse_defines(["A=0x10", "_b.c=", "D", "E=x=y"]) == {
        "A": "0x10",
        "_b.c": "",
        "D": "1",
        "E": "x=y",
    }


@pytest.mark.parametrize("text", ["", "=1", "1A=2", "a b=1", "a-b=1"])
def test_a_define_without_a_symbol_name_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="no symbol name"):
        parse_defines([text])


def test_console_input_comes_from_the_file_named(tmp_path: Path) -> None:
    path = tmp_path / "typed"
    path.write_bytes(b"hello\r")

    assert console_input(str(path)) == b"hello\r"
    with pytest.raises(InputError):
        console_input(str(tmp_path / "none"))


PROBE = (
    "import vtx.cli.inputs as i, sys; i.FIRST_BYTE_WAIT = 0.1\n"
    "sys.stdout.buffer.write(i.console_input(sys.argv[1] if sys.argv[1:] else None))"
)


def probe(*arguments: str, stdin: object) -> tuple[bytes, bytes]:
    done = subprocess.run(  # type: ignore[call-overload]
        [sys.executable, "-c", PROBE, *arguments],
        stdin=stdin,
        capture_output=True,
        timeout=60,
        check=True,
    )
    return done.stdout, done.stderr


def test_standard_input_from_a_file_is_console_input(tmp_path: Path) -> None:
    path = tmp_path / "typed"
    path.write_bytes(b"\x00hello\xff")
    with path.open("rb") as file:
        assert probe(stdin=file) == (b"\x00hello\xff", b"")


def test_standard_input_from_a_pipe_is_console_input() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"hello")
    os.close(writer)

    assert probe(stdin=reader) == (b"hello", b"")
    os.close(reader)


def test_no_standard_input_is_no_console_input() -> None:
    assert probe(stdin=subprocess.DEVNULL) == (b"", b"")


def test_a_pipe_that_nobody_writes_to_does_not_stop_the_run() -> None:
    reader, writer = os.pipe()
    try:
        found, said = probe(stdin=reader)
    finally:
        os.close(writer)
        os.close(reader)

    assert found == b""
    assert said.startswith(b"vtx: note: nothing came on standard input")


def test_a_dash_waits_for_the_end_of_standard_input() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"late")
    os.close(writer)

    assert probe("-", stdin=reader) == (b"late", b"")
    os.close(reader)
