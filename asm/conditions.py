"""Conditional assembly: .if and its relatives, .elseif, .else, .endif."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from asm.errors import SourceError
from asm.expressions import constant, evaluate
from asm.parse import parse_expression
from asm.program import Program
from asm.source import Statement


@dataclass(slots=True)
class _Level:
    """One open condition: whether its current part is assembled and whether one has been."""

    statement: Statement
    active: bool
    taken: bool
    seen_else: bool = False


_COMPARISONS: dict[str, Callable[[int], bool]] = {
    ".if": lambda v: v != 0,
    ".ifne": lambda v: v != 0,
    ".ifeq": lambda v: v == 0,
    ".ifge": lambda v: v >= 0,
    ".ifgt": lambda v: v > 0,
    ".ifle": lambda v: v <= 0,
    ".iflt": lambda v: v < 0,
}
_OPENING = frozenset(
    [*_COMPARISONS, ".ifdef", ".ifndef", ".ifnotdef", ".ifb", ".ifnb", ".ifc", ".ifnc",
     ".ifeqs", ".ifnes"]
)  # fmt: skip
_ALL = _OPENING | {".elseif", ".else", ".endif"}


def is_condition(name: str) -> bool:
    """Whether a directive belongs to conditional assembly."""
    return name in _ALL


class Conditions:
    """The stack of open conditions."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._levels: list[_Level] = []

    @property
    def active(self) -> bool:
        """Whether statements are being assembled."""
        return not self._levels or self._levels[-1].active

    @property
    def depth(self) -> int:
        return len(self._levels)

    def pop(self) -> Statement:
        """Drop the innermost condition; the statement that opened it."""
        return self._levels.pop().statement

    def cut(self, depth: int) -> None:
        """Drop conditions opened below `depth` (leaving a macro early)."""
        del self._levels[depth:]

    def handle(self, name: str, text: str, statement: Statement) -> None:
        """Process one conditional directive."""
        if name in _OPENING:
            outer = self.active
            level = _Level(statement, active=False, taken=True)
            self._levels.append(level)  # pushed first, so that a bad condition still nests
            if outer:
                level.active = level.taken = self._test(name, text)
            return
        if not self._levels:
            raise SourceError(f"{name} without .if", column=0)
        level = self._levels[-1]
        if name == ".endif":
            self._levels.pop()
            return
        if level.seen_else:
            raise SourceError(f"{name} after .else", column=0)
        level.seen_else = name == ".else"
        level.active = not level.taken and (name == ".else" or self._test(".if", text))
        level.taken |= level.active

    def _test(self, name: str, text: str) -> bool:
        text = text.strip()
        if name in (".ifdef", ".ifndef", ".ifnotdef"):
            if not text:
                raise SourceError("expected a symbol name", column=0)
            symbol = self._program.symbols.get(text)
            defined = symbol is not None and symbol.is_defined
            return defined == (name == ".ifdef")
        if name in (".ifb", ".ifnb"):
            return (not text.strip('"')) == (name == ".ifb")
        if name in (".ifc", ".ifnc", ".ifeqs", ".ifnes"):
            return self._same(text) == (name in (".ifc", ".ifeqs"))
        value = constant(evaluate(parse_expression(text), self._program))
        return _COMPARISONS[name](value)

    @staticmethod
    def _same(text: str) -> bool:
        parts = re.match(r"\s*(\"(?:\\.|[^\"])*\"|'[^']*'|[^,]*),(.*)$", text, re.DOTALL)
        if parts is None:
            raise SourceError("expected two strings separated by a comma", column=0)
        return parts[1].strip().strip("\"'") == parts[2].strip().strip("\"'")
