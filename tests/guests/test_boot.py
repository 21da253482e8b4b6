"""Every guest ends as its manifest says, and in the same way in every style.

One comparison per guest: it boots the same image in every style that the manifest lists, and
what each run came to is held against the manifest and against the others.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vtx.vmm.compare import compare
from vtx.vmm.launch import RunOptions, RunResult

GUESTS = Path(__file__).parents[2] / "guests"
NAMES = sorted(path.stem for path in GUESTS.glob("*/*.toml"))
STYLES = ["bare", "ept", "shadow"]

BARE_ONLY = {
    "vmx": "is a hypervisor itself: no style gives its guest VMX",
    "vmx-more": "is one, too",
    "smp": "has several CPUs: a VM has one",
}
"""Guest -> why it cannot run under a VMM. At most three rows."""

NO_MANIFEST = {
    "bench": "kernels of vtx bench, see tests/vtx/bench",
    "c": "compiled by the system's compiler, see test_boot_c.py",
    "include": "no guest",
    "kit": "its table is made by tests/kit",
}


def manifest_of(name: str) -> dict[str, Any]:
    return tomllib.loads((GUESTS / name / f"{name}.toml").read_text())


def options_of(name: str, image: bytes, **changes: Any) -> RunOptions:
    """What the manifest says about how to run it."""
    manifest = manifest_of(name)
    size = int(manifest["memory"].removesuffix("M")) << 20
    given = {
        "memory": size,
        "cpu": manifest.get("cpu", RunOptions.cpu),
        "append": manifest.get("append", ""),
        "cpus": manifest.get("smp", 1),
        "max_instructions": manifest["max_instructions"],
    }
    return RunOptions(image=image, image_name=name, **(given | changes))


def check_console(manifest: dict[str, Any], console: str) -> None:
    """The console is what the manifest promises, in any of its three ways of saying so."""
    promises = ("console", "console_contains", "console_pattern")
    assert any(promise in manifest for promise in promises)
    if "console" in manifest:
        assert console == manifest["console"]
    for text in manifest.get("console_contains", []):
        assert text in console
    for pattern in manifest.get("console_pattern", []):
        assert re.search(pattern, console), pattern


def check_end(manifest: dict[str, Any], run: RunResult) -> None:
    check_console(manifest, run.console.decode("ascii"))
    assert run.exit_status == manifest["exit_status"], run.message
    assert 0 < run.retired <= manifest["max_instructions"]


def test_every_directory_of_guests_is_booted_by_a_test() -> None:
    directories = {path.name for path in GUESTS.iterdir() if path.is_dir()}

    assert directories - set(NAMES) == set(NO_MANIFEST)


def test_every_guest_runs_in_every_style_but_for_the_table_of_exceptions() -> None:
    fewer = {name: manifest_of(name)["styles"] for name in NAMES}
    fewer = {name: styles for name, styles in fewer.items() if styles != STYLES}

    assert fewer == {name: ["bare"] for name in BARE_ONLY}
    assert len(BARE_ONLY) <= 3


@pytest.mark.parametrize("name", NAMES)
def test_a_guest_ends_as_its_manifest_says_and_equally_in_every_style(
    name: str, guest_image: Callable[[str], bytes]
) -> None:
    manifest = manifest_of(name)
    found = compare(options_of(name, guest_image(name)), manifest["styles"])

    assert found.differences == []
    assert found.same
    assert [run.style for run in found.runs] == manifest["styles"]
    for run in found.runs:
        check_end(manifest, run)
        assert (run.exits == {}) == (run.style == "bare")
    for what in ("console", "memory_sha256", "registers", "retired", "exit_status", "ended"):
        values = [getattr(run, what) for run in found.runs]
        assert all(value == values[0] for value in values), what
