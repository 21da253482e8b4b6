"""Compiled code outlives its process, and whatever happens to the file costs time only."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vtx.engine.choice import native_problem

pytestmark = pytest.mark.skipif(native_problem() is not None, reason=str(native_problem()))

CHILD = """
import json, sys
from pathlib import Path
from vtx.vmm.launch import RunOptions, run
result = run(RunOptions(Path(sys.argv[1]).read_bytes(), "warm", style="bare", engine="native",
                        memory=4 << 20))
print(json.dumps({
    "same": [result.retired, result.exit_status, result.memory_sha256, result.registers],
    "notes": result.notes,
    "llvm": "llvmlite" in sys.modules,
    "semantics": "vtx.engine.native.stencil" in sys.modules,
}))
"""
PROGRAM = """
        .intel_syntax noprefix
        .code64
        .globl _start
_start: lea rsp, [rip + stack]
        mov ecx, 300
        xor eax, eax
again:  add eax, ecx
        push rax
        imul eax, eax, 7
        pop rdx
        shr rdx, 3
        sub eax, edx
        mov [rip + word], eax
        cmp eax, [rip + word]
        sete bl
        call next
        loop again
        mov al, 0x10
        out 0xf4, al
next:   inc rbx
        ret
        .bss
        .skip 256
stack:
word:   .skip 8
"""


@pytest.fixture(scope="module")
def start(
    assemble_source: Callable[[str], bytes], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str | Path], dict[str, Any]]:
    """Run the program in a process of its own, with its cache in the given directory."""
    image = tmp_path_factory.mktemp("image") / "warm.elf"
    image.write_bytes(assemble_source(PROGRAM))

    def run(directory: str | Path) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-c", CHILD, str(image)],
            env=os.environ | {"VTX_CACHE_DIR": str(directory)},
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        assert done.stderr == ""
        return dict(json.loads(done.stdout))

    return run


@pytest.fixture(scope="module")
def primed(
    start: Callable[[str | Path], dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[bytes, Any]:
    """The file that a first process leaves, and what that process came to."""
    directory = tmp_path_factory.mktemp("cache") / "below"
    first = start(directory)
    assert (first["llvm"], first["notes"]) == (True, [])
    return (directory / "native.cache").read_bytes(), first["same"]


def test_a_second_process_compiles_nothing(
    start: Callable[[str | Path], dict[str, Any]], primed: tuple[bytes, Any], tmp_path: Path
) -> None:
    content, expected = primed
    (tmp_path / "native.cache").write_bytes(content)

    second = start(tmp_path)

    assert (second["same"], second["notes"]) == (expected, [])
    assert not second["llvm"]
    assert (tmp_path / "native.cache").read_bytes() == content


@pytest.mark.parametrize("damage", ["changed", "stale"])
def test_a_file_that_cannot_be_used_is_written_anew(
    start: Callable[[str | Path], dict[str, Any]],
    primed: tuple[bytes, Any],
    tmp_path: Path,
    damage: str,
) -> None:
    content, expected = primed
    path = tmp_path / "native.cache"
    middle = len(content) // 2
    path.write_bytes(
        {
            "changed": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
            "stale": content[:8] + bytes(16) + content[24:],  # another version
        }[damage]
    )

    run = start(tmp_path)

    assert (run["same"], run["notes"]) == (expected, [])
    assert len(path.read_bytes()) >= len(content) - 64
    assert not start(tmp_path)["llvm"]


def test_a_directory_that_cannot_be_written_costs_no_result(
    start: Callable[[str | Path], dict[str, Any]], primed: tuple[bytes, Any], tmp_path: Path
) -> None:
    occupied = tmp_path / "occupied"
    occupied.write_text("a file where the directory should be")

    run = start(occupied)

    assert (run["same"], run["notes"]) == (primed[1], [])
    assert occupied.read_text() == "a file where the directory should be"
