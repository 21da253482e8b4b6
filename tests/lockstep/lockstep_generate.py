"""Random programs for lock-step runs: the same program for a seed on every host.

About half of the pieces are instances of any instruction form (the oracle's tables) with
registers set so that their memory operands land somewhere interesting; the others come from
templates. Interrupts, budgets and the machine's set-up are drawn too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from random import Random

import lockstep_places as at
from iced_x86 import Register
from lockstep_events import NMI, Arrival
from lockstep_pieces import MAKERS, Draw, Made
from lockstep_places import MODES, Mode
from lockstep_program import Fixup, Piece, Program
from oracle_forms import NUMBER, Instance, edge, forms, instance

from vtx.isa.instruction import SEMANTICS
from vtx.isa.layout import GPR_NAMES
from vtx.spec.registers import CR0, CR4

_FORM_SHARE = 0.5
_FAMILY_WEIGHTS = {
    "arithmetic": 20, "logic": 8, "shifts": 14, "bits": 9, "multiply": 6, "moves": 15,
    "stack": 7, "branches": 14, "strings": 9,
}  # fmt: skip
_ANYWHERE = (Register.NONE, Register.RIP, Register.EIP)
_MAKERS, _MAKER_WEIGHTS = zip(*MAKERS, strict=True)
_RIP_RELATIVE = (Register.RIP, Register.EIP)


@dataclass(frozen=True)
class _Forms:
    """The forms of one code size by family."""

    families: tuple[Sequence[int], ...]
    weights: tuple[int, ...]


@cache
def _forms(bits: int) -> _Forms:
    random, families = Random(bits), {name: [] for name in _FAMILY_WEIGHTS}
    for code in forms(bits):
        mnemonic = instance(code, bits, 0, random).mnemonic
        families[SEMANTICS[mnemonic].__module__.rpartition(".")[2]].append(code)
    return _Forms(tuple(families.values()), tuple(_FAMILY_WEIGHTS.values()))


def generate(seed: int, mode: str, length: int | None = None) -> Program:
    """The program of a seed. `length` is its number of pieces, otherwise 5 to 60."""
    random, where = Random(f"{mode} {seed}"), MODES[mode]
    count = length or random.choice((random.randint(5, 15), random.randint(10, 60)))
    pieces, victims = [], []
    for number in range(count):
        draw = Draw(random, where, number, count)
        draw.victims = victims
        code, fixups = _made(draw)
        pieces.append(Piece(number, code, fixups))
    most = 250 + 14 * count
    return Program(
        seed, mode, tuple(pieces), _registers(random, where), _flags(random),
        (_function(random), _function(random)), _arrivals(random, most), _budgets(random), most,
        _start(random), _settings(random, where),
    )  # fmt: skip


def _made(draw: Draw) -> Made:
    if draw.random.random() < _FORM_SHARE:
        return _form(draw)
    maker = draw.random.choices(_MAKERS, _MAKER_WEIGHTS)[0]
    return maker(draw)


# --- instances of forms ------------------------------------------------------------------------
def _form(draw: Draw) -> Made:
    random, bits = draw.random, draw.mode.bits
    known = _forms(bits)
    while True:
        code = random.choice(random.choices(known.families, known.weights)[0])
        one = instance(code, bits, at.CODE - draw.mode.code_base, random)
        if one.decoded.memory_base not in _RIP_RELATIVE:
            break
    setup = _setup(draw, one) if random.random() < 0.9 else b""
    if one.target is None:
        return setup + one.code, ()
    size = next((n for n, text in ((1, "rel8"), (2, "rel16")) if text in one.form), 4)
    whole = setup + one.code
    fixup = Fixup(len(whole) - size, size, "relative", draw.near(), 0, len(whole))
    return whole, (fixup,)


def _setup(draw: Draw, one: Instance) -> bytes:
    """Registers for an instance's memory operands and counts."""
    random, emit, decoded = draw.random, draw.emit, one.decoded
    code = b""
    if one.mnemonic.startswith(("MOVS", "CMPS", "STOS", "LODS", "SCAS")) and one.mnemonic not in (
        "MOVSX", "MOVSXD",
    ):  # fmt: skip
        code += emit.load(1, random.choice((0, 1, 2, 3, 5, 9)), 32)
        code += emit.load(6, _data(draw, one), 32) + emit.load(7, _data(draw, one), 32)
        return code + random.choice((b"", b"", b"\xfc", b"\xfd"))
    if one.gva and decoded.memory_base not in _ANYWHERE:
        mask = (1 << one.address_width) - 1
        place = _data(draw, one) - decoded.memory_displacement
        if decoded.memory_index != Register.NONE:
            index = random.randrange(8)
            place -= index * decoded.memory_index_scale
            code += emit.load(NUMBER[decoded.memory_index], index, 32)
        code += emit.load(NUMBER[decoded.memory_base], place & mask, 64)
    if one.mnemonic.startswith("BT") and random.random() < 0.7:
        small = [r for r in one.registers if r != 4 and r != NUMBER.get(decoded.memory_base)]
        code += b"".join(emit.load(r, random.getrandbits(6), 32) for r in small[:1])
    if one.mnemonic in ("DIV", "IDIV") and random.random() < 0.6:
        code += emit.load(2, random.choice((0, 0, 1)), 32)
    return code


def _data(draw: Draw, one: Instance) -> int:
    """Offset in the data segments that a memory operand gets."""
    random = draw.random
    if one.address_width == 16 and draw.mode.data_base < 0x10000:
        base = at.LOW_DATA if draw.mode.data_base <= at.LOW_DATA else draw.mode.data_base
        return base - draw.mode.data_base + random.randrange(0x1FF8)
    roll = random.random()
    if roll < 0.7:
        gva = at.DATA + random.choice((0, 0x40, 0xFE0, 0x1800)) + random.randrange(0x40)
    elif roll < 0.85:
        gva = at.DATA + random.choice((0x1000, 0x2000)) - random.randrange(1, 16)
    elif roll < 0.93:
        page = random.choice((at.UNMAPPED, at.READ_ONLY, at.SUPERVISOR, at.UNMAPPED_TOO))
        gva = page + random.choice((-3, 0, 16, 0xFFE))
    else:
        gva = random.choice((at.DATA_ALIAS, at.CODE + 0x800, at.CODE_ALIAS + 0x40, at.STACK))
    if one.mnemonic == "CMPXCHG16B" and random.random() < 0.8:
        gva &= ~15
    return gva - draw.mode.data_base


# --- everything around the code ------------------------------------------------------------------
def _registers(random: Random, mode: Mode) -> tuple[int, ...]:
    values = [
        edge(random, 64) if random.random() < 0.6
        else at.DATA + random.randrange(0x2000) - mode.data_base
        for _ in GPR_NAMES
    ]  # fmt: skip
    values[4] = at.STACK + 0x1000 + random.choice((0x800, 0x7FE, 0, 4, 0x801)) - mode.data_base
    values[5] = at.STACK + 0x1000 + random.randrange(0x800) - mode.data_base
    return tuple(values)


def _flags(random: Random) -> int:
    flags = random.getrandbits(12) & 0x8D5
    for bit, chance in ((0x200, 0.8), (0x400, 0.1), (0x100, 0.03), (0x3000, 0.3), (0x4_0000, 0.1)):
        flags |= bit if random.random() < chance else 0
    return flags


def _function(random: Random) -> bytes:
    """A few instructions and RET, the same in every mode."""
    body = (b"\x90", b"\x04\x07", b"\x34\x55", b"\xf8", b"\xf9", b"\x0c\x81", b"\xd0\xc0", b"\xf5")
    return b"".join(random.choice(body) for _ in range(random.randrange(1, 10))) + b"\xc3"


def _arrivals(random: Random, most: int) -> tuple[Arrival, ...]:
    if random.random() < 0.3:
        return ()
    count = random.choice((1, 2, 5, 12))
    return tuple(
        Arrival(random.randrange(most), NMI if random.random() < 0.1 else
                random.choice((0x20, 0x21, 0x40, 0x4F, 0x80, 0xFF)))
        for _ in range(count)
    )  # fmt: skip


def _budgets(random: Random) -> tuple[int, ...]:
    most = random.choice((1, 3, 10, 40, 200, 1000))
    return tuple(random.randint(1, most) for _ in range(random.randint(1, 7)))


def _start(random: Random) -> int:
    return random.choice((0, 0, random.randrange(0x1000), 0xFF0, 0xFF0 - random.randrange(0x180)))


def _settings(random: Random, mode: Mode) -> dict[str, int]:
    settings = {"paging": random.randrange(3), "ist": random.choice((0, 1, 1))}
    settings["user"] = int(random.random() < 0.8)
    cr4 = CR4.PGE if random.random() < 0.4 else 0
    settings["global"] = int(bool(cr4) and random.random() < 0.5)
    for bit, chance in ((CR4.DE, 0.2), (CR4.UMIP, 0.1), (CR4.TSD, 0.1), (CR4.FSGSBASE, 0.3)):
        cr4 |= bit if random.random() < chance else 0
    if mode.cpl == 3:
        for bit in (CR4.SMEP, CR4.SMAP):
            cr4 |= bit if random.random() < 0.3 else 0
    settings["cr4"] = cr4
    settings["cr0"] = sum(b for b in (CR0.WP, CR0.AM, CR0.TS) if random.random() < 0.3)
    if random.random() < 0.1:
        settings["second_lacks"] = random.choice((1, 2, 4))
    if random.random() < 0.05:
        settings["code_lacks"] = 2
    if not mode.long and random.random() < 0.15 and mode.data_base:
        settings["limit"] = random.choice((0x4FFF, 0x5FFF, 0x7FFE, 0xFFFE))
    if mode.code_base and random.random() < 0.15:
        end = at.CODE + random.choice((0x1003, 0x1000, 0x1100, 0x10FF)) - mode.code_base
        settings["code_limit"] = end
    if random.random() < 0.5:
        settings["expand_down"] = 1
    if random.random() < 0.06:
        _breakpoint(random, settings)
    return settings


def _breakpoint(random: Random, settings: dict[str, int]) -> None:
    kind = random.choice((0, 1, 3))
    settings["dr0"] = at.DATA + random.randrange(0x40) if kind else at.CODE + random.randrange(64)
    settings["dr7"] = 0x402 | (kind | (random.choice((0, 1, 3)) if kind else 0) << 2) << 16
