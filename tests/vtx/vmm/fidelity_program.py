"""Generated guest programs: a fixed runtime, and slots of generated code, as an ELF image.

A program is a mode and a list of steps. A step is a line of assembly that fills one slot of 64
bytes; whatever faults in it is noted by the runtime, which goes on with the next slot.
"""

from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import asm
from vtx.machine.loader.elf import read_elf

HERE = Path(__file__).parent
_PAGING = {"unpaged": 0, "paged": 1, "pae": 2}
MODES = ("long", *_PAGING)


@dataclass(frozen=True)
class Program:
    """One generated guest. Printed, it is what a failing test shows."""

    mode: str
    steps: tuple[str, ...]

    def __repr__(self) -> str:
        return "\n".join([f"{self.mode} mode:", *(f"    {step}" for step in self.steps)])

    def image(self) -> bytes:
        """The ELF executable."""
        image, place = _runtime(self.mode)
        code = b"".join(
            _slot(self.mode, step, n) for n, step in enumerate((*self.steps, "int FINISH"))
        )
        return image[:place] + code + image[place + len(code) :]


@cache
def _runtime(mode: str) -> tuple[bytes, int]:
    """The image with empty slots, and where in the file they begin."""
    if mode == "long":
        made = asm.assemble_file(HERE / "fidelity_long.s", elf_class=64)
    else:
        made = asm.assemble_file(
            HERE / "fidelity_protected.s", elf_class=32, defines={"PAGING": _PAGING[mode]}
        )
    image = made.elf()
    (segment,) = [one for one in read_elf(image, mode).segments if one.data]
    return image, image.index(segment.data) + places()["PAYLOAD"] - segment.paddr


@cache
def places() -> dict[str, int]:
    """The constants of fidelity_places.inc by name."""
    source = '.intel_syntax noprefix\n.include "fidelity_places.inc"\nnop\n'
    made = asm.assemble(source, name="places", include=[HERE])
    lines = (HERE / "fidelity_places.inc").read_text().splitlines()
    names = [line.split()[1].rstrip(",") for line in lines if line.startswith(".equ")]
    return {name: made.address_of(name) for name in names}


@lru_cache(50_000)
def _slot(mode: str, step: str, number: int) -> bytes:
    """The 64 bytes of a step in slot `number`."""
    places_ = places()
    place = places_["PAYLOAD"] + number * places_["SLOT"]
    base, inside = place & ~0xFFF, place & 0xFFF
    lines = (
        ".intel_syntax noprefix",
        '.include "fidelity_places.inc"',
        ".code64" if mode == "long" else ".code32",
        f".skip {inside}",
        step,
        ".p2align 6",
        f".org {inside} + SLOT",  # refuses to go back: a step that is longer than its slot
    )
    bits = 64 if mode == "long" else 32
    source = "\n".join(lines) + "\n"
    made = asm.assemble(source, name="payload", include=[HERE], elf_class=bits, base=base)
    (segment,) = [one for one in read_elf(made.elf(), "payload").segments if one.data]
    return segment.data[inside:]
