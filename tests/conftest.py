"""Images that tests boot: guests of the repository and sources written in a test.

Assembling takes longer than most runs, so an image is made once a session. What the native
engine compiles is kept for the session as well, and not among the user's files.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

import asm
from tests import covering

GUESTS = Path(__file__).parents[1] / "guests"
INCLUDE = [GUESTS / "include"]
CACHE_VARIABLE = "VTX_CACHE_DIR"


def pytest_configure() -> None:
    """Workers inherit the directory of the process that started them."""
    if CACHE_VARIABLE not in os.environ:
        directory = os.environ[CACHE_VARIABLE] = tempfile.mkdtemp(prefix="vtx-tests-")
        # Not when the session ends: caches are written when the process ends, before this.
        atexit.register(shutil.rmtree, directory, ignore_errors=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(covering.OPTION, help="write which test covers which row to this file")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    covering.check_marks(items)
    if path := config.getoption(covering.OPTION):
        covering.write_marks(items, Path(path))


@cache
def _guest(name: str) -> bytes:
    return asm.assemble_file(GUESTS / name / f"{name}.s", include=INCLUDE).elf()


@pytest.fixture(scope="session")
def guest_image() -> Callable[[str], bytes]:
    """The image of the guest called `name`."""
    return _guest


@pytest.fixture(scope="session")
def assemble_source(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], bytes]:
    """Assemble the text of a guest, which may include the files of guests/include."""
    path = tmp_path_factory.mktemp("sources") / "guest.s"

    @cache
    def assemble(source: str) -> bytes:
        path.write_text(source)
        return asm.assemble_file(path, include=INCLUDE).elf()

    return assemble


@pytest.fixture(scope="session")
def firmware() -> Callable[[], bytes]:
    """Makes the image of the VMM in assembly (firmware/)."""
    return _firmware


@cache
def _firmware() -> bytes:
    return asm.assemble_file(GUESTS.parent / "firmware" / "firmware.s").elf()
