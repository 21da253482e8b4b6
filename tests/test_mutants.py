"""The mutants: a fixed selection of them is killed, and one without a test of its own lives."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutants import own_tests
from vtx.cli import vtx

ROOT = Path(__file__).parent.parent
BENCH = "tests/vtx/vmx/test_rows.py::"
SELECTION = ["check.host.rip-32-bit", "control.exit.SAVE_PAT", "exit.RDSEED"]


def mutants(rows: dict[str, list[str]]) -> dict[str, str]:
    """Row -> what came of its mutant."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.mutants"], cwd=ROOT, text=True, capture_output=True,
        check=True, input=json.dumps({"jobs": 2, "rows": rows}),
    )  # fmt: skip
    return {told["row"]: told["result"] for told in map(json.loads, done.stdout.splitlines())}


def test_a_mutant_dies_by_its_own_test_and_lives_by_another_s() -> None:
    found = mutants(
        {
            "control.exit.SAVE_PAT": [
                f"{BENCH}test_an_exit_saves_the_guest_s_exactly_where_asked[True-reference]"
            ],
            "exit.RDSEED": [f"{BENCH}test_a_shadow_vmcs_cannot_be_entered[reference]"],
            "check.basic.current-vmcs": [f"{BENCH}test_a_shadow_vmcs_cannot_be_entered[reference]"],
            "check.host.pat": [],
        }
    )

    assert found == {
        "control.exit.SAVE_PAT": "killed",
        "exit.RDSEED": "survived",
        "check.basic.current-vmcs": "no mutant",
        "check.host.pat": "no test",
    }


def test_the_command_kills_a_fixed_selection(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        vtx.main(["spec", "conformance", "--mutate", *(f"--only={row}" for row in SELECTION)])

    lines = capfd.readouterr().out.splitlines()
    assert left.value.code == 0
    assert [line.split() for line in lines[1:4]] == [[row, "killed"] for row in SELECTION]
    assert lines[-1] == "3 mutants: 3 killed, 0 not; 0 rows have none"


@pytest.mark.campaign
def test_every_mutant_is_killed(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        vtx.main(["spec", "conformance", "--mutate"])

    assert left.value.code == 0, capfd.readouterr().out[-2000:]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "exit.CPUID"], "give --mutate"),
        (["--mutate", "--only", "exit.CPUIDD"], "did you mean exit.CPUID"),
    ],
)
def test_a_row_that_cannot_be_is_one_line_and_2(
    arguments: list[str], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        vtx.main(["spec", "conformance", *arguments])

    err = capfd.readouterr().err
    assert left.value.code == 2
    assert said in err and err.count("\n") == 1


def test_mutants_run_with_the_reference_engine() -> None:
    given = ["t.py::a[native]", "t.py::a[reference]", "t.py::b[x-evaluate]", "t.py::c"]

    assert own_tests(given) == ["t.py::a[reference]", "t.py::c"]
