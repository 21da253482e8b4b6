"""The kit run: its table assembled into the guest, the guest run, its lines read.

Must not know what a case is for.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import asm
from tests.conftest import GUESTS
from tests.kit.kit_layout import PROFILE, Case, table
from vtx.spec import EXITS
from vtx.vmm.launch import RunOptions, run

SUCCEEDED, FAIL_INVALID, FAIL_VALID = range(3)
ENTRY_FAILED = 1 << 31
DONE = 0x21
"""Exit status of a run that came to its end."""


@dataclass(frozen=True)
class Report:
    """What became of one case."""

    status: int
    error: int = 0
    reason: int = 0
    qualification: int = 0
    rip: int = 0
    length: int = 0
    interruption: int = 0
    idt_vectoring: int = 0

    @property
    def entered(self) -> bool:
        """VM entry succeeded, and the guest came to an exit."""
        return self.status == SUCCEEDED and not self.reason & ENTRY_FAILED

    @property
    def in_words(self) -> str:
        if self.status != SUCCEEDED:
            return f"fails with error {self.error}"
        if self.reason & ENTRY_FAILED:
            return f"exit {self.reason & 0xFFFF} qualification {self.qualification}"
        return f"entered, exit {self.reason}"


GUEST_STATE = ENTRY_FAILED | EXITS.ENTRY_FAIL_GUEST_STATE


def assemble(cases: Sequence[Case]) -> bytes:
    """The kit with these cases in it, as an ELF image."""
    with tempfile.TemporaryDirectory(prefix="vtx-kit-") as directory:
        (Path(directory) / "cases.bin").write_bytes(table(cases))
        include = [Path(directory), GUESTS / "include"]
        return asm.assemble_file(GUESTS / "kit" / "kit.s", include=include).elf()


def run_kit(cases: Sequence[Case], engine: str) -> list[Report]:
    """Run the cases in VMX root mode on the emulated CPU."""
    options = RunOptions(
        image=assemble(cases), image_name="kit", style="bare", cpu=f"{PROFILE},+vmx", engine=engine,
        memory=16 << 20, max_instructions=60_000_000, append="1", hash_memory=False,
    )  # fmt: skip
    result = run(options)
    reports = parse(result.console.decode())
    assert result.exit_status == DONE, f"{result.ended} behind {len(reports)} cases"
    assert len(reports) == len(cases)
    return reports


def parse(console: str) -> list[Report]:
    """The reports in the kit's output; their numbers have to be 0, 1, 2 and on."""
    reports = []
    for line in console.splitlines():
        numbers = [int(text, 16) for text in line.split()]
        if len(numbers) < 3 or numbers[0] != len(reports):
            continue  # the checksum, at the end
        if numbers[1] == SUCCEEDED:
            reports.append(Report(SUCCEEDED, 0, *numbers[2:]))
        else:
            reports.append(Report(numbers[1], numbers[2]))
    return reports


_RUNS: dict[tuple[str, ...], list[Report]] = {}


def reports_of(cases: Sequence[Case], engine: str) -> list[Report]:
    """One run for all tests of the same cases on the same engine."""
    key = (engine, *(case.name for case in cases))
    if key not in _RUNS:
        _RUNS[key] = run_kit(cases, engine)
    return _RUNS[key]
