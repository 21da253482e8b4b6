"""Hardware task switches are the same under every style: VM exits that the VMMs complete."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.vtx.engines import EVERY_ENGINE
from vtx.vmm.launch import Launched, RunOptions, RunResult, drive, finish, launch

LOG = 0x200000
BT, ABSENT, MAIN = 0x8000, 0x600008, 0x18
EXPECTED = [
    75, 0x4000, MAIN, 75, 8, 2, ABSENT, 0, 0x1234, 0x400, 0xFFFF_0FF0 | BT, 0, 0x7E57, 0x1008, 0,
    0xBAD, 0xB0B, 0, MAIN,
]  # fmt: skip
"""What the tasks of tasks.s note, in order."""


@pytest.fixture(scope="module")
def options(assemble_source: Callable[[str], bytes]) -> RunOptions:
    """The guest, to be run in a style."""
    image = assemble_source((Path(__file__).parent / "tasks.s").read_text())
    return RunOptions(image=image, image_name="tasks", memory=8 << 20, max_instructions=20_000)


def run(options: RunOptions) -> tuple[Launched, RunResult]:
    launched = launch(options)
    return launched, finish(launched, drive(launched.session, options.max_instructions), None)


@EVERY_ENGINE
@pytest.mark.parametrize("style", ["bare", "ept", "shadow"])
def test_tasks_find_what_the_manual_says(options: RunOptions, style: str, engine: str) -> None:
    launched, result = run(replace(options, style=style, engine=engine))
    assert (result.ended, result.exit_status) == ("debug_exit", 0x21), result.message
    raw = launched.session.memory(LOG, 4 * len(EXPECTED) + 4)
    words = [int.from_bytes(raw[n : n + 4], "little") for n in range(0, len(raw), 4)]
    directory = words[7]
    assert words == [*EXPECTED[:7], directory, *EXPECTED[8:], 0]
    assert directory & 0xFFF == 0
    if style != "bare":
        assert result.exits["TASK_SWITCH"] >= 12


def test_styles_end_in_the_same_state(options: RunOptions) -> None:
    results = [run(replace(options, style=style))[1] for style in ("bare", "ept", "shadow")]
    seen = [(r.retired, r.memory_sha256, r.registers) for r in results]
    assert seen[0] == seen[1] == seen[2]
