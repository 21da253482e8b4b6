"""Random bytes as guest code end the same way bare, under EPT and under shadow paging."""

from __future__ import annotations

from dataclasses import replace

import pytest
from random_guests import random_program

from vtx.vmm.compare import compare
from vtx.vmm.launch import RunOptions, RunResult, run

STYLES = ["bare", "ept", "shadow"]


def options_of(seed: int) -> RunOptions:
    return RunOptions(
        image=random_program(seed).image(), image_name=f"seed {seed}",
        memory=8 << 20, max_instructions=1500,
    )  # fmt: skip


def differences(seed: int) -> list[str]:
    """Run the program of a seed in every style; what differs, a line each."""
    options = options_of(seed)
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


@pytest.mark.parametrize("seed", range(3000, 3008))
def test_random_code_does_the_same_under_both_readers(seed: int) -> None:
    quick, plain = (
        run(replace(options_of(seed), style="bare", engine=engine))
        for engine in ("reference", "evaluate")
    )

    assert what_is_seen(quick) == what_is_seen(plain)


@pytest.mark.campaign
@pytest.mark.parametrize("block", range(40))
def test_much_random_code_does_the_same_in_every_style(block: int) -> None:
    first = 10_000 + block * 50
    assert [line for seed in range(first, first + 50) for line in differences(seed)] == []
