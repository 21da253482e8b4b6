"""Kernels in the styles of others boot, find the machine as they expect it, and agree everywhere.

Each prints a line for every expectation and ends by the debug-exit port: 1 when all were met.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import asm
from tests.foreign.elf32 import as_elf32
from tests.vtx.engines import QUICK_ENGINES
from vtx.vmm.compare import compare
from vtx.vmm.launch import RunOptions

HERE = Path(__file__).parent
STYLES = ["bare", "ept", "shadow"]
KERNELS = {"apic64": 45, "firmware64": 50, "legacy32": 80, "paging64": 45}
"""Kernel -> the fewest expectations it has; what it checks is in its own header."""
ALL_MET = 1


def image_of(name: str) -> bytes:
    """ELF32, as Multiboot loaders want it, whatever mode the kernel runs in."""
    image = asm.assemble_file(HERE / f"{name}.s").elf()
    return as_elf32(image) if name.endswith("64") else image


@QUICK_ENGINES
@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_finds_what_it_expects_and_the_same_in_every_style(name: str, engine: str) -> None:
    options = RunOptions(
        image=image_of(name),
        image_name=name,
        engine=engine,
        memory=16 << 20,
        append="root=/dev/ram0 console=ttyS0",
        max_instructions=200_000,
    )
    found = compare(options, STYLES)

    assert found.differences == []
    run = found.runs[0]
    lines = run.console.decode("ascii").splitlines()
    assert [line for line in lines if not line.startswith("PASS ")] == []
    assert len(lines) >= KERNELS[name]
    assert (run.ended, run.exit_status) == ("debug_exit", ALL_MET)
