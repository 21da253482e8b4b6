"""Mutants: one predicate, control or exit turned around, and whether its own tests notice.

`python -m tests.mutants` reads jobs as JSON on standard input, `{"jobs": N, "rows": {row: [test
ids]}}`, and writes a line of JSON for each row as it is done. Every mutant lives in a process
forked from this one, which has imported the machine but built no routine yet; there the algebra
is changed before anything is built of it:

- a check: its registered predicate is negated;
- a control: every read of its bit by VM entries and exits is negated, but not by the checks;
- an exit: the guard around it in the algebra is negated; where it has none, or where it is taken
  between instructions, it is left out.

Rows kept by code of another kind, and those without an effect, have no mutant. Mutants run with
the reference engine.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

KILLED, SURVIVED, NO_TEST, NO_MUTANT = "killed", "survived", "no test", "no mutant"
SECONDS = 150
"""A mutant may run for ever; one that takes longer than this is killed by that."""
_TESTS_FAILED, _TOO_LONG = 1, -signal.SIGALRM
_READERS = ("transfer", "entry", "exit", "msr_areas", "instructions", "operations")

Apply = Callable[[], None]

WITHOUT_EFFECT = {
    "control.proc.MWAIT_EXITING": "MWAIT is #UD without its CPUID feature, which is not built",
    "control.proc.MONITOR_EXITING": "so is MONITOR",
}
"""Controls that may be 1 and change nothing."""


def mutant(row: str) -> Apply | None:
    """What turns the row around in this process; None where nothing can."""
    from vtx.vmx.checks import BUILT_AS_CODE

    kind, name = row.split(".", 1)
    if row in WITHOUT_EFFECT:
        return None
    if kind == "check":
        return None if name in BUILT_AS_CODE else lambda: _negate_check(name)
    if kind == "control":
        return lambda: _negate_control(name)
    return lambda: _negate_exit(name)


def _negate_check(name: str) -> None:
    from dataclasses import replace

    from vtx.vmx import checks

    checks.checks()  # everything is registered
    old = checks._CHECKS[name]
    checks._CHECKS[name] = replace(old, predicate=lambda view: ~old.predicate(view))
    checks.checks.cache_clear()


def _negate_control(name: str) -> None:
    from vtx.spec import control, control_word
    from vtx.vmx.vmcs import read_field

    row = control(name)
    word = control_word(row.word).field

    def negated(b: Any, field: str) -> Any:
        value = read_field(b, field)
        return value ^ row.mask if field == word else value

    for module in _READERS:
        loaded = importlib.import_module(f"vtx.vmx.{module}")
        if hasattr(loaded, "read_field"):
            loaded.read_field = negated  # type: ignore[attr-defined]


def _negate_exit(name: str) -> None:
    from vtx.engine.boundary import Boundary
    from vtx.engine.reference import Reference
    from vtx.isa.builder import Builder
    from vtx.spec import EXITS
    from vtx.vmx import entry

    number = getattr(EXITS, name)
    exit, between, deliver = Builder.exit, Boundary._exit, Reference.deliver
    fail_entry = entry._fail_entry

    def negated_exit(self: Builder, reason: int) -> None:
        if reason != number or _negate_guard(self):
            exit(self, reason)
        else:
            self.next()

    def negated_failure(b: Builder, reason: int, qualification: Any) -> None:
        if reason == number:
            assert _negate_guard(b)
        fail_entry(b, reason, qualification)

    def not_between(self: Boundary, reason: int) -> bool:
        return reason != number and between(self, reason)

    def not_delivered(self: Reference, routine: str, *args: int) -> None:
        if name != "EXTERNAL_INTERRUPT" or routine != "exit_for_interrupt":
            deliver(self, routine, *args)

    Builder.exit = negated_exit  # type: ignore[method-assign]
    Boundary._exit = not_between  # type: ignore[method-assign]
    Reference.deliver = not_delivered  # type: ignore[method-assign]
    entry._fail_entry = negated_failure


def _negate_guard(b: Any) -> bool:
    """Negate the condition of the IF in which the next op would stand; whether there is one."""
    from vtx.isa.primitives import Prim
    from vtx.isa.program import Op

    depth = 0
    for at in range(len(b.ops) - 1, -1, -1):
        op = b.ops[at]
        depth += (op.prim is Prim.END) - (op.prim is Prim.IF)
        if op.prim is Prim.IF and depth < 0:
            one, negated = b._new(), b._new()
            b.ops[at : at + 1] = [
                Op(Prim.CONST, (one,), 1, (), 1),
                Op(Prim.XOR, (negated,), 1, (op.args[0], one)),
                op._replace(args=(negated,)),
            ]
            return True
    return False


# --- running them ----------------------------------------------------------------------------


@dataclass
class Running:
    row: str
    pid: int
    since: float


def preload() -> None:
    """Import what every mutant needs; build nothing."""
    import tests.kit.kit_exits
    import tests.kit.kit_run
    import vtx.engine.choice
    import vtx.vmm.launch

    tests.kit.kit_checks.rules()
    assert vtx.engine.choice and vtx.vmm.launch


def start(row: str, tests: Sequence[str]) -> Running:
    """Fork a mutant that runs the tests, the first failure ending it."""
    pid = os.fork()
    if pid:
        return Running(row, pid, time.monotonic())
    signal.alarm(SECONDS)
    null = os.open(os.devnull, os.O_RDWR)
    for handle in (0, 1, 2):
        os.dup2(null, handle)
    os.environ["VTX_KIT_ALONE"] = "1"
    code = 70
    try:
        apply = mutant(row)
        if apply is not None:
            apply()
            code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *tests])
    finally:
        os._exit(int(code))


def outcome(status: int) -> str:
    """What the end of a mutant's process says."""
    code = os.waitstatus_to_exitcode(status)
    if code in (_TESTS_FAILED, _TOO_LONG):
        return KILLED
    if code == 0:
        return SURVIVED
    return NO_TEST if code == 5 else f"pytest ended with {code}"


def own_tests(tests: Sequence[str]) -> list[str]:
    """Those that run with the reference engine, the quick ones first."""
    usable = [test for test in tests if "native" not in test and "evaluate" not in test]
    return sorted(usable, key=lambda test: ("tests/kit/" in test, "exactly_this" in test))


def run_all(rows: dict[str, list[str]], jobs: int, report: Callable[[str, str], None]) -> None:
    """Every row's mutant, `jobs` at a time; `report` hears of each as it ends."""
    preload()
    waiting, running = list(rows), {}
    while waiting or running:
        while waiting and len(running) < jobs:
            row = waiting.pop(0)
            tests = own_tests(rows[row])
            if mutant(row) is None:
                report(row, NO_MUTANT)
            elif not tests:
                report(row, NO_TEST)
            else:
                found = start(row, tests)
                running[found.pid] = found
        if running:
            pid, status = os.wait()
            report(running.pop(pid).row, outcome(status))


def main() -> None:
    # Generated routines are kept on disk by what they are generated from, not by what that gave.
    os.environ["VTX_CACHE_DIR"] = ""
    given = json.load(sys.stdin)

    def report(row: str, result: str) -> None:
        print(json.dumps({"row": row, "result": result}), flush=True)

    run_all(given["rows"], int(given["jobs"]), report)


if __name__ == "__main__":
    main()
