"""Source text to statements: comments blanked out, lines counted, columns kept.

Knows comments, strings and separators; knows nothing of directives or instructions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from asm.errors import Diagnostic, SourceError

_TOKEN = re.compile(
    r'"(?:\\.|[^"\\\n])*"|\'(?:\\[^\n]|[^\\\n])\'?|/\*.*?(?:\*/|\Z)|//[^\n]*|#[^\n]*', re.DOTALL
)
_SPLIT = re.compile(r'(?:"(?:\\.|[^"\\])*"?|\'(?:\\.|[^\\])\'?|[^;"\'])+')


@dataclass(frozen=True, slots=True)
class SourceLine:
    """One line. `text` is as written, `code` the same with comments blanked (same columns).

    `notes` tell the macro expansions it came through, innermost first; `origin` is the
    (file, line) a debugger should show for it: the outermost macro call, or the line itself.
    """

    file: str
    number: int
    text: str
    code: str
    notes: tuple[str, ...] = ()
    origin: tuple[str, int] = ("", 0)


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of a line; `column` counts from 0 into the line's text."""

    line: SourceLine
    column: int
    text: str

    def diagnostic(self, message: str, *, offset: int = 0, severity: str = "error") -> Diagnostic:
        """A diagnostic whose caret stands `offset` characters into this statement."""
        line = self.line
        column = min(self.column + offset, len(line.text.rstrip())) + 1
        return Diagnostic(line.file, line.number, column, message, line.text, severity, line.notes)

    def explain(self, error: SourceError, base: int = 0) -> Diagnostic:
        """Place a SourceError in this statement, whose operands start at offset `base`."""
        offset = locate(error, self.text[base:])
        return self.diagnostic(error.message, offset=base + offset if offset is not None else 0)


def locate(error: SourceError, text: str) -> int | None:
    """Where in `text` (a statement's operands) an error points, if it says so."""
    if error.column is not None:
        return error.column
    if error.name is not None:
        pattern = rf"(?<![\w.$@]){re.escape(error.name)}(?![\w$])"
        match = re.search(pattern, text, re.IGNORECASE)
        if match:
            return match.start()
    if error.operand is not None:
        return operand_column(text, error.operand)
    return None


def operand_column(text: str, index: int) -> int:
    """Offset of the comma-separated operand `index` in `text`."""
    start = depth = 0
    for position, character in enumerate(text):
        if character in "[(":
            depth += 1
        elif character in "])":
            depth -= 1
        elif character == "," and depth == 0:
            index -= 1
            if index < 0:
                break
            start = position + 1
    while start < len(text) and text[start].isspace():
        start += 1
    return start


def _blank(match: re.Match[str]) -> str:
    text = match[0]
    if text[0] in "\"'":
        return text
    return "".join("\n" if character == "\n" else " " for character in text)


def split_lines(text: str, file: str) -> list[SourceLine]:
    """All lines of a file. Raises SourceError for a comment that never ends."""
    text = text.replace("\r\n", "\n").replace("\0", " ")
    for match in _TOKEN.finditer(text):
        if (match[0].startswith("/*") and not match[0].endswith("*/")) or match[0] == "/*/":
            number = text.count("\n", 0, match.start()) + 1
            column = match.start() - (text.rfind("\n", 0, match.start()) + 1)
            raise SourceError(f"line {number}: comment is never closed", column=column)
    code = _TOKEN.sub(_blank, text)
    return [
        SourceLine(file, number, raw, clean, origin=(file, number))
        for number, (raw, clean) in enumerate(
            zip(text.split("\n"), code.split("\n"), strict=True), start=1
        )
    ]


def statements(line: SourceLine) -> Iterator[Statement]:
    """The statements of a line, separated by semicolons outside strings."""
    code = line.code
    if ";" not in code:
        pieces = [(0, code)]
    else:
        pieces = [(match.start(), match[0]) for match in _SPLIT.finditer(code)]
    for start, piece in pieces:
        text = piece.strip()
        if text:
            yield Statement(line, start + len(piece) - len(piece.lstrip()), text)
