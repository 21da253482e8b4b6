"""Hypothesis strategies for whole programs: families of steps, drawn each as often."""

from fidelity_events import events, rings, stacks, timers
from fidelity_memory import accesses, page_tables, strings
from fidelity_program import MODES, Program
from fidelity_strategies import Steps, evenly
from fidelity_system import (
    control_registers,
    debug_registers,
    model_specific,
    others,
    ports,
    tables,
)
from hypothesis import strategies as st

MOST_STEPS = 8


def steps(mode: str) -> Steps:
    """One step for programs of `mode`."""
    families = (accesses, strings, ports, model_specific, control_registers, debug_registers,
                tables, others, events, timers, stacks, rings)  # fmt: skip
    made = [family(mode == "long") for family in families]
    if mode != "unpaged":
        made += [page_tables(mode)] * 2
    return evenly(made)


_STEPS = {mode: steps(mode) for mode in MODES}


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """A program of up to eight steps."""
    mode = draw(st.sampled_from(MODES))
    least = draw(st.integers(1, MOST_STEPS))  # long programs as often as short ones
    return Program(mode, tuple(draw(st.lists(_STEPS[mode], min_size=least, max_size=MOST_STEPS))))
