"""A bare CPU on which a test runs single instructions, with either reader of the algebra."""

from collections.abc import Callable

import pytest

from vtx.engine.evaluate import Evaluator
from vtx.engine.generate import Step, compile_block
from vtx.engine.namespace import Namespace
from vtx.engine.reference import Reference
from vtx.engine.translate import translate_bytes
from vtx.isa.features import ADVERTISED_AS
from vtx.isa.key import current_key
from vtx.machine.bus import Bus
from vtx.machine.cpu import FAULT, OK, Cpu
from vtx.machine.memory import PhysicalMemory

_CODE_RIGHTS = {64: 0xA09B, 32: 0xC09B, 16: 0x809B}


class BareCpu:
    """One CPU, paging off, flat segments unless a test changes them."""

    def __init__(self, quick: bool, bits: int, cpl: int, features: frozenset[str]) -> None:
        self.quick, self.features = quick, features
        self.cpu = Cpu(Bus(PhysicalMemory(1 << 20)))
        self.state = self.cpu.state
        self.state.write("cr0", 0x11)
        if bits == 64:
            self.state.write("efer", 0x500)
        self.state.write_segment("cs", 8, 0, 0xFFFF_FFFF, _CODE_RIGHTS[bits] | cpl << 5)
        data = (0x8093 if bits == 16 else 0xC093) | cpl << 5
        for name in ("ss", "ds", "es", "fs", "gs"):
            self.state.write_segment(name, 16, 0, 0xFFFF_FFFF, data)
        self.state.write("rip", 0x1000)
        self.state.write("rsp", 0x8000)
        Reference(self.cpu, features, quick=quick)  # gives the CPU its address translation

    def set(self, **words: int) -> "BareCpu":
        """Write state words by name; `flags` is all of RFLAGS."""
        for name, value in words.items():
            if name == "flags":
                self.state.rflags = value | 2
            else:
                self.state.write(name, value)
        return self

    def get(self, name: str) -> int:
        return self.state.rflags if name == "flags" else self.state.read(name)

    def poke(self, at: int, value: int, size: int = 8) -> "BareCpu":
        self.cpu.bus.write_bytes(at, (value & (1 << 8 * size) - 1).to_bytes(size, "little"))
        return self

    def peek(self, at: int, size: int = 8) -> int:
        return int.from_bytes(self.cpu.memory[at : at + size], "little")

    def run(self, code: str) -> int | None:
        """Execute one instruction given in hexadecimal; the vector where it faults."""
        key = current_key(self.cpu.words)
        one = translate_bytes(bytes.fromhex(code) + bytes(15), key, self.features)
        assert one is not None
        mask = 0xFFFF_FFFF_FFFF_FFFF if key.bits == 64 else 0xFFFF_FFFF
        if self.quick:
            names = Namespace(self.cpu)
            names.need(one.program.ops)
            step = Step(one.program, 0, one.length)
            status = names.block(compile_block([step], mask, "<one>"))()
        else:
            next_ip = (self.state.read("rip") + one.length) & mask
            status = Evaluator(self.cpu).instruction(one.program, next_ip)
        assert status in (OK, FAULT)
        return self.state.read("fault_vector") if status == FAULT else None


@pytest.fixture(params=[True, False], ids=["generated", "evaluated"])
def bench(request: pytest.FixtureRequest) -> Callable[..., BareCpu]:
    """Make a CPU: bench(bits=64, cpl=0, features=...)."""

    def make(
        bits: int = 64, cpl: int = 0, features: frozenset[str] = frozenset(ADVERTISED_AS.values())
    ) -> BareCpu:
        return BareCpu(request.param, bits, cpl, features)

    return make
