"""Random bytes as guest code end the same way bare, under EPT and under shadow paging."""

from __future__ import annotations

from dataclasses import replace

import pytest
from random_guests import random_program

from tests.vtx.engines import NATIVE, NEEDS_NATIVE, QUICK_ENGINES
from vtx.vmm.compare import compare
from vtx.vmm.launch import RunOptions, RunResult, run

STYLES = ["bare", "ept", "shadow"]


def options_of(seed: int) -> RunOptions:
    return RunOptions(
        image=random_program(seed).image(), image_name=f"seed {seed}",
        memory=8 << 20, max_instructions=1500,
    )  # fmt: skip


def differences(seed: int, engine: str = "reference") -> list[str]:
    """Run the program of a seed in every style; what differs, a line each."""
    options = replace(options_of(seed), engine=engine)
    found = compare(options, STYLES)
    if any("real mode" in (run.message or "") for run in found.runs):
        found = compare(options, STYLES[:2])  # shadow paging refuses real mode, by design
    return [f"seed {seed}, {each.where}: {each.what}" for each in found.differences]


@pytest.mark.parametrize("seed", range(2000, 2024))
def test_random_code_does_the_same_in_every_style(seed: int) -> None:
    assert differences(seed) == []


@pytest.mark.parametrize("seed", [100, 121, 255, 281, 1255])
def test_programs_that_once_told_the_styles_apart_no_longer_do(seed: int) -> None:
    assert differences(seed) == []


def what_is_seen(result: RunResult) -> tuple[object, ...]:
    return (
        result.ended, result.exit_status, result.retired, result.console,
        result.memory_sha256, result.registers,
    )  # fmt: skip


@pytest.mark.parametrize("engine", ["evaluate", NATIVE])
@pytest.mark.parametrize("seed", range(3000, 3008))
def test_random_code_does_the_same_on_every_engine(seed: int, engine: str) -> None:
    reference, other = (
        run(replace(options_of(seed), style="bare", engine=name)) for name in ("reference", engine)
    )

    assert what_is_seen(reference) == what_is_seen(other)


@pytest.mark.parametrize("seed", range(4000, 4012))
@NEEDS_NATIVE
def test_random_code_does_the_same_in_every_style_on_the_native_engine(seed: int) -> None:
    assert differences(seed, "native") == []


@pytest.mark.campaign
@QUICK_ENGINES
@pytest.mark.parametrize("block", range(40))
def test_much_random_code_does_the_same_in_every_style(block: int, engine: str) -> None:
    first = 10_000 + block * 50
    assert [line for n in range(first, first + 50) for line in differences(n, engine)] == []
