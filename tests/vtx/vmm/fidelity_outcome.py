"""What a generated program comes to under a VMM class, on the bare machine, with either reader.

Two outcomes are equal when the guest cannot tell the two runs apart.
"""

from dataclasses import dataclass
from unittest.mock import patch

from fidelity_program import Program

from vtx.vmm import Vmm
from vtx.vmm.ending import Ending
from vtx.vmm.launch import RunOptions, drive, launch
from vtx.vmm.session import Session
from vtx.vmm.styles import VMMS

MEMORY = 2 << 20
BUDGET = 2000
"""Instructions a program may retire; it is stopped there, and compared all the same."""
_SHOWN = 8


@dataclass(frozen=True)
class Outcome:
    """How a program ended and everything the guest could see then."""

    ended: str
    exit_status: int
    message: str | None
    retired: int
    registers: dict[str, int]
    memory: bytes

    def differences(self, other: "Outcome") -> list[str]:
        """What is different in `other`, a line each; the message is for people only."""
        found = [
            f"{name}: {getattr(self, name)} and {getattr(other, name)} ({other.message})"
            for name in ("ended", "exit_status", "retired")
            if getattr(self, name) != getattr(other, name)
        ]
        for name, value in self.registers.items():
            if other.registers[name] != value:
                found.append(f"register {name}: {value:#x} and {other.registers[name]:#x}")
        if self.memory != other.memory:
            found += self._memory_differences(other)
        return found[: 2 * _SHOWN]

    def _memory_differences(self, other: "Outcome") -> list[str]:
        found = []
        for gpa in range(0, len(self.memory), 8):
            mine, theirs = (each.memory[gpa : gpa + 8] for each in (self, other))
            if mine != theirs:
                found.append(f"memory {gpa:#x}: {mine.hex()} and {theirs.hex()}")
                if len(found) == _SHOWN:
                    break
        return found


def on_bare(program: Program, engine: str = "reference") -> Outcome:
    """Run on the machine without a VMM."""
    return _run(program, "bare", engine)


def under(vmm: type[Vmm], program: Program, engine: str = "reference") -> Outcome:
    """Run in a VM of a VMM of class `vmm`."""
    with patch.dict(VMMS, {"under test": vmm}):
        return _run(program, "under test", engine)


def _run(program: Program, style: str, engine: str) -> Outcome:
    options = RunOptions(program.image(), "generated", style=style, engine=engine, memory=MEMORY)
    return _finished(launch(options).session)


def _finished(session: Session) -> Outcome:
    ending: Ending = drive(session, BUDGET)
    return Outcome(
        ending.how, ending.exit_status, ending.message, session.retired, session.registers(),
        session.memory(0, MEMORY),
    )  # fmt: skip


def require_fidelity(vmm: type[Vmm], program: Program, engine: str = "reference") -> None:
    """Fail, showing the program, unless `vmm` gives it what the bare machine gives it.

    `engine` runs the VM; the bare machine is the reference's. A VMM may refuse a guest that
    leaves protected mode, if it says so.
    """
    theirs = under(vmm, program, engine)
    if theirs.ended == "vmm_error" and "does not run real mode" in (theirs.message or ""):
        return
    _agree(on_bare(program), theirs, program, f"bare and {vmm.name} on {engine}")


def require_equal_engines(engine: str, program: Program) -> None:
    """Fail unless `engine` and the reference agree on the bare machine."""
    _agree(on_bare(program), on_bare(program, engine), program, f"reference and {engine}")


def _agree(one: Outcome, other: Outcome, program: Program, who: str) -> None:
    found = one.differences(other)
    assert not found, f"{who} differ:\n{program!r}\n" + "\n".join(found)
