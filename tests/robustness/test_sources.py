"""Damaged guest sources assemble or are refused with diagnostics."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from command_answers import Answer
from guest_files import GUESTS, source_lines

from asm import AssemblyErrors, assemble

SOURCES = ("hello", "primes", "sort", "kernel", "triple", "loop")
WORDS = (
    "rax", "[", "]", "(", ")", ",", ":", "1b", "1f", '"', "'", "\\", "$", ".macro x", ".endm",
    ".rept 3", ".endr", ".if", ".endif", ".include", "0x", "99999999999999999999", "*", "qword ptr",
    "#", "/*", ".org -1", ".align 3", "lock", "rep", "_start:", ".data", ".byte", "\0", "é",
)  # fmt: skip


def damaged(seed: int) -> str:
    """A guest's source with lines lost, doubled and swapped, and words dropped in."""
    random = Random(seed)
    lines = list(source_lines(random.choice(SOURCES)))
    for _ in range(random.randint(1, 5)):
        at = random.randrange(len(lines))
        kind = random.random()
        if kind < 0.2:
            lines[at] = ""
        elif kind < 0.4:
            lines[at] += " " + random.choice(WORDS)
        elif kind < 0.8:
            cut = random.randint(0, len(lines[at]))
            lines[at] = lines[at][:cut] + random.choice(WORDS) + lines[at][cut + 1 :]
        else:
            lines.insert(at, lines[random.randrange(len(lines))])
    return "\n".join(lines) + "\n"


def assembles(seed: int) -> bool:
    try:
        found = assemble(damaged(seed), name="damaged.s", include=_include(seed))
        found.elf()
    except AssemblyErrors as errors:
        assert errors.diagnostics
        assert all(line for line in str(errors).splitlines()[:1])
        return False
    return True


def _include(seed: int) -> list[Path]:
    name = Random(seed).choice(SOURCES)
    return [GUESTS / name, GUESTS / "include"]


def check_file(seed: int, tmp_path: Path, answers: Callable[..., Answer]) -> int:
    path, output = tmp_path / "damaged.s", tmp_path / "damaged.elf"
    path.write_text(damaged(seed))
    output.unlink(missing_ok=True)
    places = [x for place in _include(seed) for x in ("-I", place)]
    answer = answers("asm", path, "-o", output, *places)
    assert answer.status in (0, 2), (seed, answer)
    assert output.exists() == (answer.status == 0)
    if answer.status:
        assert "error: " in answer.errors[0], (seed, answer)
    return answer.status


def test_damaged_sources_assemble_or_are_diagnosed(
    tmp_path: Path, vtx_answers: Callable[..., Answer]
) -> None:
    statuses = [check_file(seed, tmp_path, vtx_answers) for seed in range(60)]

    assert {0, 2} == set(statuses)


@pytest.mark.campaign
@pytest.mark.parametrize("block", range(20))
def test_many_damaged_sources_assemble_or_are_diagnosed(block: int) -> None:
    first = 1000 + block * 250
    for seed in range(first, first + 250):
        assembles(seed)
