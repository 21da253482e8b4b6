"""An assembled kernel: an image that machines boot, and a function that processes call.

Must not know who runs it.
"""

import io
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from elftools.elf.elffile import ELFFile

from vtx.bench.kernels import PLAIN, Kernel
from vtx.machine.loader.elf import read_elf

DATA_SIZE: Final = 4 << 20
"""Bytes of zeroed memory that a kernel gets to work in; some put code there."""
DONE: Final = 0x10
"""What a kernel writes to the debug-exit port in the end."""


@dataclass(frozen=True)
class KernelImage:
    """One variant of a kernel, as the assembler made it."""

    kernel: Kernel
    elf: bytes
    variant: str = PLAIN

    @cached_property
    def base(self) -> int:
        """Where the image lies when it is a guest."""
        return self._piece[0]

    @cached_property
    def code(self) -> bytes:
        """The whole image: code and constants. It may lie anywhere."""
        return self._piece[1]

    @cached_property
    def entry(self) -> int:
        """Offset of `kernel_main` in `code`."""
        symbols: Any = ELFFile(io.BytesIO(self.elf)).get_section_by_name(".symtab")
        (symbol,) = symbols.get_symbol_by_name("kernel_main")
        return int(symbol["st_value"]) - self.base

    @cached_property
    def start(self) -> int:
        """Where a Multiboot loader enters it, in 32-bit protected mode."""
        return read_elf(self.elf, self.kernel.name).entry

    @cached_property
    def _piece(self) -> tuple[int, bytes]:
        (segment,) = read_elf(self.elf, self.kernel.name).segments
        return segment.paddr, segment.data


def loaded_bytes(elf: bytes) -> bytes:
    """What an executable of one segment has in memory."""
    (segment,) = read_elf(elf, "image").segments
    return segment.data
