"""How a stencil is copied for a filling: everything that never changes is worked out before.

A plan belongs to the process. What differs between engines are the addresses of functions, which
are numbered here. Where stencils are copied to is `blocks`' business.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Any

from vtx.engine.native.relocate import PACKERS, RelocationError

Patches = tuple[tuple[int, int, str, int], ...]

_CODES = "bHiIqQ"
"""What `struct` calls the fields of the first packers."""
_SIZES = (1, 2, 4, 4, 8, 8)
_SIGNED = frozenset({0, 2, 4})
_PLAIN = len(_CODES)
BY_VALUE, BY_BACK, BY_CALL = range(3)
"""What goes into a field besides its addend: a known value, the number of instructions that are
not complete, the distance of a function."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A compiled stencil, sorted for copying."""

    code: bytes
    absolute: Patches
    """Offset, packer, symbol, addend."""
    relative: Patches
    """The same, the addend less the offset: the address of the code is to be taken off."""
    falls_through: str
    """The continuation that has to lie right behind the code; "" where there is none."""
    continuations: tuple[tuple[str, int], ...]
    """Symbol, and the hole of its place."""
    flags_out: int | None
    """Kind of flags it leaves; None for the kind it is entered with."""


symbol_numbers: dict[str, int] = {}
"""Functions that stencils call, numbered as they are met in this process."""


def symbol_number(symbol: str) -> int:
    """The number by which an engine's list of addresses knows `symbol`."""
    return symbol_numbers.setdefault(symbol, len(symbol_numbers))


Holes = Mapping[str, tuple[int | None, int | None]]
"""Symbol -> the number that goes in, or else the index of the known value that does."""


class Plan:
    """A stencil that waits for the known values of one instruction.

    To copy it, take `arguments`, put in what the other lists say, and call `pack(view, at,
    *arguments)`.
    """

    __slots__ = ("arguments", "back", "call_fields", "calls", "code", "falls_through", "fields",
                 "flags_out", "jumps", "leaves", "pack", "routines", "size", "targets",
                 "value_fields", "varying")  # fmt: skip

    def __init__(self, ready: Ready, holes: Holes, targets: dict[str, int]) -> None:
        """`targets`: continuation -> index of the known value that is its place.

        Raises RelocationError for a number that does not fit its field.
        """
        self.size = len(ready.code)
        self.falls_through = bool(ready.falls_through)
        self.flags_out = ready.flags_out
        self.targets = targets
        self.arguments: list[Any] = []
        self.varying: list[tuple[int, int, int, bool]] = []
        """(argument, index of the value, addend, whether the field is signed)"""
        self.back: list[tuple[int, int]] = []
        """(argument, addend) of the number of instructions that are not complete."""
        self.calls: list[tuple[int, int, int]] = []
        """(argument, number of the symbol, addend); the place of the code is to be taken off."""
        self.code: bytes
        """With the numbers that never change."""
        self.fields: list[tuple[int, int, int, int, int]] = []
        """(offset, packer, one of BY_VALUE, BY_BACK and BY_CALL, index of the value or number of
        the symbol, addend) of all that change, for who copies without `pack`."""
        self.call_fields: list[tuple[int, int, str, int]] = []
        """(offset, packer, symbol, addend) of the calls, for who moves what was copied."""
        self.value_fields: list[tuple[int, int, int]] = []
        """(offset, packer, index of the value), likewise."""
        self.jumps: list[tuple[int, int, str, int]] = []
        """(offset, packer, continuation, addend) of jumps, which may have to lead elsewhere."""
        self.leaves = any(symbol != "NEXT" for symbol in targets)
        """It may go on elsewhere than right behind it."""
        self.routines = tuple(
            symbol.removeprefix("routine_")
            for symbol in dict.fromkeys(symbol for _, _, symbol, _ in ready.relative)
            if symbol.startswith("routine_")
        )
        """Routines of the algebra that it calls."""
        try:
            self.pack = self._lay_out(ready, holes)
        except struct.error as error:
            raise RelocationError(f"a number does not fit a stencil: {error}") from None

    def _lay_out(self, ready: Ready, holes: Holes) -> "Pack":
        code = bytearray(ready.code)
        fields: list[Field] = []
        for offset, packer, symbol, addend in ready.absolute:
            if symbol not in holes:
                self.fields.append((offset, packer, BY_BACK, 0, addend))
                fields.append((offset, packer, self._note_back(addend)))
                continue
            fixed, varying = holes[symbol]
            if fixed is not None:
                PACKERS[packer](code, offset, fixed + addend)
            else:
                assert varying is not None, "a hole has a number"
                self.value_fields.append((offset, packer, varying))
                self.fields.append((offset, packer, BY_VALUE, varying, addend))
                fields.append((offset, packer, self._note_value(varying, packer, addend)))
        for offset, packer, symbol, addend in ready.relative:
            if symbol == "NEXT":  # right behind, unless the stencil is the last of its block
                PACKERS[packer](code, offset, self.size + addend)
            if symbol in self.targets or symbol == "NEXT":
                self.jumps.append((offset, packer, symbol, addend))
            else:
                number = symbol_number(symbol)
                self.call_fields.append((offset, packer, symbol, addend))
                self.fields.append((offset, packer, BY_CALL, number, addend))
                fields.append((offset, packer, self._note_call(number, addend)))
        self.code = bytes(code)
        return packing(self.code, fields, self.arguments)

    def _note_value(self, index: int, packer: int, addend: int) -> Callable[[int], None]:
        signed = packer in _SIGNED
        return lambda argument: self.varying.append((argument, index, addend, signed))

    def _note_back(self, addend: int) -> Callable[[int], None]:
        return lambda argument: self.back.append((argument, addend))

    def _note_call(self, number: int, addend: int) -> Callable[[int], None]:
        return lambda argument: self.calls.append((argument, number, addend))


Pack = Callable[..., None]
"""Called with a buffer, an offset and the arguments; raises struct.error if one does not fit."""


Field = tuple[int, int, Callable[[int], None]]
"""Offset, packer, and what is told which argument is the field's number."""


def packing(code: bytes, fields: Sequence[Field], arguments: list[Any]) -> Pack:
    """A function that writes `code` with numbers in its fields.

    Fills `arguments` with the pieces of code between the fields and zeros for the fields.
    """
    ordered = sorted(fields, key=lambda one: one[0])
    if any(packer >= _PLAIN for _, packer, _ in ordered):
        return _packing_one_by_one(code, ordered, arguments)
    text, at = "<", 0
    for offset, packer, note in ordered:
        if offset > at:
            text += f"{offset - at}s"
            arguments.append(code[at:offset])
        note(len(arguments))
        arguments.append(0)
        text += _CODES[packer]
        at = offset + _SIZES[packer]
    if at < len(code):
        text += f"{len(code) - at}s"
        arguments.append(code[at:])
    return Struct(text).pack_into


def _packing_one_by_one(code: bytes, fields: Sequence[Field], arguments: list[Any]) -> Pack:
    """For fields that are parts of instructions (AArch64)."""
    for _, _, note in fields:
        note(len(arguments))
        arguments.append(0)
    places = tuple((offset, PACKERS[packer]) for offset, packer, _ in fields)

    def pack(buffer: memoryview, at: int, *numbers: int) -> None:
        buffer[at : at + len(code)] = code
        for (offset, packer), number in zip(places, numbers, strict=True):
            packer(buffer, at + offset, number)

    return pack
