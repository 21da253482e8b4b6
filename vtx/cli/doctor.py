"""`vtx doctor`: what vtx finds on this machine. Must not change anything or fail for anything."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Any

import click
import msgspec

PACKAGES = (
    "vtx",
    "click",
    "iced-x86",
    "lark",
    "msgspec",
    "pyelftools",
    "rich",
    "llvmlite",
    "hypothesis",
    "unicorn",
)
"""Distributions that vtx uses; the last three for engines, fuzzing and tests."""

PROGRAMS = {
    "as": ("as",),
    "gcc": ("gcc", "cc", "clang"),
    "qemu": ("qemu-system-x86_64",),
    "bochs": ("bochs",),
    "gdb": ("gdb",),
}
"""Oracle -> programs that can be it; each is optional."""

GOOD_ENOUGH = (3, 11)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(as_json: bool) -> None:
    """Show Python, packages, engines, oracles and this machine."""
    found = findings()
    click.echo(msgspec.json.encode(found).decode() if as_json else "\n".join(_lines(found)))


def findings() -> dict[str, Any]:
    """Everything as plain values; None where a thing is missing."""
    from vtx.engine.choice import native_problem

    problem = native_problem()
    return {
        "python": {
            "version": platform.python_version(),
            "implementation": platform.python_implementation(),
            "new_enough": sys.version_info >= GOOD_ENOUGH,
        },
        "packages": {name: _version(name) for name in PACKAGES},
        "engines": {"reference": True, "native": problem is None},
        "native_problem": problem,
        "oracles": {
            **{name: _program(choices) for name, choices in PROGRAMS.items()},
            "unicorn": _version("unicorn"),
        },
        "host": {
            "system": f"{platform.system()} {platform.release()}",
            "machine": platform.machine(),
            "cpu": _cpu_model(),
            "cpus": os.cpu_count(),
            "vmx": "vmx" in _cpu_flags(),
            "kvm": os.access("/dev/kvm", os.R_OK | os.W_OK),
        },
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _program(choices: tuple[str, ...]) -> str | None:
    return next((path for name in choices if (path := shutil.which(name))), None)


def _cpuinfo(key: str) -> str:
    """The first value of `key` in Linux's list of CPUs; "" elsewhere."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""


def _cpu_model() -> str:
    return _cpuinfo("model name") or platform.processor() or "unknown"


def _cpu_flags() -> frozenset[str]:
    return frozenset(_cpuinfo("flags").split())


def _lines(found: dict[str, Any]) -> list[str]:
    python, host = found["python"], found["host"]
    verdict = "" if python["new_enough"] else " (too old: vtx needs 3.11)"
    lines = [
        f"Python    {python['version']} ({python['implementation']}){verdict}",
        f"Host      {host['system']}, {host['machine']}, {host['cpus']} CPUs, {host['cpu']}",
        f"          VT-x {_yes(host['vmx'])}, /dev/kvm {_yes(host['kvm'])} (vtx needs neither)",
        "Packages",
        *(f"  {name:<12} {version or 'not installed'}" for name, version in _items(found)),
        "Engines",
    ]
    for name, available in found["engines"].items():
        reason = found["native_problem"] if name == "native" else None
        shown = "available" if available else f"not available: {reason}"
        lines.append(f"  {name:<12} {shown}")
    lines.append("Oracles (for tests only)")
    for name, place in found["oracles"].items():
        lines.append(f"  {name:<12} {place or 'not found'}")
    return lines


def _items(found: dict[str, Any]) -> list[tuple[str, str | None]]:
    return list(found["packages"].items())


def _yes(value: bool) -> str:
    return "yes" if value else "no"
