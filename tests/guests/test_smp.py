"""The guest with four processors: as an ELF32 kernel, and what its trace tells.

That it ends as its manifest says, and in the same way on both engines, is tested with the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tests.foreign.elf32 import as_elf32
from tests.guests.test_boot import check_end, manifest_of, options_of
from tests.vtx.engines import QUICK_ENGINES
from vtx.trace import Event, Interrupt, Startup
from vtx.vmm.launch import RunResult, run

NAME = "smp"
COMMAND, HIT, TIMER = 0x40, 0x41, 0x42


def traced(
    guest_image: Callable[[str], bytes], engine: str, **changes: object
) -> tuple[RunResult, list[Event]]:
    events: list[Event] = []
    options = options_of(
        NAME, as_elf32(guest_image(NAME)), style="bare", engine=engine, trace=events.append
    )
    return run(replace(options, **changes)), events  # type: ignore[arg-type]


@QUICK_ENGINES
def test_as_an_elf32_kernel_it_does_the_same_twice(
    guest_image: Callable[[str], bytes], engine: str
) -> None:
    result, events = traced(guest_image, engine)
    again, same_events = traced(guest_image, engine)

    check_end(manifest_of(NAME), result)
    assert same_events == events
    assert again == result


@QUICK_ENGINES
def test_its_trace_names_the_processors(guest_image: Callable[[str], bytes], engine: str) -> None:
    _, events = traced(guest_image, engine)

    starts = [(e.vcpu, e.how) for e in events if isinstance(e, Startup)]
    both = [(cpu, how) for cpu in (1, 2, 3, 3) for how in ("init", "startup")]
    assert starts == both
    interrupts = [(e.vcpu, e.vector) for e in events if isinstance(e, Interrupt)]
    assert [cpu for cpu, vector in interrupts if vector == TIMER] == [2]
    commands = [cpu for cpu, vector in interrupts if vector == COMMAND]
    assert all(commands.count(cpu) == len(commands) // 3 for cpu in (1, 2, 3))
    assert {cpu for cpu, vector in interrupts if vector == HIT} == {0, 1, 2, 3}
    places = [e.retired for e in events if isinstance(e, Interrupt | Startup)]
    assert places == sorted(places)
