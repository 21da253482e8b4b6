"""A flush by VPID that native code makes forgets what the machine's own flush would."""

import random
from collections.abc import Callable
from typing import Any

import pytest

from vtx.engine.choice import make_engine, native_problem
from vtx.engine.reference import Reference
from vtx.machine.built import features_of
from vtx.machine.bus import Bus
from vtx.machine.cpu import Cpu
from vtx.machine.memory import PhysicalMemory
from vtx.machine.reset import reset_cpu
from vtx.machine.tlb import PRIVILEGES, AddressSpace, Tag, Tlb

SINGLE = 1
"""Type of INVVPID: everything that is tagged with one VPID."""
TAGS: list[Tag] = [(1, 0, 0), (1, 5, 0), (1, 5, 0x7000), (2, 0, 0), (0, 0, 0)]


@pytest.fixture(scope="module")
def engine() -> Reference:
    if native_problem() is not None:
        pytest.skip(f"no native engine here: {native_problem()}")
    cpu = Cpu(Bus(PhysicalMemory(1 << 20)))
    features = features_of("haswell")
    reset_cpu(cpu, features, "haswell")
    return make_engine("native", cpu, features)


@pytest.fixture
def asked(engine: Reference, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """VPIDs that Python was asked to flush."""
    seen: list[int] = []
    flush: Callable[..., None] = engine.cpu.tlb.flush

    def noted(**parts: Any) -> None:
        seen.append(parts["vpid"])
        flush(**parts)

    monkeypatch.setattr(engine.cpu.tlb, "flush", noted)
    return seen


def content(space: AddressSpace) -> list[dict[int, int]]:
    return [dict(pages) for pages in space.maps()]


def fill(tlb: Tlb, rng: random.Random, pages: int) -> None:
    for tag in TAGS:
        tlb.switch(tag)
        for _ in range(pages):
            maps = rng.choice([tlb.space.reads, tlb.space.writes, tlb.space.fetch])
            maps[rng.randrange(len(PRIVILEGES))][rng.randrange(1 << 36)] = rng.randrange(256) << 12
    tlb.switch((0, 0, 0))


def flush_both(engine: Reference, theirs: Tlb, vpid: int) -> None:
    assert engine.call("vmx_invvpid", SINGLE, vpid, 0) is not None
    theirs.flush(vpid=vpid)
    ours = engine.cpu.tlb
    for tag in TAGS:
        ours.switch(tag)
        theirs.switch(tag)
        assert content(ours.space) == content(theirs.space), tag
        assert ours.space.global_pages == theirs.space.global_pages
    ours.switch((0, 0, 0))
    engine.cpu.switch_context()


@pytest.mark.parametrize("pages", [0, 1, 20, 32, 33, 700])
def test_what_is_flushed(engine: Reference, asked: list[int], pages: int) -> None:
    theirs = Tlb()
    for vpid in range(3):
        engine.cpu.tlb.flush(vpid=vpid)
    for tlb in (engine.cpu.tlb, theirs):
        fill(tlb, random.Random(pages), pages)
    asked.clear()
    flush_both(engine, theirs, 1)
    assert asked == ([] if pages <= 32 else [1])


def test_global_pages_that_python_knows_are_its_business(
    engine: Reference, asked: list[int]
) -> None:
    theirs = Tlb()
    for vpid in range(3):
        engine.cpu.tlb.flush(vpid=vpid)
    for tlb in (engine.cpu.tlb, theirs):
        tlb.switch((1, 0, 0))
        tlb.space.global_pages.add(7)
        tlb.space.reads[1][7] = 0x3000
    asked.clear()
    flush_both(engine, theirs, 1)
    assert asked == [1]
    asked.clear()
    flush_both(engine, theirs, 1)
    assert asked == []
