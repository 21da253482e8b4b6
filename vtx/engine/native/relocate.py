"""Writes the values of symbols into code: the relocations LLVM's code for a host contains.

It knows the fields of x86-64 (System V psABI, Relocation Types) and AArch64 (ELF for the Arm
64-bit Architecture, Static AArch64 relocations), and nothing of what the symbols mean. The
AArch64 rules are tested on single encodings only; code made for AArch64 has not been run.

`patch` takes one relocation, any value, and says clearly what does not fit. `prepare` and
`place` are for code that is copied again and again.
"""

import platform
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum

from vtx.engine.native.objects import (
    EM_AARCH64,
    EM_X86_64,
    INSIDE,
    ObjectCode,
    Relocation,
    Stencil,
)

HOST = EM_AARCH64 if platform.machine() in ("aarch64", "arm64") else EM_X86_64
"""The ELF machine of this host, where it is one that is understood."""

Buffer = bytearray | memoryview
Packer = Callable[[Buffer, int, int], None]
Patch = tuple[int, int, str, int]
"""Offset in the stencil, index into PACKERS, symbol, addend."""

_MASK64 = (1 << 64) - 1


class RelocationError(Exception):
    """A relocation that is not understood, or a value that does not fit; one line."""


class Base(IntEnum):
    """What a relocation subtracts from symbol + addend."""

    ABSOLUTE = 0
    RELATIVE = 1
    """The address of the place itself."""
    PAGED = 2
    """The 4 KiB page of the place, from the 4 KiB page of the sum (AArch64 ADRP)."""


class InstructionField:
    """A bit field of one or two parts in a 32-bit AArch64 instruction.

    The value's bits from `shift` go to bit `low` of the instruction, `width` of them. With
    `split`, the two lowest of them go to bits 29 and 30 instead (ADR and ADRP).
    """

    def __init__(
        self, low: int, width: int, *, shift: int = 0, limits: tuple[int, int], split: bool = False
    ) -> None:
        self._low, self._width, self._shift, self._split = low, width, shift, split
        self._least, self._beyond = limits

    def __call__(self, buffer: Buffer, offset: int, value: int) -> None:
        """Raises struct.error, as the packers of plain integers do, if the value does not fit."""
        if not self._least <= value < self._beyond:
            raise struct.error(f"not in [{self._least:#x}, {self._beyond:#x})")
        field = value >> self._shift & ((1 << self._width) - 1)
        mask = ((1 << self._width) - 1) << self._low
        bits = field << self._low
        if self._split:
            mask = 0x7FFFF << 5 | 3 << 29
            bits = (field >> 2) << 5 | (field & 3) << 29
        (instruction,) = struct.unpack_from("<I", buffer, offset)
        struct.pack_into("<I", buffer, offset, instruction & ~mask | bits)


class AlignedField(InstructionField):
    """A field that leaves out low bits, which have to be zero."""

    def __call__(self, buffer: Buffer, offset: int, value: int) -> None:
        if value & ((1 << self._shift) - 1):
            raise struct.error(f"not a multiple of {1 << self._shift}")
        super().__call__(buffer, offset, value)


class Low12(InstructionField):
    """The byte offset inside a 4 KiB page, scaled by the size of the access."""

    def __init__(self, shift: int) -> None:
        super().__init__(10, 12 - shift, shift=shift, limits=(0, 1 << 12))

    def __call__(self, buffer: Buffer, offset: int, value: int) -> None:
        if value & ((1 << self._shift) - 1):
            raise struct.error(f"not a multiple of {1 << self._shift}")
        super().__call__(buffer, offset, value & 0xFFF)


_ANY = (-(1 << 63), 1 << 64)

PACKERS: tuple[Packer, ...] = (
    struct.Struct("<b").pack_into,
    struct.Struct("<H").pack_into,
    struct.Struct("<i").pack_into,
    struct.Struct("<I").pack_into,
    struct.Struct("<q").pack_into,
    struct.Struct("<Q").pack_into,
    AlignedField(0, 26, shift=2, limits=(-(1 << 27), 1 << 27)),
    AlignedField(5, 19, shift=2, limits=(-(1 << 20), 1 << 20)),
    AlignedField(5, 14, shift=2, limits=(-(1 << 15), 1 << 15)),
    InstructionField(5, 21, limits=(-(1 << 20), 1 << 20), split=True),
    InstructionField(5, 21, shift=12, limits=(-(1 << 32), 1 << 32), split=True),
    Low12(0),
    Low12(1),
    Low12(2),
    Low12(3),
    Low12(4),
    InstructionField(5, 16, shift=0, limits=(0, 1 << 16)),
    InstructionField(5, 16, shift=0, limits=_ANY),
    InstructionField(5, 16, shift=16, limits=(0, 1 << 32)),
    InstructionField(5, 16, shift=16, limits=_ANY),
    InstructionField(5, 16, shift=32, limits=(0, 1 << 48)),
    InstructionField(5, 16, shift=32, limits=_ANY),
    InstructionField(5, 16, shift=48, limits=_ANY),
)
"""How a value is written. A packer raises struct.error for a value that does not fit; the first
six are those of `struct`, at full speed. New ones go to the end: caches contain indexes."""

_I8, _U16, _I32, _U32, _I64, _U64 = range(6)
_SIGNED = frozenset({_I8, _I32, _I64})


@dataclass(frozen=True, slots=True)
class Rule:
    """What one kind of relocation means."""

    name: str
    base: Base
    packer: int


_ABSOLUTE, _RELATIVE, _PAGED = Base

# A signed byte for R_X86_64_8, narrower than the ABI asks: LLVM puts it into instructions that
# extend the sign, and takes a symbol below 256 for one that may be used so.
_X86_64 = {
    1: Rule("R_X86_64_64", _ABSOLUTE, _U64),
    2: Rule("R_X86_64_PC32", _RELATIVE, _I32),
    4: Rule("R_X86_64_PLT32", _RELATIVE, _I32),
    10: Rule("R_X86_64_32", _ABSOLUTE, _U32),
    11: Rule("R_X86_64_32S", _ABSOLUTE, _I32),
    12: Rule("R_X86_64_16", _ABSOLUTE, _U16),
    14: Rule("R_X86_64_8", _ABSOLUTE, _I8),
    24: Rule("R_X86_64_PC64", _RELATIVE, _I64),
}

_AARCH64 = {
    257: Rule("R_AARCH64_ABS64", _ABSOLUTE, _U64),
    258: Rule("R_AARCH64_ABS32", _ABSOLUTE, _U32),
    260: Rule("R_AARCH64_PREL64", _RELATIVE, _I64),
    261: Rule("R_AARCH64_PREL32", _RELATIVE, _I32),
    263: Rule("R_AARCH64_MOVW_UABS_G0", _ABSOLUTE, 16),
    264: Rule("R_AARCH64_MOVW_UABS_G0_NC", _ABSOLUTE, 17),
    265: Rule("R_AARCH64_MOVW_UABS_G1", _ABSOLUTE, 18),
    266: Rule("R_AARCH64_MOVW_UABS_G1_NC", _ABSOLUTE, 19),
    267: Rule("R_AARCH64_MOVW_UABS_G2", _ABSOLUTE, 20),
    268: Rule("R_AARCH64_MOVW_UABS_G2_NC", _ABSOLUTE, 21),
    269: Rule("R_AARCH64_MOVW_UABS_G3", _ABSOLUTE, 22),
    274: Rule("R_AARCH64_ADR_PREL_LO21", _RELATIVE, 9),
    275: Rule("R_AARCH64_ADR_PREL_PG_HI21", _PAGED, 10),
    277: Rule("R_AARCH64_ADD_ABS_LO12_NC", _ABSOLUTE, 11),
    278: Rule("R_AARCH64_LDST8_ABS_LO12_NC", _ABSOLUTE, 11),
    279: Rule("R_AARCH64_TSTBR14", _RELATIVE, 8),
    280: Rule("R_AARCH64_CONDBR19", _RELATIVE, 7),
    282: Rule("R_AARCH64_JUMP26", _RELATIVE, 6),
    283: Rule("R_AARCH64_CALL26", _RELATIVE, 6),
    284: Rule("R_AARCH64_LDST16_ABS_LO12_NC", _ABSOLUTE, 12),
    285: Rule("R_AARCH64_LDST32_ABS_LO12_NC", _ABSOLUTE, 13),
    286: Rule("R_AARCH64_LDST64_ABS_LO12_NC", _ABSOLUTE, 14),
    299: Rule("R_AARCH64_LDST128_ABS_LO12_NC", _ABSOLUTE, 15),
}

RULES: dict[int, dict[int, Rule]] = {EM_X86_64: _X86_64, EM_AARCH64: _AARCH64}
"""ELF machine -> r_type -> meaning."""

_FINAL_JUMPS = {
    EM_X86_64: (5, 4, 1, -4, b"\xe9"),
    EM_AARCH64: (4, 282, 0, 0, struct.pack("<I", 0x14000000)),
}
"""ELF machine -> an unpatched jump: its size, relocation type, field, addend and first bytes."""


@dataclass(frozen=True, slots=True)
class UnpatchedJump:
    """A jump of the host that waits for its target."""

    code: bytes
    field: int
    """Offset of the relocated field in `code`."""
    packer: int
    addend: int
    """Added to the target's address, from which the field's address is then taken off."""


def unpatched_jump(machine: int = HOST) -> UnpatchedJump:
    """The jump of an ELF machine that reaches farthest in one instruction."""
    size, kind, field, addend, opcode = _FINAL_JUMPS[machine]
    code = opcode + bytes(size - len(opcode))
    return UnpatchedJump(code, field, RULES[machine][kind].packer, addend)


JUMP = unpatched_jump()
"""Of this host."""


def rule(kind: int, machine: int = HOST) -> Rule:
    """The meaning of the relocation type `kind`. Raises RelocationError for an unknown one."""
    found = RULES.get(machine, {}).get(kind)
    if found is None:
        raise RelocationError(f"relocation type {kind} of ELF machine {machine} is not understood")
    return found


def patch(
    buffer: Buffer, start: int, hva: int, relocation: Relocation, value: int, machine: int = HOST
) -> None:
    """Write `value`, that of the relocation's symbol, into the code at `buffer[start:]`.

    `start` is where the relocation's stencil or blob begins in the buffer and `hva` the host
    virtual address of that byte. `value` is a number of 64 bits, signed or not. Raises
    RelocationError if the result does not fit the field.
    """
    meaning = rule(relocation.kind, machine)
    place = hva + relocation.offset
    result = _result(meaning, value + relocation.addend, place)
    try:
        PACKERS[meaning.packer](buffer, start + relocation.offset, result)
    except struct.error as error:
        symbol = relocation.symbol or "a place of its own code"
        raise RelocationError(
            f"{symbol} = {value:#x} does not fit {meaning.name} at {place:#x}: {error}"
        ) from None


def _result(meaning: Rule, total: int, place: int) -> int:
    """Symbol + addend - base as the packer wants it: signed, or unsigned of 64 bits."""
    if meaning.base is Base.PAGED:
        return _signed((total & ~0xFFF) - (place & ~0xFFF))
    if meaning.base is Base.RELATIVE:
        return _signed(total - place)
    return _signed(total) if meaning.packer in _SIGNED else total & _MASK64


def _signed(value: int) -> int:
    """The number of 64 bits with sign that is `value` modulo 2**64."""
    return ((value + (1 << 63)) & _MASK64) - (1 << 63)


def link(
    code: ObjectCode, buffer: Buffer, start: int, hva: int, symbols: Mapping[str, int]
) -> dict[str, int]:
    """Patch a whole object, already copied to `buffer[start:]` at `hva`.

    Returns the host virtual address of each function. Raises RelocationError, also for a symbol
    that has no value.
    """
    for relocation in code.relocations:
        if relocation.symbol == INSIDE:
            value = hva
        elif relocation.symbol in symbols:
            value = symbols[relocation.symbol]
        else:
            raise RelocationError(f"symbol {relocation.symbol} has no value")
        patch(buffer, start, hva, relocation, value, code.machine)
    return {name: hva + function.offset for name, function in code.functions.items()}


@dataclass(frozen=True, slots=True)
class Prepared:
    """A stencil sorted for copying: plain tuples of numbers and names, fit for a cache.

    Write `PACKERS[packer](view, start + offset, x)` for each patch, where x is
    `values[symbol] + addend` for `absolute`, and less `hva` for `relative`, whose addends are
    already less their offset.
    """

    code: bytes
    absolute: tuple[Patch, ...]
    relative: tuple[Patch, ...]
    paged: tuple[Patch, ...]
    """Only on AArch64; see Base.PAGED."""


def prepare(stencil: Stencil) -> Prepared:
    """Raises RelocationError for a relocation that is not understood."""
    patches: dict[Base, list[Patch]] = {base: [] for base in Base}
    for relocation in stencil.relocations:
        meaning = rule(relocation.kind, stencil.machine)
        addend = relocation.addend
        if meaning.base is Base.RELATIVE:
            addend -= relocation.offset
        patches[meaning.base].append((relocation.offset, meaning.packer, relocation.symbol, addend))
    return Prepared(stencil.code, *(tuple(patches[base]) for base in Base))


def place(
    prepared: Prepared, buffer: Buffer, start: int, hva: int, values: Mapping[str, int]
) -> None:
    """Copy the stencil to `buffer[start:]`, which lies at `hva`, with its symbols' `values`.

    A value is signed where its field is signed, and unsigned otherwise. Raises RelocationError
    for one that does not fit or is missing; the buffer then holds half of the stencil.
    """
    code = prepared.code
    buffer[start : start + len(code)] = code
    try:
        for offset, packer, symbol, addend in prepared.absolute:
            PACKERS[packer](buffer, start + offset, values[symbol] + addend)
        for offset, packer, symbol, addend in prepared.relative:
            PACKERS[packer](buffer, start + offset, values[symbol] + addend - hva)
        for offset, packer, symbol, addend in prepared.paged:
            pages = (values[symbol] + addend & ~0xFFF) - (hva + offset & ~0xFFF)
            PACKERS[packer](buffer, start + offset, pages)
    except KeyError:
        raise RelocationError(f"symbol {symbol} has no value") from None
    except struct.error as error:
        raise RelocationError(f"{symbol} = {values[symbol]:#x} does not fit: {error}") from None


def without_final_jump(stencil: Stencil) -> tuple[Stencil, str] | None:
    """The stencil less the jump it ends with, and that jump's symbol; None if it ends otherwise.

    What is copied right behind the shorter stencil is then where it goes on.
    """
    if not stencil.relocations:
        return None
    size, kind, field, addend, opcode = _FINAL_JUMPS[stencil.machine]
    last, start = stencil.relocations[-1], len(stencil.code) - size
    expected = Relocation(start + field, kind, last.symbol, addend)
    if last != expected or not stencil.code.startswith(opcode, start):
        return None
    return Stencil(stencil.machine, stencil.code[:start], stencil.relocations[:-1]), last.symbol


def veneer(target: int, machine: int = HOST) -> bytes:
    """Code that jumps to the host virtual address `target`, however far, in 16 bytes.

    It changes only registers that a call may change (AArch64: x16). Must lie at a multiple of 8.
    """
    if machine == EM_AARCH64:
        # ldr x16, [pc, #8]; br x16; the address
        return struct.pack("<IIQ", 0x58000050, 0xD61F0200, target)
    # jmp [rip + 2]; two bytes that trap; the address
    return struct.pack("<2sI2sQ", b"\xff\x25", 2, b"\xcc\xcc", target)


def unresolved(relocations: Iterable[Relocation]) -> set[str]:
    """The symbols that need a value from outside."""
    return {relocation.symbol for relocation in relocations} - {INSIDE}
