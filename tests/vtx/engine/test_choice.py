"""Executors of a machine with several CPUs."""

from __future__ import annotations

import pytest

from tests.vtx.engines import NEEDS_NATIVE
from vtx.engine import choice
from vtx.machine.computer import Computer
from vtx.machine.cpu_model import cpu_model


@pytest.mark.parametrize(
    ("cpus", "share"), [(1, 64 << 20), (4, 16 << 20), (100, choice.LEAST_CODE_CACHE)]
)
def test_the_cpus_share_the_code_cache_evenly_down_to_the_least(
    monkeypatch: pytest.MonkeyPatch, cpus: int, share: int
) -> None:
    asked = []

    def make(name: str, cpu: object, features: object, *, code_cache: int) -> None:
        asked.append((name, code_cache))

    monkeypatch.setattr(choice, "make_engine", make)
    choice.make_engines("native", [None] * cpus, frozenset(), code_cache=64 << 20)  # type: ignore[list-item]

    assert asked == [("native", share)] * cpus


@NEEDS_NATIVE
def test_sixteen_native_engines_take_less_than_two_mebibytes_each() -> None:
    machine = Computer(cpu=cpu_model("haswell"), ram_size=64 << 20, cpu_count=17)
    first = choice.make_engines("native", machine.cpus[:1], machine.features)
    before = resident()
    others = choice.make_engines("native", machine.cpus[1:], machine.features)

    assert resident() - before < 16 * (2 << 20)
    assert [engine.problem for engine in first + others] == [None] * 17


def resident() -> int:
    """Bytes of this process in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
