"""The kernels, assembled once a session and made small where their size does not matter."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import asm
from vtx.bench.image import KernelImage
from vtx.bench.kernels import KERNELS

BENCH = Path(__file__).parents[3] / "guests" / "bench"
SMALL = {"cold": {"COPIES": 1}, "tlb-miss": {"TLB_PAGES": 512}}


@cache
def small_image(name: str, variant: str) -> KernelImage:
    """The kernel called `name` in one of its variants."""
    kernel = next(kernel for kernel in KERNELS if kernel.name == name)
    defines = SMALL.get(name, {}) | dict(kernel.defines[variant])
    elf = asm.assemble_file(BENCH / f"{name}.s", defines=defines).elf()
    return KernelImage(kernel, elf, variant)
