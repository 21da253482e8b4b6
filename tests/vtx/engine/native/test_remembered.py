"""What is kept of a routine's results: everything it looks at is compared, and no more is kept."""

import pytest

from vtx.engine.families import load_all
from vtx.engine.native.remembered import REMEMBERED, looked_at
from vtx.isa.layout import SLOTS
from vtx.isa.program import routine
from vtx.vmx.checks import checks
from vtx.vmx.entry_checks import is_steady
from vtx.vmx.vmcs import OFFSETS

ONLY_LOADED = 0x3F_7000 & ~(1 << 17) | 1 << 10
"""DF, IOPL, NT, RF, AC, VIF, VIP, ID: no rule is about them."""


def test_every_field_of_a_steady_rule_is_compared() -> None:
    load_all()
    compared = {offset for name in REMEMBERED for offset in looked_at(routine(name))[0]}
    for rule in checks():
        if rule.reachable and is_steady(rule):
            assert {OFFSETS[name] for name in rule.fields} <= compared, rule.id


def test_the_state_that_counts_is_compared_in_the_bits_that_count() -> None:
    load_all()
    _, state = looked_at(routine("check_host_steady"))
    assert state[SLOTS["efer"]] == 1 << 10
    fields, _ = looked_at(routine("check_guest_steady"))
    arithmetic_flags = 0x8D5
    assert fields[OFFSETS["GUEST_RFLAGS"]] == (1 << 64) - 1 & ~arithmetic_flags & ~ONLY_LOADED


@pytest.mark.parametrize("name", ["check_guest_moving", "save_guest", "translate"])
def test_a_routine_that_looks_elsewhere_or_does_something_is_refused(name: str) -> None:
    load_all()
    with pytest.raises(ValueError, match=name):
        looked_at(routine(name))
