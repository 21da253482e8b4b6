"""Makes the helper modules of this room importable, and the command line callable."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from command_answers import Answer, call


@pytest.fixture
def vtx_answers(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Answer]:
    """Call the command line and get its answer."""
    monkeypatch.delenv("VTX_TRACEBACK", raising=False)
    return lambda *arguments: call(arguments)
