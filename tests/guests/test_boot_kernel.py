"""What the kernel guest does, told by its trace and not only by itself; and the same each time."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from vtx.engine.choice import native_problem
from vtx.trace import Event, Exit, Header, Interrupt, Probe, create_trace, sha256
from vtx.vmm.launch import RunOptions, RunResult, run

TIMER, PAGE_FAULT = 0x30, 14
STYLES = ("bare", "ept", "shadow")
LEAST = {
    "timer_preempt": 100,
    "address_space_create": 3,
    "system_call": 200,
    "demand_fault": 20,
    "cow_copy": 8,
    "kill_process": 1,
}
"""Where the kernel does what a kernel does -> how often it must, at the least."""
CONSOLE = {
    "timer_preempt": "timer preemptions",
    "address_space_create": "address spaces",
    "system_call": "system calls",
    "demand_fault": "demand faults",
    "cow_copy": "copy-on-write copies",
    "kill_process": "processes killed",
}
"""The same places -> what the kernel calls them when it says how often it was there."""


@dataclass(frozen=True)
class Traced:
    """A run of the kernel with a probe on each of those places."""

    result: RunResult
    events: list[Event]

    @property
    def probes(self) -> list[Probe]:
        return [event for event in self.events if isinstance(event, Probe)]

    @property
    def exits(self) -> list[Exit]:
        return [event for event in self.events if isinstance(event, Exit)]

    def number(self, label: str) -> int:
        """What the kernel printed at its end."""
        found = re.search(rf"^{label}: (\d+)$", self.result.console.decode(), re.MULTILINE)
        assert found is not None, label
        return int(found[1])


def options_of(image: bytes, style: str, **changes: Any) -> RunOptions:
    return RunOptions(image=image, image_name="kernel", style=style, memory=16 << 20, **changes)


@pytest.fixture(scope="module")
def traced(guest_image: Callable[[str], bytes]) -> Callable[[str], Traced]:
    """The kernel's whole run in a style, made once."""

    @cache
    def run_in(style: str) -> Traced:
        events: list[Event] = []
        image, probes = guest_image("kernel"), tuple(LEAST)
        options = options_of(image, style, trace=events.append, probes=probes)
        return Traced(run(options), events)

    return run_in


@pytest.mark.parametrize("style", STYLES)
def test_the_trace_of_kernel_shows_what_a_real_kernel_does(
    style: str, traced: Callable[[str], Traced]
) -> None:
    seen = traced(style)
    hits = Counter(probe.symbol for probe in seen.probes)
    spaces = {probe.cr3 for probe in seen.probes if probe.symbol == "system_call"}
    timers = [e for e in seen.events if isinstance(e, Interrupt) and e.vector == TIMER]

    assert all(hits[symbol] >= least for symbol, least in LEAST.items())
    assert hits["kill_process"] == 1
    assert len(spaces) >= 3
    assert {symbol: seen.number(label) for symbol, label in CONSOLE.items()} == hits
    assert len(spaces) == seen.number("address spaces")
    assert len(timers) == seen.number("timer ticks")
    assert len(seen.exits) == sum(seen.result.exits.values())


@pytest.mark.parametrize("style", ["ept", "shadow"])
def test_the_probes_of_kernel_are_the_same_in_every_style(
    style: str, traced: Callable[[str], Traced]
) -> None:
    assert traced(style).probes == traced("bare").probes


def test_what_shadow_paging_injects_is_what_the_kernel_sees(
    traced: Callable[[str], Traced],
) -> None:
    exits = traced("shadow").exits
    roots = {e.vmcs_changes["GUEST_CR3"] for e in exits if "GUEST_CR3" in e.vmcs_changes}
    # What the hardware said is about the shadow; what is injected is what the guest sees.
    told = [e.action_text for e in exits if e.vector == PAGE_FAULT and e.action == "inject"]
    errors = [int(found[1], 16) for text in told if (found := re.search(r"error (\S+)", text))]

    assert len(roots) >= 3
    assert len(errors) == len(told)
    assert sum(not error & 1 for error in errors) >= 20  # demand faults
    assert sum(error & 3 == 3 for error in errors) >= 8  # copies on write
    assert sum(error & 7 == 5 for error in errors) == 1  # the process that is killed


def trace_file(path: Path, options: RunOptions) -> bytes:
    header = Header(
        image_sha256=sha256(options.image), style=options.style, cpu=options.cpu,
        memory=options.memory,
    )  # fmt: skip
    with create_trace(path, header) as writer:
        run(replace(options, trace=writer.write))
    return path.read_bytes()


@pytest.mark.parametrize("suffix", ["jsonl", "vtxb"])
@pytest.mark.parametrize("style", STYLES)
def test_a_run_gives_the_same_trace_every_time_and_on_every_engine(
    style: str, suffix: str, guest_image: Callable[[str], bytes], tmp_path: Path
) -> None:
    image = guest_image("kernel")
    native = ["native", "native"] if native_problem() is None else []
    wanted: dict[str, Any] = {"max_instructions": 8_000, "probes": ("paging_init", "out_of_frames")}
    traces = {
        trace_file(tmp_path / f"{n}.{suffix}", options_of(image, style, engine=engine, **wanted))
        for n, engine in enumerate(("reference", "reference", "evaluate", *native))
    }

    assert len(traces) == 1
    trace = traces.pop()
    assert b"paging_init" in trace
    assert b"out_of_frames" not in trace
    assert len(trace) > (250 if style == "bare" else 1000)
