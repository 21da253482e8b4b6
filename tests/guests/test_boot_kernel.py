"""What the kernel guest does, told by its trace and not only by itself; and the same each time."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vtx.trace import Event, Exit, Header, Interrupt, create_trace, sha256
from vtx.vmm.launch import RunOptions, run

TIMER, PAGE_FAULT = 0x30, 14


def options_of(image: bytes, style: str, **changes: Any) -> RunOptions:
    return RunOptions(image=image, image_name="kernel", style=style, memory=16 << 20, **changes)


def number(console: str, label: str) -> int:
    found = re.search(rf"^{label}: (\d+)$", console, re.MULTILINE)
    assert found is not None, label
    return int(found[1])


@pytest.mark.parametrize("style", ["ept", "shadow"])
def test_the_trace_of_kernel_shows_what_a_real_kernel_does(
    style: str, guest_image: Callable[[str], bytes]
) -> None:
    events: list[Event] = []
    result = run(options_of(guest_image("kernel"), style, trace=events.append))
    console = result.console.decode()
    exits = [event for event in events if isinstance(event, Exit)]
    timers = [e for e in events if isinstance(e, Interrupt) and e.vector == TIMER]

    assert len(exits) == sum(result.exits.values())
    assert len(timers) == number(console, "timer ticks") >= 100
    assert number(console, "timer preemptions") >= 100
    assert number(console, "address spaces") >= 3
    assert number(console, "system calls") >= 200
    assert number(console, "demand faults") >= 20
    assert number(console, "copy-on-write copies") >= 8
    assert number(console, "processes killed") == 1
    if style == "shadow":
        roots = {e.vmcs_changes["GUEST_CR3"] for e in exits if "GUEST_CR3" in e.vmcs_changes}
        assert len(roots) >= 3
        # What the hardware said is about the shadow; what is injected is what the guest sees.
        told = [e.action_text for e in exits if e.vector == PAGE_FAULT and e.action == "inject"]
        errors = [int(found[1], 16) for text in told if (found := re.search(r"error (\S+)", text))]
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
@pytest.mark.parametrize("style", ["bare", "ept", "shadow"])
def test_a_run_gives_the_same_trace_every_time_and_under_both_readers(
    style: str, suffix: str, guest_image: Callable[[str], bytes], tmp_path: Path
) -> None:
    image = guest_image("kernel")
    traces = {
        trace_file(
            tmp_path / f"{n}.{suffix}",
            options_of(image, style, engine=engine, max_instructions=8_000),
        )
        for n, engine in enumerate(("reference", "reference", "evaluate"))
    }

    assert len(traces) == 1
    assert len(traces.pop()) > (200 if style == "bare" else 1000)
