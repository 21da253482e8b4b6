"""Why VM entry failed, in one line: the rule, its fields with their values, the source.

The rules are the ones VM entry itself is made of (vtx.vmx.checks), read on the numbers that
stand in the current VMCS.
"""

from vtx.spec import exit_reason, fields
from vtx.vmm.exits import Exit
from vtx.vmm.port import Port, VmxError
from vtx.vmx.checks import Check, violated

_RULES_SHOWN = 2


def explain_entry_failure(port: Port, exit: Exit | None = None) -> str:
    """One line about a failed VM entry of the current VMCS, the first broken rules in full."""
    if exit is None:
        where = port.instruction_error()
    else:
        where = f"{exit_reason(exit.reason).name}, qualification {exit.qualification}"
    values = _values(port)
    found = violated(
        values, port.computer.model.silicon.name, lambda width, hpa: port.load(hpa, width)
    )
    if not found:
        return f"VM entry failed: {where}"
    rules = "; ".join(_described(rule, values) for rule in found[:_RULES_SHOWN])
    more = f"; and {len(found) - _RULES_SHOWN} more" if len(found) > _RULES_SHOWN else ""
    return f"VM entry failed: {where}: {rules}{more}"


def _described(rule: Check, values: dict[str, int]) -> str:
    shown = ", ".join(f"{name} {values.get(name, 0):#x}" for name in rule.fields)
    return f"{rule.id}: {rule.row.text} ({shown}; {rule.section})"


def _values(port: Port) -> dict[str, int]:
    """Every field the CPU has, by name, and the state words the rules look at."""
    values = {slot: port.register(slot) for slot in ("efer", "vmcs_pointer")}
    for row in fields():
        try:
            values[row.name] = port.vmread(row.name)
        except VmxError:  # this CPU has no such field
            continue
    return values
