"""Why VM entry failed, in one line: the rule, its fields with their values, the source.

What is broken, and what would pass, comes from vtx.vmx.explain, read on the numbers that stand
in the current VMCS.
"""

from collections.abc import Sequence

from vtx.engine.reference import Reference
from vtx.machine.computer import Computer
from vtx.spec import EXITS, exit_reason, fields
from vtx.vmm.exits import ENTRY_FAILURE, Exit
from vtx.vmm.port import Port
from vtx.vmx.capability import allowed_controls
from vtx.vmx.explain import BrokenCheck, broken_checks
from vtx.vmx.vmcs import NO_VMCS

_RULES_SHOWN = 2
_VMX_ROOT = 1


def explain_entry_failure(port: Port, exit: Exit | None = None) -> str:
    """One line about a failed VM entry of the current VMCS, the first broken rules in full."""
    if exit is None:
        where = port.instruction_error()
    else:
        where = f"{exit_reason(exit.reason).name}, qualification {exit.qualification}"
    return f"VM entry failed: {where}{rules_in_a_line(_broken(port))}"


def explain_root_failure(computer: Computer, engine: Reference) -> str | None:
    """The same for software in VMX root mode on the emulated CPU, if its last VM entry failed.

    That is taken to be so where the first broken rule of the current VMCS gives just what this
    VMCS reports: its VM-instruction error, or an exit for guest state.
    """
    port = Port(computer, engine)
    if port.register("vmx") != _VMX_ROOT or port.register("vmcs_pointer") == NO_VMCS:
        return None
    broken = _broken(port)
    if not broken:
        return None
    row = broken[0].check.row
    if row.error_number is None:
        failed = port.vmread("EXIT_REASON") == ENTRY_FAILURE | EXITS.ENTRY_FAIL_GUEST_STATE
        where = f"ENTRY_FAIL_GUEST_STATE, qualification {row.qualification or 0}"
    else:
        failed = port.vmread("VM_INSTRUCTION_ERROR") == row.error_number
        where = port.instruction_error()
    return f"the guest's VM entry failed: {where}{rules_in_a_line(broken)}" if failed else None


def _broken(port: Port) -> tuple[BrokenCheck, ...]:
    """The rules that the current VMCS breaks; what would pass is searched for the first."""
    profile = port.computer.model.silicon.name
    return tuple(
        broken_checks(_values(port), profile, lambda width, hpa: port.load(hpa, width), search=1)
    )


def rules_in_a_line(broken: Sequence[BrokenCheck]) -> str:
    """The first broken rules behind a colon, the first of all with what would pass."""
    if not broken:
        return ""
    rules = "; ".join(_described(rule) for rule in broken[:_RULES_SHOWN])
    more = f"; and {len(broken) - _RULES_SHOWN} more" if len(broken) > _RULES_SHOWN else ""
    return f": {rules}{more}"


def _described(broken: BrokenCheck) -> str:
    shown = ", ".join(f"{name} {value:#x}" for name, value in broken.fields.items())
    said = f"{broken.id}: {broken.check.row.text} ({shown}; {broken.check.section})"
    if broken.nearest:
        passes = ", ".join(f"{name} = {value:#x}" for name, value in broken.nearest[0].items())
        said += f"; it would pass with {passes}"
    return said


def _values(port: Port) -> dict[str, int]:
    """Every field the CPU has, by name, and the state words the rules look at."""
    values = {slot: port.register(slot) for slot in ("efer", "vmcs_pointer")}
    allowed = allowed_controls(port.computer.model.silicon)
    names = tuple(row.name for row in fields() if row.exists(allowed))
    return values | dict(zip(names, port.vmread_all(names), strict=True))
