"""The machine of lock-step programs: tables, handlers and state for each mode.

`settings` of a program choose: paging ("none", "32", "pae", "long" by position in the mode's
list), cr0, cr4 (bits to add), user (the U bit of the pages of ring 0 programs), ist, limit (of
the data segments), code_limit, second (rights of the second page of code), dr0.. and dr7.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import lockstep_places as at
from lockstep_places import Mode
from lockstep_program import Placed, Program

import asm
from vtx.isa.layout import GPR_NAMES
from vtx.machine.loader.elf import read_elf

_ROOM = Path(__file__).parent
PRESENT, WRITABLE, USER, GLOBAL, NX = 1, 2, 4, 0x100, 1 << 63


def descriptor(base: int, limit: int, rights: int) -> int:
    """A segment descriptor; `limit` in bytes, `rights` as the VMCS has them."""
    if limit > 0xF_FFFF:
        limit, rights = limit >> 12, rights | 0x8000
    low = limit & 0xFFFF | (base & 0xFF_FFFF) << 16 | (rights & 0xFF) << 40
    return low | (limit >> 16 & 0xF) << 48 | (rights >> 12 & 0xF) << 52 | (base >> 24) << 56


@cache
def handlers(bits: int) -> bytes:
    """Machine code from HANDLERS on."""
    defines = {name: value for name, value in vars(at).items() if isinstance(value, int)}
    source = (_ROOM / f"handlers{bits}.s").read_text()
    result = asm.assemble(source, name="handlers.s", defines=defines, base=at.HANDLERS,
                          elf_class=64)  # fmt: skip
    image = read_elf(result.elf(), "handlers")
    return next(
        bytes(s.data[at.HANDLERS - s.paddr :])
        for s in image.segments
        if s.paddr <= at.HANDLERS < s.paddr + len(s.data)
    )


@dataclass(frozen=True, slots=True)
class Image:
    """What a machine starts with: RAM and state words by name."""

    memory: bytes
    words: dict[str, int]
    rflags: int
    segments: dict[str, tuple[int, int, int, int]]


def image_of(program: Program, placed: Placed) -> Image:
    """The machine in which a program begins."""
    return _Setup(program, placed).image()


class _Setup:
    def __init__(self, program: Program, placed: Placed) -> None:
        self.program, self.placed, self.mode = program, placed, program.where
        self.choose = program.settings
        pagings = self.mode.pagings
        self.paging = pagings[self.choose.get("paging", 0) % len(pagings)]
        self.memory = bytearray(_background(self.mode, self.paging))
        self.words: dict[str, int] = {}
        self.segments: dict[str, tuple[int, int, int, int]] = {}

    def put(self, place: int, value: int, size: int = 8) -> None:
        self.memory[place : place + size] = value.to_bytes(size, "little")

    def image(self) -> Image:
        self._descriptors()
        self._pages()
        self._variables()
        self._registers()
        code = self.placed.code + self.placed.other
        self.memory[at.CODE : at.CODE + len(code)] = code
        self.memory[at.SKIPS : at.SKIPS + len(self.placed.skips)] = self.placed.skips
        return Image(bytes(self.memory), self.words, self.program.flags | 2, self.segments)

    # --- tables --------------------------------------------------------------------------------
    def _descriptors(self) -> None:
        mode, dpl = self.mode, self.mode.cpl << 5
        size = {64: 0x2000, 32: 0x4000, 16: 0}[mode.bits]
        data_size = 0 if mode.bits == 16 else 0x4000
        whole = 0xFFFF if mode.bits == 16 else 0xFFFF_FFFF
        limit = self.choose.get("limit") or whole
        code = (mode.code_base, self.choose.get("code_limit") or whole, 0x9B | size | dpl)
        data = (mode.data_base, limit, 0x93 | data_size | dpl)
        stack = (mode.data_base, whole, 0x93 | data_size | dpl)
        for selector, (base, size_, rights) in zip(
            mode.selectors, (code, data, stack), strict=True
        ):
            self.put(at.GDT + (selector & ~7), descriptor(base, size_, rights))
        self._small_descriptor(data_size)
        cs, ds, ss = mode.selectors
        for name, selector, parts in (
            ("cs", cs, code), ("ds", ds, data), ("es", ds, data), ("ss", ss, stack),
            ("fs", ds, data), ("gs", ds, data),
        ):  # fmt: skip
            base, size_, rights = parts
            rights |= 0x8000 if size_ > 0xF_FFFF else 0
            self.segments[name] = (selector, base, size_, rights)
        self.segments["tr"] = (at.TSS_SELECTOR, at.TSS, 0x67, 0x8B)
        self.segments["ldtr"] = (0, 0, 0xFFFF, 0x10082)

    def _small_descriptor(self, data_size: int) -> None:
        expands_down = self.choose.get("expand_down", 0)
        base = at.DATA
        rights = 0xF3 | data_size | 4 * expands_down
        self.put(at.GDT + (at.SMALL_SELECTOR & ~7), descriptor(base, 0x7FF, rights))
        self.put(at.GDT + (at.ABSENT_SELECTOR & ~7), descriptor(0, 0xFFFF_FFFF, 0x4073))
        self.put(at.GDT + (at.READ_ONLY_SELECTOR & ~7),
                 descriptor(self.mode.data_base, 0xFFFF_FFFF, 0x40F1))  # fmt: skip

    # --- paging --------------------------------------------------------------------------------
    def _pages(self) -> None:
        if self.paging == "none":
            return
        size = 4 if self.paging == "32" else 8
        for page in range(16, 0x20):
            self.put(at.PT + size * page, self._entry(page << 12), size)
        self.put(at.PT + size * (at.LOW_DATA >> 12), at.LOW_DATA | 7, size)
        self.put(at.PT + size * (at.LOW_DATA + 0x1000 >> 12), at.LOW_DATA + 0x1000 | 7, size)

    def _entry(self, gva: int) -> int:
        user = USER if self.mode.cpl or self.choose.get("user", 1) else 0
        wide = self.paging != "32"
        rights = PRESENT | WRITABLE | user | GLOBAL * self.choose.get("global", 0)
        if at.CODE <= gva < at.FUNCTIONS:
            rights &= ~self.choose.get("code_lacks", 0)
        if gva == at.CODE + 0x1000:
            rights &= ~self.choose.get("second_lacks", 0)
        elif gva in (at.UNMAPPED, at.UNMAPPED_TOO):
            return 0
        elif gva == at.READ_ONLY:
            rights &= ~WRITABLE
        elif gva == at.SUPERVISOR:
            rights &= ~USER
        elif gva == at.NO_EXECUTE and wide:
            rights |= NX
        frame = {at.CODE_ALIAS: at.CODE, at.DATA_ALIAS: at.DATA}.get(gva, gva)
        return frame | rights

    # --- variables and registers -----------------------------------------------------------------
    def _variables(self) -> None:
        mode, entry_size = self.mode, 4 if self.paging == "32" else 8
        first = self.placed.places
        start = min(first.values()) if first else at.CODE + self.program.start
        values = {
            at.LOG_POINTER: at.LOG, at.FAULTS_LEFT: 40, at.TRAPS_LEFT: 12,
            at.ESCAPE: start - mode.code_base, at.GOOD_SP: at.STACK + 0xF00 - mode.data_base,
            at.CODE_SELECTOR: mode.selectors[0], at.STACK_SELECTOR: mode.selectors[2],
            at.PTE_PLACE: at.PT + entry_size * (at.FUNCTIONS >> 12),
            at.CODE_BASE: mode.code_base, at.SHARED_STACK: int(not mode.cpl),
        }  # fmt: skip
        for place, value in values.items():
            self.put(place, value)
        if mode.long:
            for vector in range(32):
                stack = {8: 2, 2: 3}.get(vector, self.choose.get("ist", 1))
                self.put(at.IDT + 16 * vector + 4, stack, 1)

    def _registers(self) -> None:
        mode, words, choose = self.mode, self.words, self.choose
        words.update(zip(GPR_NAMES, self.program.registers, strict=False))
        if not mode.long:
            for name in GPR_NAMES[8:]:
                words[name] = 0
            for name in GPR_NAMES[:8]:
                words[name] &= 0xFFFF_FFFF
        words["rip"] = at.CODE + self.program.start - mode.code_base
        words["cr0"] = 0x11 | choose.get("cr0", 0)
        words["cr4"] = choose.get("cr4", 0)
        words["efer"] = 0
        words["cr3"] = at.PML4
        match self.paging:
            case "long":
                words["efer"] = 0xD01
                words["cr4"] |= 0x20
            case "pae":
                words["efer"] = 0x800
                words["cr4"] |= 0x20
                words["cr3"] = at.PDPT
                for n in range(4):
                    words[f"pdpte{n}"] = at.PD | 1 if n == 0 else 0
            case "32":
                words["cr3"] = at.PD
        if self.paging != "none":
            words["cr0"] |= 1 << 31
        words["gdtr_base"], words["gdtr_limit"] = at.GDT, 0x7F
        words["idtr_base"], words["idtr_limit"] = at.IDT, 0xFFF if mode.long else 0x7FF
        words["star"], words["lstar"] = 0x0008_0000_0000 << 8, at.COMMON
        for name in ("dr0", "dr1", "dr2", "dr3", "dr7"):
            if name in choose:
                words[name] = choose[name]


@cache
def _background(mode: Mode, paging: str) -> bytes:
    """RAM as it is for every program of a mode: tables, handlers, and data that is not zero."""
    memory = bytearray(at.RAM)

    def put(place: int, value: int, size: int = 8) -> None:
        memory[place : place + size] = value.to_bytes(size, "little")

    for place in (at.LOW_DATA, at.DATA, at.READ_ONLY, at.STACK):
        size = 0x3000 if place == at.DATA else 0x2000
        memory[place : place + size] = bytes((n * 37 + (n >> 8) * 11) & 0xFF for n in range(size))
    bits = 64 if mode.long else 32
    code = handlers(bits)
    memory[at.HANDLERS : at.HANDLERS + len(code)] = code
    put(at.GDT + at.KERNEL_CODE, descriptor(0, 0xFFFF_FFFF, 0xA09B if mode.long else 0xC09B))
    put(at.GDT + at.KERNEL_DATA, descriptor(0, 0xFFFF_FFFF, 0xC093))
    put(at.GDT + at.TSS_SELECTOR, descriptor(at.TSS, 0x67, 0x8B))
    if mode.long:
        put(at.TSS + 4, at.KERNEL_STACK_TOP)
        for n in range(3):
            put(at.TSS + 0x24 + 8 * n, at.IST + 0x1000 * (n + 1))
    else:
        put(at.TSS + 4, at.KERNEL_STACK_TOP, 4)
        put(at.TSS + 8, at.KERNEL_DATA, 2)
    put(at.TSS + 0x66, 0x68, 2)
    for vector in range(256):
        target = at.HANDLERS + 16 * vector
        kind = 15 if 0x40 <= vector < 0x50 else 14
        dpl = 3 if vector in (3, 4) or 0x30 <= vector < 0xA0 else 0
        low = target & 0xFFFF | at.KERNEL_CODE << 16 | (0x80 | dpl << 5 | kind) << 40
        put(at.IDT + (16 if mode.long else 8) * vector, low | target >> 16 << 48)
    _tables(put, paging)
    return bytes(memory)


def _tables(put, paging: str) -> None:  # type: ignore[no-untyped-def]
    if paging == "none":
        return
    size = 4 if paging == "32" else 8
    if paging == "long":
        put(at.PML4, at.PDPT | 7)
        put(at.PDPT, at.PD | 7)
    elif paging == "pae":
        put(at.PDPT, at.PD | 1)
    put(at.PD, at.PT | 7, size)
    for page in (*range(1, 0x10), *range(0x28, 0x34)):
        put(at.PT + size * page, page << 12 | PRESENT | WRITABLE, size)
