r"""asm: an assembler for GNU as compatible Intel syntax (`.intel_syntax noprefix`).

    result = asm.assemble(source, name="kernel.s")
    result.elf()       an executable;  result.object()  a relocatable file
    result.listing()   addresses and bytes beside the source

Mistakes raise AssemblyErrors, whose text is `file:line:col: error: message`, the line and a
caret; warnings are in `result.warnings`. It knows nothing of the vtx package.

Language
    Statements    one a line or separated by `;`. Comments: `#`, `//` and `/* */`.
    Labels        `name:`, and numeric ones (`1:`) referred to as `1b` and `1f`.
    Numbers       decimal, 0x, 0b, leading 0 for octal, 'c'. Values are 64-bit.
    Expressions   unary - + ~ ! not; then, tightest first: * / % << >> (shl shr mod),
                  | & ^ ! (or and xor), + -, == != <> < <= > >= (eq ne lt le gt ge; true is -1),
                  &&, ||. `.` is the current place; differences of labels are numbers.
    Operands      registers; `offset symbol` and numbers (immediates); `size ptr [base + index *
                  scale + displacement]`, `symbol[rip]`, `segment:[...]`; a bare symbol is memory,
                  or the target of a jump; `selector:offset` is a far pointer. A constant must be
                  defined before it is used as an immediate, as in GNU as.
    Instructions  every form iced-x86 encodes, in 16-, 32- and 64-bit code, with the encoding GNU
                  as chooses; size suffixes (pushw, retfq); prefixes lock rep repe repne data16
                  addr32 bnd notrack xacquire xrelease and segment names; AVX-512 {k1}{z}{1to8}
                  {rn-sae}. Jumps take the shortest form that reaches.
    Data          .byte .word .short .hword .value .2byte .long .int .4byte .quad .8byte .octa
                  .ascii .asciz .string .uleb128 .sleb128 .zero .skip .space .fill .incbin .nops
    Places        .align .balign[wl] .p2align[wl] .org `. =`; .section name,"flags",@type; .text
                  .data .bss .rodata with subsections, .subsection .pushsection .popsection
                  .previous; .code16 .code32 .code64
    Symbols       .set .equ .equiv `=` `==`; .globl .global .local .weak .hidden .type .size .comm
                  .lcomm .extern
    Macros        .macro (defaults, :req, :vararg, \@, \()), .exitm .purgem .rept .irp .irpc .endm
                  .endr; .if .ifdef .ifndef .ifb .ifnb .ifc .ifnc .ifeqs .ifnes .ifeq .ifne .ifgt
                  .ifge .iflt .ifle .elseif .else .endif
    Others        .include .error .err .warning .abort .end; .file .loc .cfi_* .ident are accepted
                  and do nothing.
    Not supported AT&T syntax, .altmacro, .code16gcc, quoted symbols in expressions,
                  GOT and TLS relocations in executables, linker scripts.
    Refused where GNU as truncates in silence: numbers that do not fit their operand.

Files
    ELF class     `elf_class` 32 or 64 decides (as --32 and --64 do); without it the file is ELF32
                  when it has instructions and none of them is 64-bit code, and ELF64 otherwise.
    Layout        The lowest load address is `base`, 1 MiB unless given. Sections of equal rights
                  share a page-aligned PT_LOAD, by first appearance: sections named .multiboot*,
                  .boot* or .note* first (a boot loader looks in the first 8 KiB of the file), then
                  code, read-only data, writable code, data, zeroed data.
    Entry         `_start`, or else the start of .text, or of the first code.
    Names         _end, end, _etext, etext, _edata, edata, __bss_start and __executable_start are
                  defined where they are used, as GNU ld does. Weak undefined symbols are 0.
    Debugging     executables carry symbols and DWARF 4 line numbers; lines of a macro count as
                  the line of its outermost call.
"""

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
    if not 0 <= base < 1 << 63:
        raise ValueError("base must be a number from 0 to 2**63 - 1")
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
    return Assembly(name, program, laid_out, bits, base, program.warnings, tuple(driver.consulted))


def _raise(errors: list[Diagnostic]) -> None:
    if errors:
        raise AssemblyErrors(errors[:MAX_ERRORS])
