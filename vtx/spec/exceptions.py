"""Exceptions by vector: mnemonic, class, error code, and their part in double faults.

Must not know how an event is delivered.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from vtx.spec.tables import Names, SpecError, lookup, number_in, read_table, typed

Contributory = Literal["benign", "contributory", "page_fault", "double_fault"]


@dataclass(frozen=True, slots=True)
class ExceptionVector:
    """One architectural vector (SDM 3A, Exception and Interrupt Reference).

    kind is the manual's class: fault, trap, abort, interrupt; #DB is "fault or trap".
    """

    vector: int
    mnemonic: str
    name: str
    kind: Literal["fault", "trap", "abort", "interrupt", "fault or trap"]
    error_code: bool
    contributory: Contributory


@cache
def exceptions() -> tuple[ExceptionVector, ...]:
    """All architectural vectors, in order."""
    table: list[dict[str, Any]] = read_table("exceptions")["exceptions"]
    return tuple(
        typed({**row, "kind": row.get("class")}, ExceptionVector, f"exceptions.toml, [{i}]")
        for i, row in enumerate(table)
    )


@cache
def _by_vector() -> dict[int, ExceptionVector]:
    return {row.vector: row for row in exceptions()}


@cache
def _by_mnemonic() -> dict[str, ExceptionVector]:
    return {row.mnemonic: row for row in exceptions()}


@cache
def _vectors() -> dict[str, int]:
    return {row.mnemonic: row.vector for row in exceptions()}


def exception(vector: int | str) -> ExceptionVector:
    """The exception with this vector or mnemonic ("PF", "#PF", "14"); SpecError if none."""
    number = number_in(vector) if isinstance(vector, str) else vector
    if number is None:
        return lookup("exception", _by_mnemonic(), str(vector).removeprefix("#"))
    if number not in _by_vector():
        raise SpecError(f"no exception has vector {number}")
    return _by_vector()[number]


VECTORS: Names[int] = Names("exception", _vectors)
"""Vectors by mnemonic: `VECTORS.PF == 14`."""
