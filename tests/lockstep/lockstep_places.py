"""Where everything of the lock-step machine stands, and which modes its programs run in.

All addresses are physical; linear addresses are the same but for the pages named below.
"""

from dataclasses import dataclass

RAM = 1 << 20
GDT, TSS, IDT, HANDLERS, COMMON = 0x1000, 0x1800, 0x2000, 0x3000, 0x4000
KERNEL_STACK, KERNEL_STACK_TOP = 0x5000, 0x6000
PML4, PDPT, PD, PT = 0x6000, 0x7000, 0x8000, 0x9000
LOW_DATA = 0xC000
"""Two pages that 16-bit addresses reach in flat segments."""
CODE, CODE_SIZE = 0x10000, 0x3000
FUNCTIONS, OTHER_FUNCTIONS = 0x12000, 0x13000
"""The third page of code, and the frame that may be mapped there instead."""
DATA, UNMAPPED, READ_ONLY, SUPERVISOR, NO_EXECUTE = 0x14000, 0x17000, 0x18000, 0x19000, 0x1A000
STACK, STACK_TOP = 0x1B000, 0x1D000
CODE_ALIAS, DATA_ALIAS, UNMAPPED_TOO = 0x1D000, 0x1E000, 0x1F000
LOG, VARIABLES, SKIPS = 0x28000, 0x29000, 0x30000
IST = 0x2C000
"""Stacks of the interrupt-stack table, a page each."""

LOG_POINTER, FAULTS_LEFT, TRAPS_LEFT, ESCAPE = (VARIABLES + 8 * n for n in range(4))
GOOD_SP, CODE_SELECTOR, STACK_SELECTOR, PTE_PLACE = (VARIABLES + 8 * n for n in range(4, 8))
CODE_BASE, SAVED, SHARED_STACK = (VARIABLES + 8 * n for n in (8, 9, 12))

KERNEL_CODE, KERNEL_DATA, TSS_SELECTOR = 0x08, 0x10, 0x48
SMALL_SELECTOR, ABSENT_SELECTOR, READ_ONLY_SELECTOR = 0x5B, 0x63, 0x6B
END_VECTOR, REMAP_VECTOR = 0x92, 0x91


@dataclass(frozen=True, slots=True)
class Mode:
    """How a program's code runs. `bits` is the default size of its code segment."""

    name: str
    bits: int
    cpl: int
    long: bool
    code_base: int = 0
    data_base: int = 0
    pagings: tuple[str, ...] = ("long",)

    @property
    def selectors(self) -> tuple[int, int, int]:
        """Of code, data and stack."""
        first = 0x33 if self.cpl else 0x18
        return first, first + 8, first + 16


LEGACY_PAGINGS = ("none", "32", "pae")
MODES = {
    mode.name: mode
    for mode in (
        Mode("long-0", 64, 0, True),
        Mode("long-3", 64, 3, True),
        Mode("compatibility", 32, 3, True),
        Mode("flat32-0", 32, 0, False, pagings=LEGACY_PAGINGS),
        Mode("flat32-3", 32, 3, False, pagings=("32", "pae")),
        Mode("segmented32", 32, 0, False, 0x8000, 0xA000, LEGACY_PAGINGS),
        Mode("protected16", 16, 0, False, 0x10000, 0x10000, LEGACY_PAGINGS),
        Mode("protected16-3", 16, 3, False, 0x10000, 0x10000, ("32", "pae")),
    )
}
