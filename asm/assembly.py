"""The result of assembling: sections, symbols, and the files that can be written from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from asm.elf import ElfTarget
from asm.errors import MAX_ERRORS, AssemblyErrors, Diagnostic
from asm.executable import Executable, link
from asm.fragments import Section, Symbol
from asm.images import LaidOut
from asm.listing import render_listing
from asm.object_file import write_object
from asm.program import Program

DEFAULT_BASE = 0x100000


@dataclass(slots=True)
class Assembly:
    """A laid-out program. `elf_class` is 32 or 64; `base` the lowest load address."""

    name: str
    program: Program
    laid_out: list[LaidOut]
    elf_class: int
    base: int = DEFAULT_BASE
    warnings: list[Diagnostic] = field(default_factory=list)
    consulted: tuple[Path, ...] = ()
    """Places where .include and .incbin looked for files, whether something was there or not."""
    _linked: Executable | None = None

    @property
    def sections(self) -> dict[str, Section]:
        """Sections by name; addresses are those of the executable once it has been linked."""
        return self.program.sections

    @property
    def symbols(self) -> dict[str, Symbol]:
        """Named symbols of the source, defined or not."""
        return self.program.symbols

    @property
    def target(self) -> ElfTarget:
        return ElfTarget(self.elf_class)

    def _executable(self) -> Executable:
        if self._linked is None:
            errors: list[Diagnostic] = []
            self._linked = link(self.program, self.laid_out, self.target, self.base, errors)
            if errors:
                self._linked = None
                raise AssemblyErrors(errors[:MAX_ERRORS])
        return self._linked

    @property
    def entry(self) -> int:
        """The entry address of the executable: `_start`, else the start of .text."""
        return self._executable().entry

    def address_of(self, name: str) -> int:
        """A symbol's address (or value) in the executable. Raises KeyError when undefined."""
        return self._executable().addresses[name]

    def elf(self) -> bytes:
        """A static executable. Raises AssemblyErrors for undefined symbols and overflows."""
        return self._executable().file(self.name)

    def object(self) -> bytes:
        """A relocatable object file."""
        errors: list[Diagnostic] = []
        data = write_object(self.program, self.laid_out, self.target, errors)
        if errors:
            raise AssemblyErrors(errors[:MAX_ERRORS])
        return data

    def listing(self) -> str:
        """Addresses and bytes beside each source line."""
        return render_listing(self.program, self._executable())
