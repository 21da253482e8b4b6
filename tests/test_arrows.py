"""The import arrows of the house: an import goes from a room to itself or rightwards.

    cli -> view | fuzz | bench -> vmm -> engine -> vmx -> machine -> isa -> trace -> spec
    asm -> spec, and only the cli imports asm

Imports are read from the syntax tree, inside functions and under TYPE_CHECKING too; a dotted name
of the house in a string counts as an import, because that is how lazy loading spells one.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[1]

RANK = {
    "vtx.cli": 0,
    "vtx.view": 1,
    "vtx.fuzz": 1,
    "vtx.bench": 1,
    "vtx.vmm": 2,
    "vtx.engine": 3,
    "vtx.vmx": 4,
    "vtx.machine": 5,
    "vtx.isa": 6,
    "vtx.trace": 7,
    "vtx.spec": 8,
}
"""Room -> its place from left to right; rooms of the same place do not know each other."""

CLI_ONLY = "asm"
NOT_IMPORTED = frozenset({"tests", "firmware", "guests"})

EXCEPTIONS: dict[tuple[str, str], str] = {
    ("vtx.vmx.checks", "vtx.engine"): "a table of where a rule is kept; it imports nothing",
    ("vtx", "vtx.vmx"): "vtx.explain, the package's one function, imports when it is called",
}
"""(importing module, imported room) -> why this one import may go the wrong way."""

DOTTED = re.compile(r"(?:vtx|asm|tests|firmware|guests)(?:\.[A-Za-z_][A-Za-z0-9_]*)+\Z")


@dataclass(frozen=True)
class Import:
    """`module`, a file of ours, imports `target` at `line`."""

    module: str
    target: str
    line: int


def module_name(path: Path) -> str:
    parts = path.relative_to(TOP).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(name: str) -> str:
    """The room a dotted name stands in: "vtx.isa", "asm", or "vtx" for the package's own files."""
    parts = name.split(".")
    if parts[0] != "vtx" or len(parts) == 1 or parts[1].startswith("__"):
        return parts[0]
    return ".".join(parts[:2])


def imports_of(module: str, source: str, *, is_package: bool = False) -> Iterator[Import]:
    """Every import in a module's source."""
    for node in ast.walk(ast.parse(source)):
        for target in targets_of(node, module, is_package):
            yield Import(module, target, getattr(node, "lineno", 0))


def targets_of(node: ast.AST, module: str, is_package: bool) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            package = module.split(".") if is_package else module.split(".")[:-1]
            package = package[: len(package) - (node.level - 1)]
            base = ".".join(filter(None, [*package, base]))
        # `from vtx import spec` names a room in its list, `from vtx.spec import field` does not.
        return [f"{base}.{alias.name}" for alias in node.names] if base == "vtx" else [base]
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value] if DOTTED.fullmatch(node.value) else []
    return []


def wrong(found: Import) -> str | None:
    """Why the import is against the arrows, None where it is with them."""
    here, there = room_of(found.module), room_of(found.target)
    if there in NOT_IMPORTED:
        return f"nothing may import {there}"
    if here == there or there == "vtx" or there.split(".")[0] not in ("vtx", CLI_ONLY):
        return None
    if there != CLI_ONLY and there not in RANK:
        return f"{there} is no room of the house"
    if here == CLI_ONLY:
        return None if there == "vtx.spec" else f"asm may import only vtx.spec, not {there}"
    if there == CLI_ONLY:
        return None if here == "vtx.cli" else "only the cli may import asm"
    if here == "vtx":
        return None if found.module == "vtx.__main__" and there == "vtx.cli" else "vtx is empty"
    if here not in RANK:
        return f"{here} is no room of the house; give it a place in RANK"
    return None if RANK[here] < RANK[there] else f"{here} stands right of or beside {there}"


def sources() -> list[Path]:
    return sorted([*(TOP / "vtx").rglob("*.py"), *(TOP / "asm").rglob("*.py")])


def violations() -> list[tuple[Import, str]]:
    found = []
    for path in sources():
        source = path.read_text(encoding="utf-8")
        package = path.name == "__init__.py"
        for item in imports_of(module_name(path), source, is_package=package):
            reason = wrong(item)
            if reason:
                found.append((item, reason))
    return found


def test_every_import_follows_the_arrows() -> None:
    against = [
        f"{item.module}:{item.line} imports {item.target}: {reason}"
        for item, reason in violations()
        if (item.module, room_of(item.target)) not in EXCEPTIONS
    ]

    assert against == []


def test_every_exception_is_still_needed() -> None:
    used = {(item.module, room_of(item.target)) for item, _ in violations()}

    assert set(EXCEPTIONS) <= used


def test_the_house_was_found() -> None:
    rooms = {room_of(module_name(path)) for path in sources()}

    assert {"asm", "vtx.spec", "vtx.trace", "vtx.isa", "vtx.cli"} <= rooms


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("vtx.spec.fields", "import vtx.trace"),
        ("vtx.spec.fields", "from vtx import trace"),
        ("vtx.spec.fields", "from ..trace import events"),
        ("vtx.isa.moves", "from vtx.machine.state import State"),
        ("vtx.isa.moves", "def f():\n    from vtx.machine import state"),
        ("vtx.isa.moves", "import_module('vtx.machine.state')"),
        ("vtx.isa.moves", "NAMES = ('vtx.machine.paging',)"),
        ("vtx.view.stat", "import vtx.fuzz.oracles"),
        ("vtx.vmm.launch", "import asm"),
        ("vtx.vmm.launch", "from asm.errors import AssemblyErrors"),
        ("vtx.machine.bus", "from vtx.cli import main"),
        ("asm.encode", "from vtx.isa import key"),
        ("vtx.cli.run", "import tests.conftest"),
        ("vtx.newroom.file", "import vtx.spec"),
        ("vtx.cli.run", "from vtx import helpers"),
    ],
)
def test_an_import_against_the_arrows_is_seen(module: str, source: str) -> None:
    reasons = [wrong(item) for item in imports_of(module, source)]

    assert any(reasons)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("vtx.cli.run", "from asm import assemble_file"),
        ("vtx.engine.families", "FAMILIES = ('vtx.vmx.ept', 'vtx.isa.moves')"),
        ("vtx.trace.events", "from vtx import spec"),
        ("vtx.isa.moves", "from vtx.isa.flags import Flags"),
        ("vtx.isa.moves", "from .flags import Flags"),
        ("asm.forms", "import vtx.spec"),
        ("vtx.vmm.launch", "import json, msgspec.json"),
        ("vtx.vmm.launch", "'vtx.s is a file name in a sentence'"),
    ],
)
def test_an_import_along_the_arrows_passes(module: str, source: str) -> None:
    reasons = [wrong(item) for item in imports_of(module, source)]

    assert not any(reasons)
