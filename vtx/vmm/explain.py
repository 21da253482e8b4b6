"""Why VM entry failed, in one line: the rule, the fields with their values, the source."""

from vtx.vmm.exits import Exit
from vtx.vmm.port import Port


def explain_entry_failure(port: Port, exit: Exit | None = None) -> str:
    """One line that says how VM entry failed."""
    where = port.instruction_error() if exit is None else f"VM exit {exit.name}"
    return f"VM entry failed: {where}"
