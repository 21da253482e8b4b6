"""Our own answer to a case, on any engine."""

from oracle_case import MEMORY_SIZE, REGIONS, Case, Outcome

from tests.vtx.engines import OneByOne
from vtx.engine.translate import translate_bytes
from vtx.isa.features import ADVERTISED_AS
from vtx.isa.key import current_key
from vtx.isa.layout import GPR_NAMES
from vtx.isa.program import verify
from vtx.machine.bus import Bus
from vtx.machine.cpu import FAULT, OK, Cpu
from vtx.machine.memory import PhysicalMemory

FEATURES = frozenset(ADVERTISED_AS.values())
FS_BASE = 0x40


class Ours:
    """A bare CPU, paging off: flat segments in 64- and 32-bit mode, real mode for 16 bits."""

    def __init__(
        self, bits: int, *, engine: str = "reference", cpl: int = 0, fs_base: int = FS_BASE
    ) -> None:
        self.bits = bits
        self.cpu = cpu = Cpu(Bus(PhysicalMemory(MEMORY_SIZE)))
        state = cpu.state
        state.write("cr0", 0x11)
        code, data = 0xC09B | cpl << 5, 0xC093 | cpl << 5
        if bits == 64:
            state.write("efer", 0x500)
            code = 0xA09B | cpl << 5
        limit = 0xFFFF_FFFF
        if bits == 16:
            state.write("cr0", 0x10)
            code, data, limit = 0x9B, 0x93, 0xFFFF
        state.write_segment("cs", 8 | cpl, 0, limit, code)
        for segment in ("ss", "ds", "es", "fs", "gs"):
            state.write_segment(segment, 16 | cpl, 0, limit, data)
        state.write("fs_base", fs_base if bits == 64 else 0)
        self.one = OneByOne(engine, cpu, FEATURES)
        self._clean = state.save()
        self._verified: set[bytes] = set()

    def _verify(self, code: bytes) -> None:
        """The bytes are one instruction, with a legal program."""
        if code not in self._verified:
            one = translate_bytes(code, current_key(self.cpu.words), FEATURES)
            assert one is not None and one.length == len(code), code.hex()
            verify(one.program)
            self._verified.add(code)

    def run(self, case: Case, *, to_the_end: bool = False) -> Outcome:
        """One instruction; with `to_the_end` every iteration of a repeated one."""
        cpu, state = self.cpu, self.cpu.state
        state.restore(self._clean)
        for name, value in zip(GPR_NAMES, case.gprs, strict=False):
            state.write(name, value)
        state.rflags = case.flags | 2
        state.write("rip", case.ip)
        for base, _ in REGIONS:
            content = case.region(base)
            cpu.memory[base : base + len(content)] = content
        self._verify(case.code)
        status = self.one.run(case.code)
        while to_the_end and status == OK and state.read("rip") == case.ip:
            status = self.one.run(case.code)
        if status != OK:
            assert status == FAULT, f"{case.form} ended with status {status}"
            return Outcome(state.read("fault_vector"))
        count = 16 if self.bits == 64 else 8
        return Outcome(
            None,
            tuple(state.read(name) for name in GPR_NAMES[:count]),
            state.rflags,
            state.read("rip"),
            tuple(bytes(cpu.memory[base : base + size]) for base, size in REGIONS),
        )
