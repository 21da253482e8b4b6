"""What a CPU must hold when a loaded image gets control, as plain data.

It must not know how an executor keeps that state, nor how the image was read.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from vtx.machine.loader.symbols import LineTable, SymbolTable
from vtx.spec.registers import CR0, CR4, EFER

CR0_PE, CR0_MP, CR0_ET, CR0_NE = CR0.PE, CR0.MP, CR0.ET, CR0.NE
CR0_WP, CR0_PG = CR0.WP, CR0.PG
CR4_PAE: Final = CR4.PAE
EFER_LME, EFER_LMA = EFER.LME, EFER.LMA
RFLAGS_FIXED: Final = 1 << 1


@dataclass(frozen=True, slots=True)
class SegmentState:
    """A segment register with its hidden part. `access_rights` has the layout of the VMCS
    access-rights fields (SDM 3C, Guest Register State): type 3:0, S 4, DPL 6:5, P 7, AVL 12,
    L 13, D/B 14, G 15, unusable 16. `limit` is in bytes."""

    selector: int
    base: int
    limit: int
    access_rights: int


@dataclass(frozen=True, slots=True)
class TableRegister:
    """GDTR or IDTR: a linear base and a 16-bit limit."""

    base: int
    limit: int


@dataclass(frozen=True, slots=True)
class BootState:
    """Everything an executor applies to start the image.

    Registers that are not named in `registers` (64-bit names) are zero; RIP is `entry`,
    RFLAGS is `rflags` (interrupts off).
    """

    mode: Literal["protected32", "long64"]
    protocol: Literal["multiboot1", "pvh", "elf64", "elf32"]
    entry: int
    registers: MappingProxyType[str, int]
    rflags: int
    cr0: int
    cr3: int
    cr4: int
    efer: int
    gdt: TableRegister
    idt: TableRegister
    segments: MappingProxyType[str, SegmentState]
    symbols: SymbolTable
    lines: LineTable
