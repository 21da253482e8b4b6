"""Comparing styles has teeth: a VMM with one fault never compares as the same."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from vtx.vmm.compare import Comparison, compare
from vtx.vmm.launch import RunOptions

HERE = Path(__file__).parent
FAULTY = HERE / "faulty_vmms.py"
RIGHT = "SkipsInvd"
FAULTS = [
    node.name
    for node in ast.parse(FAULTY.read_text()).body
    if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and node.name != RIGHT
]

TOLD_AS = {
    "LateInterrupt": "memory", "WrongFrame": "memory", "NotCounted": "retired",
    "TscOffset": "memory", "LostCr2": "memory",
}  # fmt: skip
"""What the comparison must name, where a fault can show in one way only."""


def compared(image: bytes, *styles: str) -> Comparison:
    options = RunOptions(image=image, image_name="teeth", memory=8 << 20, max_instructions=20_000)
    return compare(options, list(styles))


def test_there_are_faults_enough() -> None:
    assert len(FAULTS) >= 12


def test_styles_without_a_fault_are_the_same(teeth: bytes) -> None:
    found = compared(teeth, "bare", "ept", "shadow", f"{FAULTY}:{RIGHT}")

    assert found.differences == []
    assert [run.ended for run in found.runs] == ["power_off"] * 4


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_with_the_instruction_where_it_first_shows(
    fault: str, teeth: bytes
) -> None:
    found = compared(teeth, "bare", f"{FAULTY}:{fault}")
    bare = found.runs[0]

    assert not found.same
    assert bare.ended == "power_off"
    told = " ".join(difference.what for difference in found.differences)
    assert TOLD_AS.get(fault, "") in told
    for difference in found.differences:
        assert difference.where == f"bare/{FAULTY}:{fault}"
        assert difference.first_retired is not None
        assert 0 < difference.first_retired <= bare.retired
