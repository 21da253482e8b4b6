"""Guests whose code is random bytes, in a scaffold that carries on after every exception.

The scaffold (scaffold64.s, scaffold32.s) loads registers from a table, jumps to the first of
SLOTS slots of 16 bytes, and answers every exception and interrupt by noting it in memory and
starting the next slot; after the last one it halts. So one run executes many random
instructions, and what they did is in memory. A scaffold is assembled once; a program is the
image with its slots and tables filled in.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

from asm import assemble_file

SLOT_SIZE, SLOTS, REGISTERS = 16, 24, 15
_SLOT, _REGISTER, _USER, _PAGING = b"<SLOT_OF_16_B>..", b"<REGS_8>", b"<CPL>", b"<PG>"

_SYSTEM = (
    "0f00", "0f01", "0f02", "0f03", "0f05", "0f06", "0f07", "0f08", "0f09", "0f20", "0f21",
    "0f22", "0f23", "0f30", "0f31", "0f32", "0f33", "0f34", "0f35", "0f78", "0f79", "0fa2",
    "0fb2", "0fb4", "0fb5", "0fc7", "0fa0", "0fa1", "0fa8", "0fa9", "0fae", "6c", "6d", "6e",
    "6f", "8e", "8c", "9a", "9c", "9d", "c8", "c9", "ca", "cb", "cc", "cd", "ce", "cf", "d7",
    "e4", "e5", "e6", "e7", "ec", "ed", "ee", "ef", "f1", "f4", "fa", "fb", "06", "07", "0e",
    "16", "17", "1e", "1f", "60", "61", "62", "63", "c4", "c5", "ea", "ff", "a4", "a5", "aa",
    "ab", "ac", "ad", "a6", "a7", "ae", "af", "660f3880", "660f3881", "660f3882", "0f0b",
    "0f1f", "0fb9", "0fff", "0fc0", "0fc1", "0fb0", "0fb1", "0fa4", "0fad", "0fba", "0fbb",
)  # fmt: skip
_SYSTEM_BYTES = tuple(bytes.fromhex(text) for text in _SYSTEM)
_PREFIXES = bytes.fromhex("66 67 f0 f2 f3 2e 36 3e 26 64 65 48 41 4f 44")
_INTERESTING = (
    0, 1, 2, 0x10, 0x7F, 0x80, 0xFF, 0x3F8, 0x60, 0xCF8, 0x510, 0x1B, 0xC000_0080, 0x277,
    0x174, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 1 << 63, (1 << 64) - 1, 0x8000_0000_0000,
    0x10_0000, 0x10_3000, 0x10_2FFE, 0x7FFF_FFFF_F000, 0xFEE0_0080, 0xFEC0_0010, 0x20_0000,
    0x3FF_FFFC, 0x400_0000, 0x4000_0000, 0xFFFF_8000_0000_0000,
)  # fmt: skip


@dataclass(frozen=True)
class Program:
    """What a random guest executes and with what in its registers."""

    bits: int
    slots: tuple[bytes, ...]
    registers: tuple[int, ...]
    user: bool
    paging: bool

    def image(self) -> bytes:
        """The guest as an ELF executable."""
        image = _scaffold(self.bits)
        for slot in self.slots:
            image = image.replace(_SLOT, slot.ljust(SLOT_SIZE, b"\x90"), 1)
        for value in self.registers:
            image = image.replace(_REGISTER, value.to_bytes(8, "little"), 1)
        image = image.replace(_USER, self.user.to_bytes(len(_USER), "little"))
        return image.replace(_PAGING, self.paging.to_bytes(len(_PAGING), "little"))


@cache
def _scaffold(bits: int) -> bytes:
    source = Path(__file__).parent / f"scaffold{bits}.s"
    image = assemble_file(source, defines={"SLOTS": SLOTS}).elf()
    for mark, count in ((_SLOT, SLOTS), (_REGISTER, REGISTERS), (_USER, 1)):
        assert image.count(mark) == count, "a mark is missing from the scaffold"
    return image


def random_program(seed: int) -> Program:
    """The program of a seed; the same for every run and host."""
    random = Random(seed)
    return Program(
        bits=random.choice((64, 32)),
        slots=tuple(_slot(random) for _ in range(SLOTS)),
        registers=tuple(_register(random) for _ in range(REGISTERS)),
        user=random.random() < 0.4,
        paging=random.random() < 0.6,
    )


def _slot(random: Random) -> bytes:
    """Random bytes, most of them behind a prefix or an opcode that does something special."""
    kind = random.random()
    if kind < 0.3:
        return random.randbytes(SLOT_SIZE)
    prefixes = bytes(random.choice(_PREFIXES) for _ in range(random.choice((0, 0, 0, 1, 1, 2))))
    if kind < 0.8:
        opcode = random.choice(_SYSTEM_BYTES)
    else:
        opcode = bytes(random.choice(((0x0F, random.randrange(256)), (random.randrange(256),))))
    return (prefixes + opcode + random.randbytes(SLOT_SIZE))[:SLOT_SIZE]


def _register(random: Random) -> int:
    kind = random.random()
    if kind < 0.5:
        return random.choice(_INTERESTING)
    if kind < 0.7:
        return 0x10_0000 + random.randrange(0x8000)
    return random.getrandbits(random.choice((8, 16, 32, 64)))
