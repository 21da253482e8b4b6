"""`vtx bench`: what is measured and how it is told. Speeds themselves are the host's."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from click.testing import Result

from asm import assemble
from vtx.bench import reference
from vtx.bench.guests import MEASURED, guest_source
from vtx.bench.reference import Row, measure

COUNTDOWN = """
        .intel_syntax noprefix
        .globl _start
_start: mov ecx, 200
1:      dec ecx
        jnz 1b
        cli
        hlt
"""
ROWS = [
    Row("primes", "bare", "reference", 1000, (100.0, 300.0, 200.0)),
    Row("primes", "ept", "reference", 1000, (100.0, 100.0, 100.0)),
]


def test_the_measured_guests_are_there() -> None:
    for name in MEASURED:
        assert guest_source(name).is_file()


def test_every_combination_is_run_once_per_round_and_rounds_are_interleaved() -> None:
    image = assemble(COUNTDOWN, name="countdown.s").elf()
    seen: list[str] = []

    rows = measure(
        {"countdown": image}, rounds=2, on_progress=lambda done, total, what: seen.append(what)
    )

    assert len(rows) == 6
    assert seen == 2 * [f"{row.guest} {row.style} {row.reader}" for row in rows]
    assert {(row.retired, len(row.speeds)) for row in rows} == {(403, 2)}
    assert all(row.speed > 0 for row in rows)


def test_a_row_tells_the_median_and_the_spread() -> None:
    assert (ROWS[0].speed, ROWS[0].spread) == (200.0, 1.0)
    assert (ROWS[1].speed, ROWS[1].spread) == (100.0, 0.0)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "measure", lambda images, **_: ROWS)


@pytest.mark.usefixtures("measured")
def test_json_has_a_row_per_combination_with_ratios_to_the_first(
    cli: Callable[..., Result],
) -> None:
    done = cli("bench", "reference", "--json")

    rows = json.loads(done.stdout)["rows"]
    assert done.exit_code == 0
    assert [row["ratio"] for row in rows] == [1.0, 0.5]
    assert rows[0]["rounds"] == [100, 300, 200]


@pytest.mark.usefixtures("measured")
def test_text_is_a_table(cli: Callable[..., Result]) -> None:
    lines = cli("bench", "reference").stdout.splitlines()

    assert lines[0].split() == ["guest", "style", "reader", "retired", "instr/s", "spread", "ratio"]
    assert lines[1].split() == ["primes", "bare", "reference", "1,000", "200", "100%", "1.00"]


def test_no_rounds_is_a_usage_error(cli: Callable[..., Result]) -> None:
    assert cli("bench", "reference", "--rounds", "0").exit_code == 2
