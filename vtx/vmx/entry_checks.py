"""The checks of VM entry as routines, generated from the registry of predicates.

Each says which rule is the first one broken; what follows from that is VM entry's business. The
rules of a group stand in two routines. What hardly stays the same for two entries, and what memory
holds, is looked at by the *moving* rules. The *steady* ones are a function of the other fields and
of the CPU's state: an executor may keep the result for as long as all that they look at is the
same. Which rule is which follows from its expression.
"""

from collections.abc import Iterable
from functools import cache

from vtx.isa.builder import Builder, Value, routine_
from vtx.isa.primitives import Prim
from vtx.vmx.checks import Check, VmcsView, checks

CONTROL_GROUPS = ("control", "exit-control", "entry-control")
HOLDS = 0
"""Result where no rule is broken; else the broken rule's `order` in spec."""

MOVING = frozenset({"GUEST_RIP"})
"""Fields that differ from nearly every VM entry to the next. Of what else a VM exit changes the
rules look at few bits: of RFLAGS, say, not at the arithmetic flags."""


@cache
def is_steady(rule: Check) -> bool:
    """The rule looks neither at what moves nor at memory outside the VMCS."""
    view = VmcsView(b := Builder(rule.id))
    rule.predicate(view)
    loads = sum(op.prim is Prim.PLOAD for op in b.ops)
    return loads == len(view.fields) and not view.fields.keys() & MOVING


def _write_checks(b: Builder, rules: Iterable[Check]) -> None:
    view = VmcsView(b)
    for rule in rules:
        if rule.reachable:
            with b.if_(~rule.predicate(view)):
                qualification = rule.row.qualification or 0
                b.return_(b.const(16, rule.row.order), b.const(64, qualification))
    b.return_(b.const(16, HOLDS), b.const(64, 0))


def _parts(name: str, *groups: str) -> tuple[str, str]:
    """Register the two routines of the groups: the first broken rule, its qualification."""

    def part(kind: str, steady: bool) -> str:
        @routine_(results=(16, 64), name=f"{name}_{kind}")
        def check_part(b: Builder) -> None:
            _write_checks(b, (rule for rule in checks(*groups) if is_steady(rule) is steady))

        return f"{name}_{kind}"

    return part("steady", True), part("moving", False)


CONTROLS, HOST = _parts("check_controls", *CONTROL_GROUPS), _parts("check_host", "host")
GUEST = _parts("check_guest", "guest")
STEADY = (CONTROLS[0], HOST[0], GUEST[0])
"""Routines without side effects whose results follow from the current VMCS and the state."""


def _first_broken(b: Builder, parts: tuple[str, str]) -> tuple[Value, Value]:
    """The first broken rule of both parts, and the exit qualification it gives."""
    (steady, steady_qualification), (moving, moving_qualification) = (b.call(p) for p in parts)
    is_moving = (steady == HOLDS) | ((moving != HOLDS) & moving.ult(steady))
    return (
        is_moving.select(moving, steady),
        is_moving.select(moving_qualification, steady_qualification),
    )


@routine_(results=(16,))
def check_controls(b: Builder) -> None:
    """The first broken rule on the VMX controls."""
    b.return_(_first_broken(b, CONTROLS)[0])


@routine_(results=(16,))
def check_host(b: Builder) -> None:
    """The first broken rule on host state."""
    b.return_(_first_broken(b, HOST)[0])


@routine_(results=(16, 64))
def check_guest(b: Builder) -> None:
    """The first broken rule on guest state, and the exit qualification it gives."""
    b.return_(*_first_broken(b, GUEST))
