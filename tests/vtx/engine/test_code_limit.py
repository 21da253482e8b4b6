"""Instructions at the limit of CS: every byte of one has to lie within it."""

from __future__ import annotations

import pytest

from tests.vtx.engines import EVERY_ENGINE
from vtx.engine.choice import make_engine
from vtx.engine.reference import Reference
from vtx.machine.bus import Bus
from vtx.machine.cpu import Cpu
from vtx.machine.memory import PhysicalMemory

BASE = 0x1_0000
HANDLER, STACK = 0x600, 0x800
MOV = b"\xb8\x34\x12"
"""MOV AX, 0x1234 in 16-bit code."""
LOCK_NOP = b"\xf0\x90"
NOP = b"\x90"
UNDEFINED, PROTECTION = 6, 13


def at(code: bytes, ip: int, *, limit: int, engine: str, base: int = BASE) -> Reference:
    """A CPU in real mode with `code` at CS:`ip`, and a handler at HANDLER + 16 * vector."""
    cpu = Cpu(Bus(PhysicalMemory(1 << 20)))
    cpu.state.write("cr0", 0)
    cpu.state.write("idtr_base", 0)
    cpu.state.write("idtr_limit", 0x3FF)
    cpu.state.write_segment("cs", base >> 4, base, limit, 0x93)
    for name in ("ds", "es", "ss"):
        cpu.state.write_segment(name, 0, 0, 0xFFFF, 0x93)
    cpu.state.write("rsp", STACK)
    cpu.state.write("rip", ip)
    cpu.state.write("rflags", 2)
    for vector in (UNDEFINED, PROTECTION):
        cpu.bus.write_bytes(vector * 4, (HANDLER + 16 * vector).to_bytes(4, "little"))
        cpu.bus.write_bytes(HANDLER + 16 * vector, NOP * 16)
    cpu.bus.write_bytes(base + ip, code)
    cpu.switch_context()
    return make_engine(engine, cpu, frozenset())


def step(executor: Reference) -> int | None:
    """Run one block; the vector of what it raised, and the saved IP must be the faulting one's."""
    state = executor.cpu.state
    before = state.read("rip")
    executor.run_block(1)
    ip = state.read("rip")
    if not HANDLER <= ip < HANDLER + 256:
        return None
    saved = executor.cpu.bus.read_bytes(STACK - 6, 2)
    assert int.from_bytes(saved, "little") == before & 0xFFFF
    return (ip - HANDLER) // 16


@EVERY_ENGINE
@pytest.mark.parametrize("ip", [0x2000, 0x2FFE, 0x2FFF])
def test_an_instruction_needs_all_its_bytes_within_the_limit(engine: str, ip: int) -> None:
    for limit, expected in ((2, None), (1, PROTECTION), (0, PROTECTION), (-1, PROTECTION)):
        executor = at(MOV, ip, limit=ip + limit, engine=engine)
        assert step(executor) == expected
        assert executor.cpu.state.read("rax") == (0x1234 if expected is None else 0)
        assert executor.cpu.state.read("retired") == (expected is None)


@EVERY_ENGINE
def test_the_same_bytes_are_looked_at_again_under_another_limit(engine: str) -> None:
    executor = at(MOV, 0x2000, limit=0xFFFF, engine=engine)
    found = []
    for limit in (0x2002, 0x2001, 0x2002):
        executor.cpu.state.write_segment("cs", BASE >> 4, BASE, limit, 0x93)
        executor.cpu.state.write("rip", 0x2000)
        executor.cpu.state.write("rsp", STACK)
        executor.settle(0)
        found.append(step(executor))
    assert found == [None, PROTECTION, None]


@EVERY_ENGINE
def test_a_block_stops_before_the_instruction_that_the_limit_cuts(engine: str) -> None:
    executor = at(NOP * 3 + MOV, 0x2000, limit=0x2004, engine=engine)
    while executor.cpu.state.read("rip") >= 0x2000:
        executor.run_block(100)
    assert executor.cpu.state.read("retired") == 3
    saved = executor.cpu.bus.read_bytes(STACK - 6, 2)
    assert int.from_bytes(saved, "little") == 0x2003
    assert executor.cpu.state.read("rax") == 0


@EVERY_ENGINE
def test_an_instruction_does_not_wrap_at_64_kibibytes(engine: str) -> None:
    assert step(at(MOV, 0xFFFD, limit=0xFFFF, engine=engine)) is None
    for ip in (0xFFFE, 0xFFFF):
        assert step(at(MOV, ip, limit=0xFFFF, engine=engine)) == PROTECTION


@EVERY_ENGINE
def test_what_is_invalid_without_the_bytes_behind_the_limit_is_undefined(engine: str) -> None:
    # F0 90 is no instruction whatever follows; F0 alone could be the start of one.
    for ip in (0x2000, 0x2FFF):
        assert step(at(LOCK_NOP, ip, limit=ip + 1, engine=engine)) == UNDEFINED
        assert step(at(LOCK_NOP, ip, limit=ip, engine=engine)) == PROTECTION


@EVERY_ENGINE
def test_prefixes_up_to_the_limit_are_a_protection_fault(engine: str) -> None:
    assert step(at(b"\x66" * 20, 0x2000, limit=0x2005, engine=engine)) == PROTECTION
    assert step(at(b"\x66" * 20, 0x2FFC, limit=0x3001, engine=engine)) == PROTECTION
