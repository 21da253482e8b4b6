"""An ELF of gcc and ld with an odd layout boots: physical and virtual addresses differ, some
segments have no bytes, and the entry lies in the middle."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from tests.foreign.elf32 import as_elf32
from tests.vtx.engines import QUICK_ENGINES
from vtx.vmm.compare import compare
from vtx.vmm.launch import RunOptions

HERE = Path(__file__).parent
FLAGS = [
    "-m64", "-O2", "-ffreestanding", "-fno-pic", "-fno-stack-protector", "-mcmodel=kernel",
    "-mno-red-zone", "-mgeneral-regs-only", "-fno-asynchronous-unwind-tables",
    "-fcf-protection=none", "-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none",
    "-Wl,-z,max-page-size=4096",
]  # fmt: skip


def compiled(directory: Path) -> bytes:
    """The kernel as the system's compiler makes it; skips where there is none for x86-64."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    image = directory / "kernel.elf"
    sources = [str(HERE / "higher_half.c"), str(HERE / "higher_half_boot.S")]
    command = ["gcc", *FLAGS, f"-T{HERE / 'higher_half.ld'}", *sources, "-o", str(image)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"gcc makes no x86-64 kernel here: {done.stderr.splitlines()[0]}")
    return image.read_bytes()


@QUICK_ENGINES
@pytest.mark.parametrize("elf_class", [64, 32])
def test_a_higher_half_kernel_boots_in_every_style(
    elf_class: int, engine: str, tmp_path: Path
) -> None:
    image = compiled(tmp_path)
    loads = [s for s in ELFFile(io.BytesIO(image)).iter_segments() if s["p_type"] == "PT_LOAD"]
    assert any(s["p_vaddr"] != s["p_paddr"] for s in loads)
    assert any(s["p_filesz"] == 0 for s in loads)

    image = image if elf_class == 64 else as_elf32(image)
    options = RunOptions(
        image=image,
        image_name="higher_half",
        engine=engine,
        memory=16 << 20,
        max_instructions=300_000,
    )
    found = compare(options, ["bare", "ept", "shadow"])

    assert found.differences == []
    console = found.runs[0].console.decode("ascii")
    assert "FAIL" not in console
    assert console.count("PASS") == 4
    assert console.endswith("higher half\n")
    assert found.runs[0].exit_status == 1
