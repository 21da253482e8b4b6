"""The native engine runs every guest as the reference does, in every style.

How it ends, everything the guest leaves behind, and the trace file to its last byte.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from tests.vtx.engines import NEEDS_NATIVE
from vtx.cli.recording import recording
from vtx.trace import Event
from vtx.vmm.launch import RunOptions, RunResult, run

pytestmark = NEEDS_NATIVE
GUESTS = Path(__file__).parents[2] / "guests"
MANIFESTS = {path.stem: tomllib.loads(path.read_text()) for path in GUESTS.glob("*/*.toml")}
PAIRS = [(name, style) for name in sorted(MANIFESTS) for style in MANIFESTS[name]["styles"]]
TRACES = ("trace.jsonl", "trace.vtxb")
SAME = ("console", "memory_sha256", "registers", "retired", "exits", "ended", "exit_status",
        "message", "notes", "shadow")  # fmt: skip
"""What two engines agree on. Not the TLB's misses: what an engine looks up is its own affair."""


def options_of(name: str, image: bytes, style: str, engine: str) -> RunOptions:
    manifest = MANIFESTS[name]
    return RunOptions(
        image=image,
        image_name=name,
        cpu=manifest.get("cpu", RunOptions.cpu),
        style=style,
        engine=engine,
        memory=16 << 20,
        append=manifest.get("append", ""),
        cpus=manifest.get("smp", 1),
        max_instructions=manifest["max_instructions"],
    )


def traced(options: RunOptions, directory: Path) -> RunResult:
    """Run, and record the trace in both forms."""
    directory.mkdir()
    with ExitStack() as files:
        records = [files.enter_context(recording(directory / name, options)) for name in TRACES]

        def record(event: Event) -> None:
            for each in records:
                assert each is not None
                each.record(event)

        result = run(replace(options, trace=record))
        for each in records:
            assert each is not None
            each.finish(result)
    return result


@pytest.mark.parametrize(("name", "style"), PAIRS)
def test_a_guest_and_its_trace_are_the_same_on_both_engines(
    name: str, style: str, guest_image: Callable[[str], bytes], tmp_path: Path
) -> None:
    image = guest_image(name)
    reference, native = (
        traced(options_of(name, image, style, engine), tmp_path / engine)
        for engine in ("reference", "native")
    )

    assert native.engine == "native"
    assert {n: getattr(native, n) for n in SAME} == {n: getattr(reference, n) for n in SAME}
    for file in TRACES:
        assert (tmp_path / "native" / file).read_bytes() == (
            tmp_path / "reference" / file
        ).read_bytes(), file
