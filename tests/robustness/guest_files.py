"""The guests of the checkout as images and sources, to be damaged."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from asm import assemble_file

GUESTS = Path(__file__).resolve().parents[2] / "guests"
IMAGES = ("hello", "kernel", "unpaged32", "multiboot32", "faults")


@cache
def image(name: str) -> bytes:
    """A guest's ELF image."""
    return assemble_file(GUESTS / name / f"{name}.s", include=[GUESTS / "include"]).elf()


@cache
def source_lines(name: str) -> tuple[str, ...]:
    """The lines of a guest's main source."""
    return tuple((GUESTS / name / f"{name}.s").read_text().splitlines())
