"""A generated program: pieces of machine code that keep their meaning when some are left out.

A piece's fixups name other pieces by number; a piece that is no longer there stands for the
next one behind it. So a shrinker may drop any piece.
"""

from bisect import bisect_left
from dataclasses import dataclass, field

from lockstep_events import Arrival
from lockstep_places import CODE, CODE_SIZE, FUNCTIONS, MODES, OTHER_FUNCTIONS, Mode

UD2 = b"\x0f\x0b"
INT_END = b"\xcd\x92"


@dataclass(frozen=True, slots=True)
class Fixup:
    """A place in a piece that depends on where the piece called `target` stands.

    `kind` is "relative" (counted from `end`, bytes into this piece), "code" (offset in the
    code segment) or "data" (offset in the data segments); `size` in bytes.
    """

    offset: int
    size: int
    kind: str
    target: int
    addend: int = 0
    end: int = 0


@dataclass(frozen=True, slots=True)
class Piece:
    """Some instructions that belong together. `number` never changes."""

    number: int
    code: bytes
    fixups: tuple[Fixup, ...] = ()


@dataclass(frozen=True)
class Program:
    """Everything that decides a run, but for the engine."""

    seed: int
    mode: str
    pieces: tuple[Piece, ...]
    registers: tuple[int, ...]
    flags: int
    functions: tuple[bytes, bytes]
    """Code of the two frames that may be mapped at FUNCTIONS."""
    arrivals: tuple[Arrival, ...] = ()
    budgets: tuple[int, ...] = (50,)
    """Instructions per slice, over and over."""
    most: int = 400
    start: int = 0
    """Offset of the first piece from CODE."""
    settings: dict[str, int] = field(default_factory=dict)
    """Choices of the machine's set-up by name (see lockstep_machine)."""

    @property
    def where(self) -> Mode:
        return MODES[self.mode]


@dataclass(frozen=True)
class Placed:
    """A program laid out: the pages of code, and per byte of code the way to the next piece."""

    code: bytes
    other: bytes
    skips: bytes
    places: dict[int, int]


def place(program: Program) -> Placed:
    """Lay a program out from CODE + start on, with the end of the run behind it."""
    mode, at, places = program.where, CODE + program.start, {}
    for piece in program.pieces:
        places[piece.number] = at
        at += len(piece.code)
    numbers, ends = sorted(places), at
    code = bytearray(UD2 * (CODE_SIZE // 2))
    skips = bytearray(CODE_SIZE)

    def label(number: int) -> int:
        found = bisect_left(numbers, number)
        return places[numbers[found]] if found < len(numbers) else ends

    for piece in program.pieces:
        here = places[piece.number]
        _put(code, skips, here, _fixed(piece, here, label, mode))
    _put(code, skips, ends, INT_END)
    other = bytearray(UD2 * 0x800)
    for frame, content in zip((code, other), program.functions, strict=True):
        base = FUNCTIONS - CODE if frame is code else 0
        frame[base : base + len(content)] = content
    for n in range(len(program.functions[0])):  # a fault there goes on behind the function
        skips[FUNCTIONS - CODE + n] = 0
    return Placed(bytes(code), bytes(other), bytes(skips), places)


def _put(code: bytearray, skips: bytearray, here: int, content: bytes) -> None:
    first = here - CODE
    code[first : first + len(content)] = content
    for n in range(len(content)):
        skips[first + n] = len(content) - n


def _fixed(piece, here, label, mode) -> bytes:  # type: ignore[no-untyped-def]
    content = bytearray(piece.code)
    for one in piece.fixups:
        value = label(one.target) + one.addend
        if one.kind == "relative":
            value -= here + one.end
            if one.size == 1 and not -128 <= value < 128:
                value = 0
        else:
            value -= mode.code_base if one.kind == "code" else mode.data_base
        value &= (1 << 8 * one.size) - 1
        content[one.offset : one.offset + one.size] = value.to_bytes(one.size, "little")
    return bytes(content)


assert OTHER_FUNCTIONS == CODE + CODE_SIZE
