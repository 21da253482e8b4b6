"""Makes the helper modules next to the tests importable, and boots small guests."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))


@pytest.fixture(scope="session")
def teeth(assemble_source: Callable[[str], bytes]) -> bytes:
    """A short guest that leans on everything a VMM can get wrong."""
    return assemble_source((HERE / "teeth.s").read_text())


@pytest.fixture(scope="session")
def options() -> Callable[..., Any]:
    """RunOptions for an image, with 8 MiB unless a test asks for more."""
    from vtx.vmm.launch import RunOptions

    def make(image: bytes, style: str = "auto", **changes: Any) -> RunOptions:
        given: dict[str, Any] = {"image_name": "guest", "memory": 8 << 20} | changes
        return RunOptions(image=image, style=style, **given)

    return make
