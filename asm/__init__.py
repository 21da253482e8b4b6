"""asm: an assembler for GNU as compatible Intel syntax."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from asm.assembler import Assembler
from asm.assembly import DEFAULT_BASE, Assembly
from asm.errors import MAX_ERRORS, AssemblyErrors, Diagnostic, SourceError, StopAssembly
from asm.images import render
from asm.layout import LayoutError, place_sections, section_relative

__all__ = ["Assembly", "AssemblyErrors", "Diagnostic", "assemble", "assemble_file"]


def assemble(
    source: str,
    *,
    name: str,
    include: Sequence[Path] = (),
    defines: Mapping[str, str | int] | None = None,
    elf_class: int | None = None,
    base: int = DEFAULT_BASE,
) -> Assembly:
    """Assemble source text. `name` stands for the file in messages and debug information.

    `include` are directories for .include and .incbin; `defines` are symbols set before the
    first line; `elf_class` forces 32 or 64 (see the module's docstring); `base` is the lowest
    load address of the executable. Raises AssemblyErrors.
    """
    return _assemble(source, name, None, include, defines or {}, elf_class, base)


def assemble_file(
    path: Path | str,
    *,
    include: Sequence[Path] = (),
    defines: Mapping[str, str | int] | None = None,
    elf_class: int | None = None,
    base: int = DEFAULT_BASE,
) -> Assembly:
    """Assemble a file; its own directory is searched first for included files.

    Raises AssemblyErrors, also when the file cannot be read.
    """
    path = Path(path)
    try:
        source = path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise AssemblyErrors([_about(str(path), error.strerror or str(error))]) from None
    return _assemble(source, str(path), path, include, defines or {}, elf_class, base)


def _about(name: str, message: str) -> Diagnostic:
    return Diagnostic(name, 1, 1, message, "")


def _assemble(
    source: str,
    name: str,
    path: Path | None,
    include: Sequence[Path],
    defines: Mapping[str, str | int],
    elf_class: int | None,
    base: int,
) -> Assembly:
    if elf_class not in (None, 32, 64):
        raise ValueError("elf_class must be None, 32 or 64")
    driver = Assembler(include, defines, 32 if elf_class == 32 else 64)
    program, errors = driver.program, driver.errors
    program.allow_64_bit = elf_class != 32
    with contextlib.suppress(StopAssembly):
        driver.run_text(source, name, path)
    for symbol in program.undefined_locals():
        if symbol.first_use is not None:
            message = f"label '{symbol.name}:' is referred to but does not follow"
            errors.append(symbol.first_use.diagnostic(message))
    for symbol in program.symbols.values():
        try:
            section_relative(symbol)
        except SourceError as error:
            if symbol.definition is not None:
                errors.append(symbol.definition.explain(error))
    if not errors and not any(s.marks for s in program.sections.values()):
        errors.append(_about(name, "there is nothing to assemble: no code and no data"))
    _raise(errors)
    sections = list(program.sections.values())
    try:
        place_sections(sections)
        laid_out = [render(section, errors) for section in sections]
    except LayoutError as error:
        raise AssemblyErrors([error.diagnostic]) from None
    _raise(errors)
    if not any(section.size for section in sections):
        _raise([_about(name, "there is nothing to assemble: no code and no data")])
    bits = elf_class or (32 if program.modes_used and 64 not in program.modes_used else 64)
    return Assembly(name, program, laid_out, bits, base, program.warnings)


def _raise(errors: list[Diagnostic]) -> None:
    if errors:
        raise AssemblyErrors(errors[:MAX_ERRORS])
