"""Damaged guest images boot or are refused; nothing else happens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from command_answers import STATUSES, Answer
from guest_files import IMAGES, image

from vtx.machine.bus import Bus
from vtx.machine.loader import ImageError, load_image
from vtx.machine.memory import PhysicalMemory

RAM = 4 << 20
HEADERS = 0x200
"""Bytes at the beginning of an image, where damage matters most."""


def damaged(seed: int) -> bytes:
    """A guest's image with a few bytes changed, cut off, or moved."""
    random = Random(seed)
    data = bytearray(image(random.choice(IMAGES)))
    for _ in range(random.randint(1, 4)):
        reach = HEADERS if random.random() < 0.7 else len(data)
        place = random.randrange(min(reach, len(data)))
        width = random.choice((1, 1, 2, 4, 8))
        value = random.choice((0, 1, (1 << 8 * width) - 1, random.getrandbits(8 * width)))
        data[place : place + width] = value.to_bytes(width, "little")
    if random.random() < 0.2:
        del data[random.randrange(len(data)) :]
    return bytes(data)


def load(data: bytes) -> str:
    """'' when the image loads, else the error's text; memory stays as large as it is."""
    memory = PhysicalMemory(RAM)
    before = len(memory.buffer)
    try:
        load_image(data, Bus(memory), command_line="", modules=(), ram_size=RAM, name="damaged")
    except ImageError as error:
        assert str(error)
        assert "\n" not in str(error)
        return str(error)
    finally:
        assert len(memory.buffer) == before
    return ""


def check_run(seed: int, tmp_path: Path, answers: Callable[..., Answer]) -> int:
    path = tmp_path / "damaged.elf"
    path.write_bytes(damaged(seed))
    style = Random(seed).choice(("bare", "ept", "shadow"))
    answer = answers(
        "run", path, "--vmm", style, "-m", "4M", "--max-instructions", 2000, "-serial", "none"
    )
    assert answer.status in STATUSES or answer.status & 1, (seed, answer)
    assert len(answer.errors) <= 1, (seed, answer)
    assert answer.status in (0, 124) or answer.status & 1 or answer.errors, (seed, answer)
    return answer.status


def test_damaged_images_load_or_are_refused_in_one_line() -> None:
    errors = [load(damaged(seed)) for seed in range(1500)]

    assert errors.count("") > 100
    assert len(set(errors)) > 10


def test_damaged_images_run_or_are_refused_with_the_right_status(
    tmp_path: Path, vtx_answers: Callable[..., Answer]
) -> None:
    statuses = {check_run(seed, tmp_path, vtx_answers) for seed in range(5000, 5040)}

    assert {2, 124} <= statuses


@pytest.mark.campaign
@pytest.mark.parametrize("block", range(20))
def test_many_damaged_images_run_or_are_refused(
    block: int, tmp_path: Path, vtx_answers: Callable[..., Answer]
) -> None:
    first = 10_000 + block * 50
    for seed in range(first, first + 50):
        check_run(seed, tmp_path, vtx_answers)


@pytest.mark.campaign
def test_very_many_damaged_images_load_or_are_refused() -> None:
    for seed in range(20_000, 30_000):
        load(damaged(seed))
