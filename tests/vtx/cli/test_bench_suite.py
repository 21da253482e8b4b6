"""`vtx bench [KERNEL...]`: what is asked for, and how what was found is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

from vtx.bench import suite
from vtx.bench.kernels import BASELINE, KERNELS, PLAIN, kernels_named
from vtx.bench.suite import Row, Suite

SIEVE, CPUID, ROOT = (kernels_named((name,))[0] for name in ("sieve", "cpuid-exit", "cpuid-root"))
ROWS = [
    Row(SIEVE, "bare", PLAIN, 10, 1e6, [0.002, 0.001, 0.003]),
    Row(SIEVE, "qemu", PLAIN, 10, None, [0.004] * 3),
    Row(SIEVE, "host", PLAIN, 10, None, [], "it broke"),
    Row(CPUID, "ept", PLAIN, 10, 26.0, [9e-6] * 3),
    Row(CPUID, "ept", BASELINE, 10, 26.0, [1e-6] * 3),
]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the command asks of the suite, whose answer are the rows above."""
    seen: list[dict[str, Any]] = []

    def played(kernels: Any, contestants: Any, images: Any, effort: Any, progress: Any) -> Suite:
        seen.append(
            {
                "kernels": [kernel.name for kernel in kernels],
                "contestants": [contestant.name for contestant in contestants],
                "images": set(images),
                "effort": effort,
                "progress": progress,
            }
        )
        return Suite(ROWS, [("cpuid-root", "qemu", "TCG has no VMX")])

    monkeypatch.setattr(suite, "run_suite", played)
    return seen


Cli = Callable[..., Result]


def test_a_list_shows_every_kernel_and_runs_nothing(cli: Cli, asked: list[Any]) -> None:
    lines = cli("bench", "--list").stdout.splitlines()

    assert lines[0].split()[:3] == ["kernel", "kind", "styles"]
    assert [line.split()[0] for line in lines[1:]] == [kernel.name for kernel in KERNELS]
    assert asked == []


def test_a_list_can_be_json(cli: Cli) -> None:
    told = json.loads(cli("bench", "cpuid-root", "--list", "--json").stdout)

    assert told["kernels"] == [
        {"name": "cpuid-root", "kind": "event", "styles": ["bare"], "title": ROOT.title}
    ]


def test_help_is_the_help_of_the_suite(cli: Cli) -> None:
    lines = cli("bench", "--help").stdout.splitlines()

    assert lines[0] == "Usage: vtx bench [OPTIONS] [KERNEL]..."
    assert cli("bench", "reference", "--help").stdout.startswith("Usage: vtx bench reference")


def test_options_decide_what_is_measured(cli: Cli, asked: list[dict[str, Any]]) -> None:
    done = cli(
        "bench", "cpuid-exit", "sieve", "--engine", "reference", "--style", "ept", "--peers",
        "none", "--rounds", "2",
    )  # fmt: skip

    assert done.exit_code == 0
    (found,) = asked
    assert found["kernels"] == ["sieve", "cpuid-exit"]
    assert found["contestants"] == ["ept", "ept", "ept-port"]
    assert found["images"] == {("sieve", ""), ("cpuid-exit", ""), ("cpuid-exit", "baseline")}
    assert (found["effort"].rounds, found["progress"]) == (2, None)


def test_quick_is_one_round_unless_told_otherwise(cli: Cli, asked: list[dict[str, Any]]) -> None:
    cli("bench", "sieve", "--quick")
    cli("bench", "sieve", "--quick", "--rounds", "4")
    cli("bench", "sieve")

    assert [found["effort"].rounds for found in asked] == [1, 4, 5]
    assert asked[0]["effort"].seconds < asked[2]["effort"].seconds


@pytest.mark.usefixtures("asked")
def test_json_is_one_object(cli: Cli) -> None:
    done = cli("bench", "sieve", "--engine", "reference", "--peers", "none", "--json")

    told = json.loads(done.stdout)
    assert (told["engine"], told["base"], told["rounds"], told["clock"]) == (
        "reference", "bare", 5, "wall",
    )  # fmt: skip
    assert told["host"].keys() == {"processor", "cores", "system", "machine", "python"}
    bare, qemu, host, event, baseline = told["rows"]
    assert (bare["seconds_per_iteration"], bare["instructions_per_second"]) == (0.002, 5e8)
    assert (bare["time_ratio"], qemu["time_ratio"]) == (1.0, 2.0)
    assert (host["seconds_per_iteration"], host["problem"]) == (None, "it broke")
    assert (event["variant"], baseline["variant"]) == ("", "baseline")
    figures = {figure["name"]: figure for figure in told["figures"]}
    assert figures["faster than qemu"] == {
        "name": "faster than qemu", "value": 2.0, "unit": "x",
        "target": {"relation": ">=", "bound": 2.0}, "met": True,
    }  # fmt: skip
    assert figures["CPUID exit to the VMM"]["value"] == pytest.approx(1000)
    assert told["skipped"] == [
        {"kernel": "cpuid-root", "contestant": "qemu", "reason": "TCG has no VMX"}
    ]


@pytest.mark.usefixtures("asked")
def test_text_has_rows_problems_and_figures(cli: Cli) -> None:
    lines = cli("bench", "sieve", "--engine", "reference").stdout.splitlines()

    assert lines[0].startswith("reference engine, 5 rounds, wall time, ")
    split = [line.split() for line in lines]
    assert ["sieve", "bare", "500.00", "1.00", "100%"] in split
    assert ["sieve", "qemu", "250.00", "2.00", "0%"] in split
    assert ["sieve", "host", "-", "-", "-"] in split
    assert "problem: it broke" in lines
    assert ["faster", "than", "qemu", "2.00", ">=", "2", "yes"] in split
    assert not any("baseline" in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("seive",), "no kernel 'seive'; `vtx bench --list` shows them"),
        (("--style", "bare,xen"), "'xen' is not one of bare, ept, shadow"),
        (("--peers", "bare"), "'bare' is not one of unicorn, qemu, bochs, host or none"),
        (("--engine", "fast"), "'fast' is not one of"),
        (("--rounds", "0"), "0 is not in the range"),
    ],
)
def test_a_wrong_argument_is_told_in_one_line(
    cli: Cli, asked: list[Any], arguments: tuple[str, ...], said: str
) -> None:
    done = cli("bench", *arguments)

    assert (done.exit_code, asked) == (2, [])
    (line,) = done.stderr.splitlines()
    assert line.startswith("vtx: error: ")
    assert "vtx bench suite" not in line
    assert said in line


def test_when_nothing_ran_the_reason_is_the_error(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [Row(SIEVE, "bare", PLAIN, 10, None, [], "sieve bare: ended in triple_fault")]
    monkeypatch.setattr(suite, "run_suite", lambda *_: Suite(rows, []))

    done = cli("bench", "sieve", "--engine", "reference")

    assert done.exit_code == 2
    assert done.stderr == "vtx: error: sieve bare: ended in triple_fault\n"


def test_a_kernel_that_no_chosen_style_runs_is_an_error(cli: Cli) -> None:
    done = cli("bench", "cpuid-root", "--style", "ept", "--peers", "none", "--quick")

    assert done.exit_code == 2
    assert "nothing to run" in done.stderr and "runs bare only" in done.stderr


def test_a_quick_run_on_the_real_machine(cli: Cli) -> None:
    done = cli(
        "bench", "strings", "--engine", "reference", "--style", "bare,ept", "--peers", "none",
        "--quick", "--json",
    )  # fmt: skip

    told = json.loads(done.stdout)
    assert done.exit_code == 0
    assert [row["contestant"] for row in told["rows"]] == ["bare", "ept"]
    assert all(row["instructions_per_iteration"] > 1000 for row in told["rows"])
    assert all(row["problem"] is None for row in told["rows"])
