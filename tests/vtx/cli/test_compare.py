"""`vtx compare`: the contract, with a played machine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import Result

if TYPE_CHECKING:
    from vtx.vmm.compare import Comparison
    from vtx.vmm.launch import RunOptions, RunResult

Cli = Callable[..., Result]
Ending = Callable[..., "RunResult"]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, ending: Ending) -> list[tuple[Any, list[str]]]:
    """What reaches the comparison, which finds all styles the same."""
    return compared(monkeypatch, ending, [])


def compared(
    monkeypatch: pytest.MonkeyPatch, ending: Ending, differences: list[Any]
) -> list[tuple[Any, list[str]]]:
    from vtx.vmm.compare import Comparison

    found: list[tuple[Any, list[str]]] = []

    def compare(
        options: RunOptions, styles: list[str], on_progress: object = None, **_: object
    ) -> Comparison:
        found.append((options, styles))
        runs = [
            ending(
                style=style,
                exits={} if style == "bare" else {"CPUID": 3},
                shadow={"shadow_pages": 9} if style == "shadow" else None,
            )
            for style in styles
        ]
        return Comparison(runs=runs, differences=differences)

    monkeypatch.setattr("vtx.vmm.compare.compare", compare)
    return found


def test_three_styles_are_compared_by_default(
    cli: Cli, image: Path, asked: list[tuple[Any, list[str]]]
) -> None:
    result = cli("compare", image)

    assert result.exit_code == 0
    assert asked[0][1] == ["bare", "ept", "shadow"]
    assert asked[0][0].memory == 64 << 20
    assert result.stdout.splitlines()[-1].startswith("same: bare, ept and shadow end in the same")


def test_the_table_has_a_column_for_each_style(
    cli: Cli, image: Path, asked: list[tuple[Any, list[str]]]
) -> None:
    lines = [line.split() for line in cli("compare", image).stdout.splitlines()]

    assert ["bare", "ept", "shadow"] in lines
    assert ["retired", "1,234", "1,234", "1,234"] in lines
    assert ["CPUID", "0", "3", "3"] in lines
    assert ["references,", "mean", "12.50", "12.50", "12.50"] in lines
    assert ["shadow:", "shadow", "pages", "-", "-", "9"] in lines


def test_styles_can_be_chosen(cli: Cli, image: Path, asked: list[tuple[Any, list[str]]]) -> None:
    cli("compare", image, "--vmm", "bare, my.py:Mine")

    assert asked[0][1] == ["bare", "my.py:Mine"]


def test_one_style_is_no_comparison(
    cli: Cli, image: Path, asked: list[tuple[Any, list[str]]]
) -> None:
    result = cli("compare", image, "--vmm", "ept")

    assert (result.exit_code, asked) == (2, [])
    assert "two styles" in result.stderr


def test_json_is_one_object_with_the_statistics_of_every_style(
    cli: Cli, image: Path, asked: list[tuple[Any, list[str]]]
) -> None:
    result = cli("compare", image, "--json")
    found = json.loads(result.stdout)

    assert result.stdout.count("\n") == 1
    assert (found["same"], found["differences"]) == (True, [])
    assert list(found["styles"]) == ["bare", "ept", "shadow"]
    ept = found["styles"]["ept"]
    assert (ept["retired"], ept["exits"], ept["shadow"]) == (1234, {"CPUID": 3}, None)
    assert ept["walks"] == {"misses": 5, "min": 4, "max": 24, "mean": 12.5}
    assert found["styles"]["shadow"]["shadow"] == {"shadow_pages": 9}


def test_a_style_compared_with_itself_has_two_entries(
    cli: Cli, image: Path, asked: list[tuple[Any, list[str]]]
) -> None:
    found = json.loads(cli("compare", image, "--vmm", "ept,ept", "--json").stdout)

    assert list(found["styles"]) == ["ept", "ept#2"]


def test_styles_that_differ_end_with_1_and_say_where(
    cli: Cli, image: Path, monkeypatch: pytest.MonkeyPatch, ending: Ending
) -> None:
    from vtx.vmm.compare import Difference

    compared(
        monkeypatch,
        ending,
        [
            Difference(where="memory", what="0x1000 is 1, not 2", first_retired=77),
            Difference(where="console", what="is shorter", first_retired=None),
        ],
    )
    result = cli("compare", image)
    as_json = cli("compare", image, "--json")

    assert result.exit_code == as_json.exit_code == 1
    assert result.stdout.splitlines()[-2:] == [
        "differs: memory: 0x1000 is 1, not 2 (first after 77 retired instructions)",
        "differs: console: is shorter",
    ]
    assert json.loads(as_json.stdout)["differences"][0] == {
        "where": "memory",
        "what": "0x1000 is 1, not 2",
        "first_retired": 77,
    }


def test_ctrl_c_during_a_style_is_no_verdict(
    cli: Cli, image: Path, monkeypatch: pytest.MonkeyPatch, ending: Ending
) -> None:
    from vtx.vmm.compare import Comparison

    def compare(*_: object, **__: object) -> Comparison:
        return Comparison(runs=[ending(ended="interrupted")], differences=[])

    monkeypatch.setattr("vtx.vmm.compare.compare", compare)
    result = cli("compare", image)

    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr.splitlines()[-1] == "vtx: error: interrupted"


def test_what_cannot_be_launched_is_one_line(
    cli: Cli, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vtx.vmm.styles import LaunchError

    def compare(*_: object, **__: object) -> Comparison:
        raise LaunchError("guest.elf: truncated")

    monkeypatch.setattr("vtx.vmm.compare.compare", compare)
    result = cli("compare", image)

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "vtx: error: guest.elf: truncated\n"


def test_several_cpus_are_refused_before_anything_runs(cli: Cli, image: Path) -> None:
    result = cli("compare", image, "--smp", "2")

    assert result.exit_code == 2
    assert result.stderr.startswith("vtx: error: --smp 2: a VM has one CPU")
