"""The kit: VM entries, exits and faults as code in VMX root mode on the emulated CPU.

For every VM-entry rule a VMCS that breaks it alone and a near one that passes; for every exit an
instruction that causes it and one that does not; for faults and exits at once, which comes first.
With VTX_KIT_ALONE=1 each test runs its own cases only, as the mutants want it.
"""

from __future__ import annotations

import os

import pytest

from tests.kit.kit_checks import (
    CONTEXTS,
    HELD_BY_OTHERS,
    legal_vmcs,
    pairs,
    rules,
    violated_by,
)
from tests.kit.kit_exits import CASES, ExitCase
from tests.kit.kit_layout import Case
from tests.kit.kit_run import FAIL_VALID, GUEST_STATE, Report, reports_of, run_kit
from tests.vtx.engines import QUICK_ENGINES
from vtx.vmx.checks import checks

ALONE = "VTX_KIT_ALONE"
BROKEN_ALONE = [rule.id for rule, _ in rules() if rule.id not in HELD_BY_OTHERS]
EVERY_RULE = pytest.mark.parametrize(
    "rule", [pytest.param(id, marks=pytest.mark.covers(f"check.{id}")) for id in BROKEN_ALONE]
)
EVERY_CASE = pytest.mark.parametrize(
    "case", [pytest.param(c, id=c.case.name, marks=pytest.mark.covers(*c.covers)) for c in CASES]
)


def report(case: Case, engine: str, among: tuple[Case, ...]) -> Report:
    """What becomes of the case, of one run of all cases that are tested with it."""
    if os.environ.get(ALONE):
        return run_kit([case], engine)[0]
    return reports_of(among, engine)[among.index(case)]


def entry_cases() -> tuple[Case, ...]:
    return tuple(case for pair in pairs().values() for case in (pair.broken, pair.near))


EXIT_CASES = tuple(case.case for case in CASES)


@EVERY_RULE
def test_a_vmcs_breaks_exactly_this_rule(rule: str) -> None:
    pair = pairs()[rule]

    assert violated_by({**legal_vmcs(), **pair.broken.edits}) == [rule]
    assert violated_by({**legal_vmcs(), **pair.near.edits}) == []
    assert pair.broken.edits != pair.near.edits


@QUICK_ENGINES
@EVERY_RULE
@pytest.mark.covers("exit.ENTRY_FAIL_GUEST_STATE")
def test_a_broken_rule_fails_vm_entry_as_its_stage_demands(engine: str, rule: str) -> None:
    pair = pairs()[rule]
    found = report(pair.broken, engine, entry_cases())

    row = pair.rule.row
    if row.stage == "guest":
        assert (found.status, found.reason) == (0, GUEST_STATE)
        assert found.qualification == (row.qualification or 0)
    else:
        assert found.status == FAIL_VALID
        assert found.error == (8 if row.stage == "host" else 7)


@QUICK_ENGINES
@EVERY_RULE
def test_a_near_vmcs_passes_vm_entry(engine: str, rule: str) -> None:
    found = report(pairs()[rule].near, engine, entry_cases())

    assert found.entered, found.in_words


@QUICK_ENGINES
@EVERY_CASE
def test_an_instruction_exits_faults_or_goes_through(engine: str, case: ExitCase) -> None:
    found = report(case.case, engine, EXIT_CASES)

    want = case.expected
    assert (found.status, found.reason) == (0, want.reason), found
    if want.qualification is not None:
        assert found.qualification == want.qualification, found
    if want.vector is not None:
        assert found.interruption & 0x8000_07FF == 0x8000_0300 | want.vector, found
    if want.length is not None:
        assert found.length == want.length, found
    if want.rip is not None:
        assert found.rip == want.rip, found


def test_a_context_breaks_no_rule() -> None:
    for name, edits in CONTEXTS.items():
        assert violated_by({**legal_vmcs(), **edits}) == [], name


def test_every_reachable_rule_is_broken_alone_or_listed_with_a_reason() -> None:
    reachable = {rule.id for rule in checks() if rule.reachable}

    assert set(pairs()) | set(HELD_BY_OTHERS) == reachable
    assert not set(pairs()) & set(HELD_BY_OTHERS)
