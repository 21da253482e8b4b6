"""Counting probe hits: how often, when, and in how many address spaces each place was reached.

Must not know how a trace is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

from vtx.trace import Probe
from vtx.view.text import Table, count, print_table, printable


@dataclass(slots=True)
class Hits:
    """The hits of one symbol. `first` and `last` are retired guest instructions."""

    symbol: str
    first: int
    hits: int = 0
    last: int = 0
    spaces: set[int] = field(default_factory=set)
    """The values of CR3 it was reached with."""

    def add(self, event: Probe) -> None:
        """Count one hit."""
        self.hits += 1
        self.last = event.retired
        self.spaces.add(event.cr3)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the columns of the table."""
        return {
            "symbol": self.symbol,
            "hits": self.hits,
            "first": self.first,
            "last": self.last,
            "address_spaces": len(self.spaces),
        }


@dataclass(slots=True)
class ProbeCounting:
    """Hits by symbol, in the order in which the symbols were first reached."""

    by_symbol: dict[str, Hits] = field(default_factory=dict)

    def count(self, event: Probe) -> None:
        """Count one hit under its symbol."""
        if event.symbol not in self.by_symbol:
            self.by_symbol[event.symbol] = Hits(event.symbol, event.retired)
        self.by_symbol[event.symbol].add(event)


def show_probes(rows: Sequence[Hits], out: TextIO) -> None:
    """The table of hits."""
    titles = ("PROBE", "Hits", "First", "Last", "Address spaces")
    cells = tuple(_cells(row) for row in rows)
    print_table(Table(titles, cells, frozenset(range(1, len(titles)))), out)


def _cells(row: Hits) -> tuple[str, ...]:
    numbers = (row.hits, row.first, row.last, len(row.spaces))
    return (printable(row.symbol), *(count(number) for number in numbers))
