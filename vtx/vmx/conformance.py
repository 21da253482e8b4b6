"""What of the tables is built and what is advertised: VM-entry checks, controls, exit reasons.

A row is built where code keeps it, and advertised where some CPU profile lets software meet it.
Which tests test a row stands in spec/conformance.toml, which is collected from the tests' marks.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

from vtx.machine.built import BUILT
from vtx.spec import SpecError, controls, entry_checks, exit_reasons, profiles
from vtx.spec.tables import read_table
from vtx.vmx.capability import IMPLEMENTED_CONTROLS, allowed_controls
from vtx.vmx.checks import BUILT_AS_CODE, checks

Kind = Literal["check", "control", "exit"]

UNBUILT_EXITS: Mapping[str, str] = {
    "IO_SMI": "no SMM",
    "OTHER_SMI": "no SMM",
    "GETSEC": "no SMX",
    "RSM": "no SMM",
    "ENTRY_FAIL_MACHINE_CHECK": "no machine checks",
    "APIC_ACCESS": "no virtualized APIC accesses",
    "VIRTUALIZED_EOI": "no virtual-interrupt delivery",
    "APIC_WRITE": "no APIC-register virtualization",
    "ENCLS": "no SGX",
    "XSAVES": "no XSAVE",
    "XRSTORS": "no XSAVE",
}
"""Exit reasons up to XRSTORS that nothing takes, and why; later ones are not built at all."""

_LAST_KNOWN = 64
_NEEDS_FEATURE = {"MWAIT": "MONITOR", "MONITOR": "MONITOR", "XSETBV": "XSAVE"}
"""Exits of instructions that are #UD without a feature."""
_NEVER_REFUSES = {
    "control.eptp-accessed-dirty": "every profile with EPT has its accessed and dirty flags",
    "msr-load.smm-only": "no MSR that is written in SMM only is built",
    "msr-load.not-loadable": "every MSR that is built may be loaded",
    "commit.launched": "it refuses nothing",
    "commit.inject": "it refuses nothing",
    "commit.pending-exits": "it refuses nothing",
}
"""Checks in the table that no software can break on these CPUs."""


@dataclass(frozen=True)
class ConformanceRow:
    """One VM-entry check, control or exit reason; `id` begins with its kind."""

    id: str
    kind: Kind
    text: str
    built: bool
    advertised: bool
    tests: tuple[str, ...] = field(default=())

    @property
    def tested(self) -> bool:
        return bool(self.tests)

    @property
    def missing(self) -> bool:
        """Software can meet it, and no test does."""
        return self.advertised and not self.tested


@cache
def rows() -> tuple[ConformanceRow, ...]:
    """All rows, in the order of the tables."""
    known = _tests()
    return tuple(
        ConformanceRow(id, kind, text, built, advertised, known.get(id, ()))
        for id, kind, text, built, advertised in (*_checks(), *_controls(), *_exits())
    )


@cache
def row_ids() -> frozenset[str]:
    return frozenset(row.id for row in rows())


def counts() -> dict[str, dict[str, int]]:
    """Kind -> how many rows there are, are built, advertised, tested, and lack a test."""
    found = {}
    for kind in ("check", "control", "exit"):
        of_kind = [row for row in rows() if row.kind == kind]
        found[kind] = {
            "rows": len(of_kind),
            "built": sum(row.built for row in of_kind),
            "advertised": sum(row.advertised for row in of_kind),
            "tested": sum(row.tested for row in of_kind),
            "advertised_without_test": sum(row.missing for row in of_kind),
        }
    return found


_Facts = tuple[str, Kind, str, bool, bool]


def _checks() -> list[_Facts]:
    predicates = {rule.id: rule for rule in checks()}
    found: list[_Facts] = []
    for row in entry_checks():
        built = row.id in predicates or row.id in BUILT_AS_CODE
        reachable = row.id not in predicates or predicates[row.id].reachable
        advertised = built and reachable and row.id not in _NEVER_REFUSES
        found.append((f"check.{row.id}", "check", row.text, built, advertised))
    return found


def _allowed_somewhere() -> frozenset[str]:
    return frozenset().union(*(allowed_controls(profile) for profile in profiles()))


def _controls() -> list[_Facts]:
    allowed = _allowed_somewhere()
    return [
        (f"control.{row.id}", "control", row.meaning, row.id in IMPLEMENTED_CONTROLS,
         row.id in allowed)
        for row in controls()
    ]  # fmt: skip


def _exits() -> list[_Facts]:
    allowed = _allowed_somewhere()
    found: list[_Facts] = []
    for row in exit_reasons():
        built = row.name not in UNBUILT_EXITS and row.number <= _LAST_KNOWN
        asks = re.findall(r"\b(?:pin|proc|sec)\.[A-Z0-9_]+", row.when)
        always = row.when.startswith("always")
        possible = always or not asks or any(control in allowed for control in asks)
        feature = _NEEDS_FEATURE.get(row.name)
        advertised = built and possible and (feature is None or feature in BUILT)
        found.append((f"exit.{row.name}", "exit", row.meaning, built, advertised))
    return found


def _tests() -> dict[str, tuple[str, ...]]:
    """Row -> the tests that cover it; empty where nobody has collected them yet."""
    try:
        table = read_table("conformance")
    except SpecError:
        return {}
    return {row: tuple(tests) for row, tests in table.get("covers", {}).items()}
