"""Both readers of the algebra run the guests to the same state, in every style.

The plain evaluator is slow, so of the longer guests only the beginning is compared here; whole
guests are a campaign.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vtx.vmm.launch import RunOptions, launch, run

GUESTS = Path(__file__).parents[2] / "guests"
STYLES = ["bare", "ept", "shadow"]
WHOLE = ["hello", "triple"]
OTHERS = sorted(path.stem for path in GUESTS.glob("*/*.toml") if path.stem not in WHOLE)
STYLES_OF_OTHERS = [
    (name, style)
    for name in OTHERS
    for style in tomllib.loads((GUESTS / name / f"{name}.toml").read_text())["styles"]
]
BEGINNING = 6_000
"""Instructions of each longer guest; every guest has printed or faulted by then."""


def options_of(name: str, image: bytes, style: str, engine: str, most: int) -> RunOptions:
    manifest = tomllib.loads((GUESTS / name / f"{name}.toml").read_text())
    return RunOptions(
        image=image,
        image_name=name,
        cpu=manifest.get("cpu", RunOptions.cpu),
        style=style,
        engine=engine,
        memory=16 << 20,
        append=manifest.get("append", ""),
        cpus=manifest.get("smp", 1),
        max_instructions=min(most, manifest["max_instructions"]),
    )


def outcome_of(options: RunOptions) -> dict[str, Any]:
    """Everything two readers must agree on: more than two styles must, exits as well."""
    found = run(options)
    names = ("console", "memory_sha256", "registers", "retired", "exits", "ended", "exit_status",
             "walks", "shadow")  # fmt: skip
    return {name: getattr(found, name) for name in names}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", WHOLE)
def test_a_small_guest_ends_equally_under_both_readers(
    name: str, style: str, guest_image: Callable[[str], bytes]
) -> None:
    image = guest_image(name)
    ends = [
        outcome_of(options_of(name, image, style, engine, 1 << 30))
        for engine in ("evaluate", "reference")
    ]

    assert ends[0] == ends[1]
    assert ends[0]["ended"] != "budget"


@pytest.mark.parametrize(("name", "style"), STYLES_OF_OTHERS)
def test_the_beginning_of_a_guest_is_equal_under_both_readers(
    name: str, style: str, guest_image: Callable[[str], bytes]
) -> None:
    image = guest_image(name)
    sessions = [
        launch(options_of(name, image, style, engine, 1 << 30)).session
        for engine in ("evaluate", "reference")
    ]
    for place in (BEGINNING // 3, BEGINNING):
        for session in sessions:
            assert session.run(place) is None
        one, other = sessions
        assert one.retired == other.retired >= place
        assert one.registers() == other.registers()
        assert one.memory_sha256() == other.memory_sha256()
        assert one.exits() == other.exits()


@pytest.mark.campaign
@pytest.mark.parametrize(("name", "style"), STYLES_OF_OTHERS)
def test_a_whole_guest_ends_equally_under_both_readers(
    name: str, style: str, guest_image: Callable[[str], bytes]
) -> None:
    image = guest_image(name)
    ends = [
        outcome_of(options_of(name, image, style, engine, 1 << 30))
        for engine in ("evaluate", "reference")
    ]

    assert ends[0] == ends[1]
