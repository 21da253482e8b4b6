"""Tables and lines of text: framed on a terminal, plain columns everywhere else.

Must not know what the text is about.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TextIO


@dataclass(frozen=True, slots=True)
class Table:
    """Titles and rows of cells. `right` are the indexes of columns flushed right."""

    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: frozenset[int] = frozenset()


def print_table(table: Table, out: TextIO) -> None:
    """The table on `out`: with a frame when that is a terminal."""
    if out.isatty():
        _framed(table, out)
    else:
        for line in plain_lines(table):
            print(line, file=out)


def plain_lines(table: Table) -> Iterable[str]:
    """The table as aligned columns, two blanks apart, nothing cut off."""
    lines = [table.titles, *table.rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(table.titles))]
    for line in lines:
        cells = (
            cell.rjust(width) if index in table.right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()


def _framed(table: Table, out: TextIO) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table as Framed
    from rich.text import Text

    framed = Framed(box=SIMPLE_HEAD, pad_edge=False)
    for index, title in enumerate(table.titles):
        framed.add_column(Text(title), justify="right" if index in table.right else "left")
    for row in table.rows:
        framed.add_row(*(Text(cell) for cell in row))
    Console(file=out).print(framed)


def printable(text: str) -> str:
    """`text` with everything a terminal might obey replaced by its escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def json_line(value: object) -> str:
    """A value of dicts, lists and plain values as one line of JSON."""
    return json.dumps(value, separators=(",", ":"))


def count(number: int) -> str:
    """A number for people: 1,234,567."""
    return f"{number:,}"


def percent(part: int, whole: int) -> str:
    """A share with two decimals; 0 of nothing is 0.00%."""
    return f"{100 * part / whole if whole else 0:.2f}%"


def one_of_several(names: Sequence[str]) -> str:
    """Names as a list in a sentence: "bare, ept and shadow"."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"
