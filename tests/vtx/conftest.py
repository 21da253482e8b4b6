"""A bare CPU on which a test runs single instructions, on every engine."""

from collections.abc import Callable

import pytest

from tests.vtx.engines import ENGINES, OneByOne
from vtx.isa.features import ADVERTISED_AS
from vtx.machine.bus import Bus
from vtx.machine.cpu import FAULT, OK, Cpu
from vtx.machine.memory import PhysicalMemory

_CODE_RIGHTS = {64: 0xA09B, 32: 0xC09B, 16: 0x809B}


class BareCpu:
    """One CPU, paging off, flat segments unless a test changes them."""

    def __init__(self, engine: str, bits: int, cpl: int, features: frozenset[str]) -> None:
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
        self._one = OneByOne(engine, self.cpu, features)

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
        status = self._one.run(bytes.fromhex(code) + bytes(15))
        assert status in (OK, FAULT)
        return self.state.read("fault_vector") if status == FAULT else None


@pytest.fixture(params=ENGINES)
def bench(request: pytest.FixtureRequest) -> Callable[..., BareCpu]:
    """Make a CPU: bench(bits=64, cpl=0, features=...)."""

    def make(
        bits: int = 64, cpl: int = 0, features: frozenset[str] = frozenset(ADVERTISED_AS.values())
    ) -> BareCpu:
        return BareCpu(request.param, bits, cpl, features)

    return make
