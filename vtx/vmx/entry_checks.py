"""The checks of VM entry as routines, generated from the registry of predicates.

Each says which rule is the first one broken; what follows from that is VM entry's business.
"""

from vtx.isa.builder import Builder, routine_
from vtx.vmx.checks import VmcsView, checks

CONTROL_GROUPS = ("control", "exit-control", "entry-control")
HOLDS = 0
"""Result where no rule is broken; else the broken rule's `order` in spec."""


def _write_checks(b: Builder, *groups: str) -> None:
    view = VmcsView(b)
    for rule in checks(*groups):
        if rule.reachable:
            with b.if_(~rule.predicate(view)):
                b.return_(b.const(16, rule.row.order))
    b.return_(b.const(16, HOLDS))


@routine_(results=(16,))
def check_controls(b: Builder) -> None:
    """The first broken rule on the VMX controls."""
    _write_checks(b, *CONTROL_GROUPS)


@routine_(results=(16,))
def check_host(b: Builder) -> None:
    """The first broken rule on host state."""
    _write_checks(b, "host")


@routine_(results=(16, 64))
def check_guest(b: Builder) -> None:
    """The first broken rule on guest state, and the exit qualification it gives."""
    view = VmcsView(b)
    for rule in checks("guest"):
        if rule.reachable:
            with b.if_(~rule.predicate(view)):
                qualification = rule.row.qualification or 0
                b.return_(b.const(16, rule.row.order), b.const(64, qualification))
    b.return_(b.const(16, HOLDS), b.const(64, 0))
