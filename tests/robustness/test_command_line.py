"""What people get wrong on the command line is told in one line, with the right exit status."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from command_answers import Answer
from guest_files import GUESTS, image

HELLO = GUESTS / "hello" / "hello.s"
Answers = Callable[..., Answer]


def elf64(*segments: tuple[int, int]) -> bytes:
    """An ELF64 executable whose segments are (physical address, size)."""
    headers = b"".join(
        struct.pack("<IIQQQQQQ", 1, 7, 0, place, place, 64, size, 1) for place, size in segments
    )
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    entry = segments[0][0]
    fixed = struct.pack(
        "<HHIQQQIHHHHHH", 2, 62, 1, entry, 64, 0, 0, 64, 56, len(segments), 64, 0, 0
    )
    return ident + fixed + headers + bytes(64)


IMAGES = {
    "empty": b"",
    "text": b"#!/bin/sh\necho no image\n",
    "magic": b"\x7fELF",
    "header": image("hello")[:64],
    "cut": image("hello")[:200],
    "outside": elf64((8 << 20, 4096)),
    "large": elf64((1 << 20, 1 << 40)),
    "wraps": elf64((0xFFFF_FFFF_FFFF_F000, 0x2000)),
    "overlap": elf64((1 << 20, 0x3000), (0x10_1000, 0x1000)),
}


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("style", ["bare", "ept", "shadow"])
def test_an_image_that_cannot_be_loaded_is_one_line(
    name: str, style: str, tmp_path: Path, vtx_answers: Answers
) -> None:
    path = tmp_path / f"{name}.elf"
    path.write_bytes(IMAGES[name])

    answer = vtx_answers("run", path, "--vmm", style, "-m", "4M", "--max-instructions", "100")

    assert (answer.status, len(answer.errors)) == (2, 1), answer
    assert answer.errors[0].startswith("vtx: error: ")
    assert path.name in answer.errors[0]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--vmm", "xen"),
        ("--vmm", ""),
        ("--vmm", "nowhere.py:Mine"),
        ("--vmm", f"{HELLO}:Mine"),
        ("--cpu", "z80"),
        ("--engine", "turbo"),
        ("-m", "much"),
        ("-m", "-1"),
        ("-m", "0"),
        ("-m", "1000001"),
        ("--max-instructions", "0"),
        ("--max-instructions", "many"),
        ("-initrd", "nowhere.img"),
        ("-initrd", "/"),
        ("--module", "nowhere.img quiet"),
        ("--module", ""),
        ("--input", "nowhere.txt"),
        ("--trace", "/nowhere/trace.jsonl"),
        ("--trace", "/"),
        ("-serial", "file:/nowhere/console"),
        ("-D", "1x=2"),
        ("-I",),
        ("--no-such-option",),
        ("another.elf",),
    ],
)
def test_an_option_that_cannot_be_used_is_one_line(
    arguments: tuple[str, ...], vtx_answers: Answers
) -> None:
    answer = vtx_answers("run", HELLO, *arguments)

    assert (answer.status, len(answer.errors)) == (2, 1), answer


SOURCES = {
    "undefined": ".intel_syntax noprefix\n.globl _start\n_start: call nowhere\n",
    "recursive": '.include "recursive.s"\n',
    "endless": ".macro again\nagain\n.endm\nagain\n",
    "missing": '.include "nowhere.inc"\n',
    "open": ".macro x\nnop\n",
    "huge": ".rept 100000000\n.quad 0\n.endr\n",
    "binary": "\x00\x01\x02\n",
    "no entry": ".intel_syntax noprefix\nfoo\n",
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_that_cannot_be_assembled_is_diagnosed(
    name: str, tmp_path: Path, vtx_answers: Answers
) -> None:
    path = tmp_path / f"{name}.s"
    path.write_text(SOURCES[name])

    answer = vtx_answers("run", path, "--max-instructions", "100")

    assert answer.status == 2, answer
    assert "error: " in answer.errors[0]
    assert f"{name}.s" in answer.errors[0]


@pytest.mark.parametrize("name", ["nowhere.elf", "nowhere.s", ""])
def test_a_path_that_is_no_file_is_one_line(
    name: str, tmp_path: Path, vtx_answers: Answers
) -> None:
    answer = vtx_answers("run", tmp_path / name)

    assert (answer.status, len(answer.errors)) == (2, 1), answer


def test_an_empty_source_does_not_end_in_a_traceback(tmp_path: Path, vtx_answers: Answers) -> None:
    path = tmp_path / "empty.s"
    path.write_text("")

    answer = vtx_answers("run", path, "--max-instructions", "100")

    assert (answer.status, len(answer.errors)) == (2, 1), answer


BROKEN = """
from vtx.vmm import Ept

class Broken(Ept):
    def set_up(self):
        super().set_up()
        self.port.vmwrite("{field}", {value})

class Raises(Ept):
    def handle_io_instruction(self, exit):
        return 1 / 0

class NotReady(Ept):
    def set_up(self):
        raise ValueError("two\\nlines")

class NoVmm:
    pass
"""


@pytest.mark.parametrize(
    ("field", "value"), [("VMCS_LINK_POINTER", 0x1234), ("HOST_CR4", 0), ("EPT_POINTER", 0)]
)
def test_a_vm_entry_that_fails_is_one_line_and_status_6(
    field: str, value: int, tmp_path: Path, vtx_answers: Answers
) -> None:
    path = tmp_path / "broken.py"
    path.write_text(BROKEN.format(field=field, value=value))

    answer = vtx_answers("run", HELLO, "--vmm", f"{path}:Broken", "-serial", "none")

    assert (answer.status, len(answer.errors)) == (6, 1), answer


@pytest.mark.parametrize(("name", "status"), [("Raises", 8), ("NotReady", 2), ("NoVmm", 2)])
def test_a_users_vmm_that_is_wrong_is_one_line(
    name: str, status: int, tmp_path: Path, vtx_answers: Answers
) -> None:
    path = tmp_path / "users.py"
    path.write_text(BROKEN.format(field="VPID", value=1))

    answer = vtx_answers("run", HELLO, "--vmm", f"{path}:{name}", "-serial", "none")

    assert (answer.status, len(answer.errors)) == (status, 1), answer
