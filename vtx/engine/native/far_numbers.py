"""How code gets at the numbers that are put into it later, on hosts that need telling.

To LLVM a hole is the address of a symbol. x86-64 has fields that hold it; AArch64 would reach it
relative to the code, from which a number is too far away. There the text is changed to build the
number from 16-bit pieces (ELF for the Arm 64-bit Architecture, group relocations). What the
numbers mean is not known here.
"""

import re

from vtx.engine.native.objects import EM_AARCH64
from vtx.engine.native.relocate import HOST

_HOLE = re.compile(r"ptrtoint \(ptr @(\w+_(\w+)) to i64\)")
_PIECES = {"slot": 1, "8": 2, "16": 2, "32": 2}
"""Kind of hole -> 16-bit pieces of its number; others have all four."""


def with_far_numbers(text: str, machine: int = HOST) -> str:
    """The text of stencils with every hole in the form that the host needs."""
    return _HOLE.sub(_moved, _hoisted(text)) if machine == EM_AARCH64 else text


def _hoisted(text: str) -> str:
    """Each function with its holes named at its start, where any of its blocks may use them."""
    lines = list[str]()
    names, at = dict[str, str](), 0

    def named(found: re.Match[str]) -> str:
        nonlocal at
        if found[1] not in names:
            names[found[1]] = f"%{found[1]}.number"
            lines.insert(at, f"  {names[found[1]]} = {found[0]}")
            at += 1
        return names[found[1]]

    for line in text.split("\n"):
        if line.startswith("define "):
            names.clear()
            at = len(lines) + 1
        elif len(lines) == at and line.endswith(":"):
            at += 1  # behind the label of the first block, where it has one
        changed = _HOLE.sub(named, line)
        lines.append(changed)
    return "\n".join(lines)


def _moved(found: re.Match[str]) -> str:
    """A move of each piece of a hole's number."""
    symbol, pieces = found[1], _PIECES.get(found[2], 4)
    moves = [
        f"{'movk' if piece else 'movz'} $0, #:abs_g{piece}{'_nc' if piece < 3 else ''}:{symbol}"
        for piece in range(pieces)
    ]
    return f'call i64 asm "{"; ".join(moves)}", "=r"()'
