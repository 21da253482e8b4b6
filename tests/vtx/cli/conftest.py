"""Running the command line in this process, and runs that need no machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from vtx.cli import vtx

if TYPE_CHECKING:
    from vtx.vmm.launch import RunOptions, RunResult


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Call `vtx` with arguments; `stdin` are bytes on standard input."""
    monkeypatch.delenv("VTX_TRACEBACK", raising=False)

    def call(*arguments: object, stdin: bytes | None = None) -> Result:
        return CliRunner().invoke(vtx, [str(argument) for argument in arguments], input=stdin)

    return call


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A file that stands for an ELF image where the machine is played."""
    path = tmp_path / "guest.elf"
    path.write_bytes(b"\x7fELF image")
    return path


@pytest.fixture
def ending() -> Callable[..., RunResult]:
    """Make the result of a good run; keywords replace what it came to."""

    def make(**changes: object) -> RunResult:
        from vtx.vmm.launch import RunResult

        given: dict[str, Any] = {
            "style": "ept",
            "engine": "reference",
            "retired": 1234,
            "exits": {"CPUID": 2, "EPT_VIOLATION": 30},
            "ended": "power_off",
            "exit_status": 0,
            "memory_sha256": "ab" * 32,
            "console": b"",
            "registers": {"rax": 1},
            "walks": {"misses": 5, "min": 4, "max": 24, "mean": 12.5},
        }
        return RunResult(**(given | changes))

    return make


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[RunOptions], RunResult]], None]:
    """Put a function in the place of the machine."""

    def put(run: Callable[[RunOptions], RunResult]) -> None:
        monkeypatch.setattr("vtx.vmm.launch.run", run)

    return put
