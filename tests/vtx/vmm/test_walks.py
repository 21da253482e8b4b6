"""Memory references per page walk, from the walker's own log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.vtx.engines import EVERY_ENGINE, QUICK_ENGINES
from vtx.vmm import ept
from vtx.vmm.launch import launch

LARGE = f"{ept.__file__}:LargeEpt"
TOUCH = """
        .intel_syntax noprefix
        .include "x86.inc"
        .include "ports.inc"
        .text
        .globl _start
_start:
{map}
1:      jmp 1b
        .bss
        .align 4096
pdpt:   .skip 4096
pd:     .skip 4096
pt:     .skip 4096
"""
SMALL_PAGE = """
        mov rax, cr3
        lea rdx, [rip + pdpt]
        or rdx, 3
        mov [rax + 8], rdx
        lea rdx, [rip + pd]
        or rdx, 3
        mov [rip + pdpt], rdx
        lea rdx, [rip + pt]
        or rdx, 3
        mov [rip + pd], rdx
        mov qword ptr [rip + pt], 0x400003
        mov rdi, 0x8000000000
        mov rax, [rdi]
"""
LARGE_PAGE = "        mov rax, [0x600000]\n"


@EVERY_ENGINE
@pytest.mark.parametrize(
    ("style", "most", "source"),
    [
        ("bare", 4, SMALL_PAGE), ("bare", 3, LARGE_PAGE),
        ("ept", 24, SMALL_PAGE), ("ept", 19, LARGE_PAGE),
        (LARGE, 19, SMALL_PAGE), (LARGE, 15, LARGE_PAGE),
    ],
    ids=["4K", "2M", "4K-on-4K", "2M-on-4K", "4K-on-2M", "2M-on-2M"],
)  # fmt: skip
def test_a_cold_walk_takes_the_references_of_both_sides(
    style: str, most: int, source: str, engine: str, assemble_source: Callable[[str], bytes],
    options: Callable[..., Any],
) -> None:  # fmt: skip
    image = assemble_source(TOUCH.format(map=source))
    session: Any = launch(options(image, style, engine=engine)).session
    assert session.run(40) is None

    assert session.walks.summary()["max"] == most


@QUICK_ENGINES
@pytest.mark.parametrize(("style", "most"), [("bare", 4), ("ept", 24), (LARGE, 19)])
def test_kernel_takes_at_most_the_walk_of_its_small_pages(
    style: str, most: int, engine: str, guest_image: Callable[[str], bytes],
    options: Callable[..., Any],
) -> None:  # fmt: skip
    image = guest_image("kernel")
    session: Any = launch(options(image, style, memory=16 << 20, engine=engine)).session
    session.run(60_000)
    found = session.walks.summary()

    assert found["max"] == most
    assert found["min"] <= found["mean"] <= found["max"]
    assert found["misses"] > 20
