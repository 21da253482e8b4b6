"""Probes of an executor: where blocks are cut, and what is reported."""

from __future__ import annotations

import pytest

from tests.vtx.engines import ENGINES
from vtx.engine.choice import make_engine
from vtx.engine.probes import Hit, Probes, linear_address
from vtx.engine.reference import Reference
from vtx.machine.bus import Bus
from vtx.machine.cpu import FAULT, OK, Cpu
from vtx.machine.memory import PhysicalMemory

CODE = 0x2000
INC = b"\xff\xc0"
CODE32, CS_BASE = 0xC09B, 0x1000


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Reference:
    """A CPU in unpaged 32-bit code with a based CS and eight INC EAX to run."""
    cpu = Cpu(Bus(PhysicalMemory(1 << 16)))
    cpu.state.write("cr0", 1)
    cpu.state.write("cr3", 0x7000)
    cpu.state.write_segment("cs", 8, CS_BASE, 0xFFFF_FFFF, CODE32)
    for name in ("ds", "es", "ss"):
        cpu.state.write_segment(name, 16, 0, 0xFFFF_FFFF, 0xC093)
    cpu.state.write("rip", CODE - CS_BASE)
    cpu.bus.write_bytes(CODE, INC * 8)
    cpu.switch_context()
    return make_engine(request.param, cpu, frozenset())


def run_all(engine: Reference) -> None:
    while engine.cpu.state.read("retired") < 8:
        engine.run_block(8 - engine.cpu.state.read("retired"))


def test_a_hit_has_linear_address_rip_retired_and_cr3(engine: Reference) -> None:
    hits: list[Hit] = []
    engine.set_probes(Probes([CODE + 6], hits.append))
    run_all(engine)

    assert hits == [Hit(gva=CODE + 6, rip=CODE + 6 - CS_BASE, retired=3, cr3=0x7000)]
    assert engine.cpu.state.read("rax") == 8


def test_probes_can_be_changed_and_taken_away_between_blocks(engine: Reference) -> None:
    hits: list[Hit] = []
    for probed in ([CODE], [CODE + 2, CODE + 14], None):
        engine.set_probes(None if probed is None else Probes(probed, hits.append))
        engine.cpu.state.write("retired", 0)
        engine.cpu.state.write("rip", CODE - CS_BASE)
        run_all(engine)

    assert [hit.gva for hit in hits] == [CODE, CODE + 2, CODE + 14]


def test_a_place_between_two_instructions_is_never_hit(engine: Reference) -> None:
    hits: list[Hit] = []
    engine.set_probes(Probes([CODE + 5], hits.append))
    run_all(engine)

    assert hits == []
    assert engine.cpu.state.read("rax") == 8


def test_blocks_are_cut_wherever_a_page_may_show_a_probed_place() -> None:
    probes = Probes([0x1234], lambda hit: None)

    assert [probes.hits(gva) for gva in (0x1234, 0x5234, 0x1235)] == [True, False, False]
    assert [probes.cuts(gva) for gva in (0x1234, 0x5234, 0x1235)] == [True, True, False]


def test_what_did_not_retire_is_settled_and_not_reported(engine: Reference) -> None:
    cpu, hits, settled = engine.cpu, list[Hit](), list[int]()
    probes = Probes([linear_address(cpu)], hits.append)
    watched = probes.watched(cpu, lambda: FAULT, settled.append, repeats=False)

    assert watched() == OK
    assert (hits, settled) == ([], [FAULT])


def test_what_retires_by_being_settled_is_reported(engine: Reference) -> None:
    cpu, hits = engine.cpu, list[Hit]()
    probes = Probes([CODE], hits.append)

    def settle(status: int) -> None:  # as INT n retires with the delivery of its event
        cpu.state.write("retired", cpu.state.read("retired") + 1)

    watched = probes.watched(cpu, lambda: FAULT, settle, repeats=False)

    assert watched() == OK
    assert [(hit.gva, hit.retired) for hit in hits] == [(CODE, 0)]
