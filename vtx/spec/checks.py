"""VM-entry checks by their stable ids: the rule in words and what breaking it gives.

Must not know how a rule is evaluated; the predicates carry the same ids.
"""

import re
from dataclasses import dataclass
from functools import cache
from typing import Literal

from vtx.spec.tables import lookup, rows

Stage = Literal[
    "before",
    "basic",
    "control",
    "exit-control",
    "entry-control",
    "host",
    "guest",
    "msr-load",
    "commit",
]


@dataclass(frozen=True, slots=True)
class EntryCheck:
    """One VM-entry rule; `text` is what must hold, `result` what the CPU does when it does not."""

    id: str
    order: int
    stage: Stage
    text: str
    result: str
    see: str

    @property
    def error_number(self) -> int | None:
        """The VM-instruction error number of a VMfailValid, else None."""
        return _number(r"VMfailValid (\d+)", self.result)

    @property
    def exit_number(self) -> int | None:
        """The basic exit reason of a failed entry (33 or 34), else None."""
        return _number(r"exit (\d+) qualification", self.result)

    @property
    def qualification(self) -> int | None:
        """The exit qualification of a failed entry, where the rule alone decides it."""
        return _number(r"qualification (\d+)", self.result)


def _number(pattern: str, text: str) -> int | None:
    found = re.search(pattern, text)
    return int(found[1]) if found else None


@cache
def entry_checks() -> tuple[EntryCheck, ...]:
    """All VM-entry checks in order."""
    return rows("entry_checks", "checks", EntryCheck)


@cache
def _by_id() -> dict[str, EntryCheck]:
    return {row.id: row for row in entry_checks()}


def entry_check(check_id: str) -> EntryCheck:
    """The check with this id, e.g. "control.cr3-target-count"; SpecError if there is none."""
    return lookup("VM-entry check", _by_id(), check_id)
