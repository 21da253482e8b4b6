"""A kernel in C, compiled by the system's compiler, boots as well: no image of our assembler."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.vtx.engines import QUICK_ENGINES
from vtx.vmm.compare import compare
from vtx.vmm.launch import RunOptions

SOURCE = Path(__file__).parents[2] / "guests" / "c"


def compiled(directory: Path) -> bytes:
    """The kernel's ELF image. Skips where no compiler can make one for x86-64."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs gcc")
    machine = subprocess.run([compiler, "-dumpmachine"], capture_output=True, text=True, check=True)
    if not machine.stdout.startswith("x86_64"):
        pytest.skip(f"needs a compiler for x86-64, not {machine.stdout.strip()}")
    image = directory / "kernel.elf"
    flags = (SOURCE / "flags.txt").read_text().split()
    command = [compiler, *flags, "-o", str(image), str(SOURCE / "kernel.c")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return image.read_bytes()


@QUICK_ENGINES
def test_a_kernel_in_c_ends_equally_in_every_style(tmp_path: Path, engine: str) -> None:
    image = compiled(tmp_path)
    options = RunOptions(
        image=image,
        image_name="kernel.elf",
        engine=engine,
        memory=16 << 20,
        max_instructions=2_000_000,
    )
    found = compare(options, ["bare", "ept", "shadow"])

    assert found.differences == []
    for run in found.runs:
        assert (run.ended, run.exit_status) == ("power_off", 0), run.message
        assert b"\n" in run.console
