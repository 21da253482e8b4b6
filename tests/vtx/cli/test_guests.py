"""The command line with the real machine: small guests in every style."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asm import assemble_file
from vtx.cli import vtx as command_line
from vtx.trace import End, Exit, open_trace

GUESTS = Path(__file__).resolve().parents[3] / "guests"
HELLO = GUESTS / "hello" / "hello.s"
STYLES = pytest.mark.parametrize("style", ["bare", "ept", "shadow"])


def vtx(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vtx", *(str(argument) for argument in arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL, check=False
    )


@STYLES
def test_hello_prints_its_line_and_powers_off(style: str) -> None:
    done = vtx("run", HELLO, "--vmm", style, "--stats", "json")
    found = json.loads(done.stderr.splitlines()[-1])

    assert (done.returncode, done.stdout) == (0, "Hello from a 64-bit guest.\n")
    assert (found["style"], found["ended"], found["exit_status"]) == (style, "power_off", 0)


def test_the_same_run_twice_gives_the_same_trace(tmp_path: Path) -> None:
    for suffix in ("jsonl", "vtxb"):
        one, other = tmp_path / f"1.{suffix}", tmp_path / f"2.{suffix}"
        for path in (one, other):
            assert vtx("run", HELLO, "--vmm", "ept", "--trace", path).returncode == 0

        assert one.read_bytes() == other.read_bytes()


def test_a_trace_of_hello_has_its_console_output_as_exits(tmp_path: Path) -> None:
    vtx("run", HELLO, "--vmm", "ept", "--trace", tmp_path / "t")

    with open_trace(tmp_path / "t") as reader:
        events = list(reader)
    ports = [e.decoded["port"] for e in events if isinstance(e, Exit) and e.number == 30]
    assert ports.count(0x3F8) == len("Hello from a 64-bit guest.\n")
    assert isinstance(events[-1], End)
    stat = json.loads(vtx("trace", "stat", tmp_path / "t", "--json").stdout)
    assert stat["total"]["samples"] == sum(isinstance(e, Exit) for e in events)


def test_styles_of_hello_are_the_same() -> None:
    done = vtx("compare", HELLO, "--json")
    found = json.loads(done.stdout)

    assert (done.returncode, found["same"], found["differences"]) == (0, True, [])
    assert len({run["memory_sha256"] for run in found["styles"].values()}) == 1


@STYLES
def test_a_guest_that_never_ends_runs_out_of_its_budget(style: str) -> None:
    done = vtx("run", GUESTS / "loop" / "loop.s", "--vmm", style, "--max-instructions", 5000)

    assert (done.returncode, done.stdout) == (124, "")
    assert done.stderr.startswith("vtx: error: ")
    assert done.stderr.count("\n") == 1


@STYLES
def test_a_triple_fault_is_one_line_and_status_4(style: str) -> None:
    done = vtx("run", GUESTS / "triple" / "triple.s", "--vmm", style)

    assert done.returncode == 4
    assert done.stderr.startswith("vtx: error: ")
    assert done.stderr.count("\n") == 1


def test_ctrl_c_is_130_and_leaves_a_whole_trace(tmp_path: Path) -> None:
    path = tmp_path / "t"
    running = subprocess.Popen(
        [sys.executable, "-m", "vtx", "run", str(GUESTS / "loop" / "loop.s"), "--trace", str(path)],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        # A shell lets what it runs in the background ignore interrupts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        while not path.exists() and running.poll() is None:
            time.sleep(0.05)
        time.sleep(0.5)
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=60)
    finally:
        running.kill()

    assert running.returncode == 130
    assert said.startswith(b"vtx: error: interrupted")
    assert said.count(b"\n") == 1
    with open_trace(path) as reader:
        *_, end = reader
    assert isinstance(end, End)
    assert (end.ended, end.exit_status) == ("interrupted", 130)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--vmm", "nonsense"),
        ("--vmm", "none.py:X"),
        ("--engine", "nonsense"),
        ("-m", "900T"),
        ("--code-cache", "2M"),
    ],
)
def test_what_cannot_be_launched_is_one_line(arguments: tuple[str, ...]) -> None:
    done = vtx("run", HELLO, *arguments)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("vtx: error: ")
    assert done.stderr.count("\n") == 1


def test_an_image_that_is_no_image_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.elf"
    for content in (b"", b"\x7fELF", b"hello"):
        path.write_bytes(content)
        done = vtx("run", path)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("vtx: error: ")
        assert done.stderr.count("\n") == 1


IMAGE = assemble_file(HELLO).elf()
HEADERS = 0x200
"""Bytes at the start of the image where its ELF and program headers are."""

edits = st.lists(
    st.tuples(st.integers(0, HEADERS) | st.integers(0, len(IMAGE) - 1), st.integers(0, 255)),
    min_size=1,
    max_size=6,
)


@given(edits, st.none() | st.integers(0, len(IMAGE)), st.sampled_from(["bare", "ept", "shadow"]))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_damaged_image_runs_or_is_refused_in_one_line(
    tmp_path: Path, changes: list[tuple[int, int]], size: int | None, style: str
) -> None:
    damaged = bytearray(IMAGE)
    for place, value in changes:
        damaged[place] = value
    path = tmp_path / "damaged.elf"
    path.write_bytes(damaged[:size])
    arguments = ["run", str(path), "--vmm", style, "--max-instructions", "200", "-m", "4M"]
    result = CliRunner().invoke(command_line, arguments)

    assert result.exit_code in {0, 2, 4, 6, 8, 124}
    if result.exit_code:
        assert result.stderr.startswith("vtx: error: ")
        assert result.stderr.count("\n") == 1
