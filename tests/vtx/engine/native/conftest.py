"""Runs programs on both engines; makes the helper module of this room importable."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vtx.engine.choice import native_problem
from vtx.vmm.launch import RunOptions, drive, launch
from vtx.vmm.session import Session

sys.path.insert(0, str(Path(__file__).parent))
from twins import EPILOGUE, LOG, MEMORY, PROLOGUE, Launch, Outcome, Same, state_of


@pytest.fixture
def launched(assemble_source: Callable[[str], bytes]) -> Launch:
    """Get a body ready on the engine of the given name."""
    if native_problem() is not None:
        pytest.skip(f"no native engine here: {native_problem()}")

    def ready(body: str, engine: str) -> Session:
        after = "" if "after_fault:" in body else "\nafter_fault: jmp finish\n"
        image = assemble_source(PROLOGUE + "\nbody:\n" + body + after + EPILOGUE)
        options = RunOptions(image, "twins", engine=engine, style="bare", memory=MEMORY)
        return launch(options).session

    return ready


@pytest.fixture
def same(launched: Launch) -> Same:
    """Run a body to its end on both engines, and compare everything."""

    def run(body: str) -> Outcome:
        ends = []
        for engine in ("reference", "native"):
            session = launched(body, engine)
            ending = drive(session, 500_000)
            assert (ending.how, ending.exit_status) == ("debug_exit", 0x21), (engine, ending)
            ends.append((state_of(session), session.retired))
        assert ends[0][0][0] == ends[1][0][0]
        assert ends[0] == ends[1]
        registers = session.registers()
        log = session.memory(LOG, registers["r15"] - LOG)
        words = [int.from_bytes(log[n : n + 8], "little") for n in range(0, len(log), 8)]
        faults = tuple(zip(words[::4], words[1::4], words[2::4], words[3::4], strict=True))
        return Outcome(registers, session.retired, faults)

    return run
