"""Basic VM-exit reasons and VM-instruction errors: what a VMM reads after an exit or a VMfail.

Must not know how an exit is taken; bit layouts of qualifications are in `qualifications`.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal

from vtx.spec.tables import Names, SpecError, lookup, number_in, rows


@dataclass(frozen=True, slots=True)
class ExitReason:
    """One basic exit reason (SDM 3D, VMX Basic Exit Reasons); text columns are words, not code."""

    number: int
    name: str
    kind: Literal["unconditional", "controlled", "dual-monitor", "entry-failure"]
    instruction_length: str
    delivery: str
    when: str = ""
    qualification: str = ""
    info_layout: str = ""
    meaning: str = ""
    notes: str = ""
    see: str = ""

    @property
    def entry_failure(self) -> bool:
        """Whether this reason reports a failed VM entry (bit 31 of EXIT_REASON is then 1)."""
        return self.kind == "entry-failure"


@dataclass(frozen=True, slots=True)
class InstructionError:
    """One VM-instruction error number (SDM 3C, VM Instruction Error Numbers)."""

    number: int
    meaning: str


@cache
def exit_reasons() -> tuple[ExitReason, ...]:
    """All basic exit reasons in order of number."""
    return rows("exit_reasons", "exits", ExitReason)


@cache
def _by_name() -> dict[str, ExitReason]:
    return {row.name: row for row in exit_reasons()}


@cache
def _by_number() -> dict[int, ExitReason]:
    return {row.number: row for row in exit_reasons()}


@cache
def _numbers() -> dict[str, int]:
    return {row.name: row.number for row in exit_reasons()}


def exit_reason(name_or_number: str | int) -> ExitReason:
    """The exit reason with this name or basic number (also as text); SpecError if there is none."""
    number = number_in(name_or_number) if isinstance(name_or_number, str) else name_or_number
    if number is None:
        return lookup("exit reason", _by_name(), str(name_or_number))
    if number not in _by_number():
        raise SpecError(f"no exit reason has number {number}")
    return _by_number()[number]


@cache
def instruction_errors() -> tuple[InstructionError, ...]:
    """All VM-instruction errors in order of number."""
    return rows("instruction_errors", "errors", InstructionError)


def instruction_error(number: int) -> InstructionError:
    """The VM-instruction error with this number; SpecError if the manual defines none."""
    for row in instruction_errors():
        if row.number == number:
            return row
    raise SpecError(f"no VM-instruction error has number {number}")


EXITS: Names[int] = Names("exit reason", _numbers)
"""Basic exit reasons by name: `EXITS.EPT_VIOLATION == 48`."""
