"""Diagnostics: where a mistake stands in the source and how it is shown.

This module knows positions and wording, and nothing of the language being assembled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MAX_ERRORS = 20


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One error or warning. `line` and `column` count from 1; `notes` follow the caret."""

    file: str
    line: int
    column: int
    message: str
    source_line: str
    severity: str = "error"
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        shown = self.source_line.rstrip().replace("\t", " ")
        head = f"{self.file}:{self.line}:{self.column}: {self.severity}: {self.message}"
        caret = " " * (self.column - 1) + "^"
        lines = [head, *([f"    {shown}", f"    {caret}"] if shown else []), *self.notes]
        return "\n".join(lines).encode("utf-8", "replace").decode()  # the source may not be UTF-8


class AssemblyErrors(Exception):  # noqa: N818 (the plural says that it holds several)
    """Everything that was wrong with one source; `diagnostics` is in source order."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        self.diagnostics = list(diagnostics)
        super().__init__("\n".join(str(diagnostic) for diagnostic in self.diagnostics))


class SourceError(Exception):
    """A mistake in the statement being assembled; the driver adds file and line.

    `column` is an offset in the statement's text, or `operand` the index of the operand at
    fault, or `name` a word in the statement. The first of these that is given places the caret.
    """

    def __init__(
        self,
        message: str,
        *,
        column: int | None = None,
        operand: int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.column = column
        self.operand = operand
        self.name = name


class StopAssembly(Exception):  # noqa: N818 (control flow, not an error)
    """Raised to leave the source early: `.abort`, or too many errors."""
