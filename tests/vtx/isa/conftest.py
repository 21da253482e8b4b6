"""A bare CPU with descriptor tables, handlers and page tables, for tests of system instructions.

Every exception and interrupt handler is one HLT, so where a run ends tells which vector came.
"""

from functools import cache

import pytest

import asm
from tests.vtx.engines import ENGINES, OneByOne
from vtx.engine.choice import make_engine
from vtx.engine.run import Ended, Runner
from vtx.isa.key import current_key
from vtx.isa.program import Service
from vtx.machine.built import features_of
from vtx.machine.bus import Bus
from vtx.machine.cpu import EXIT, FAULT, OK, SOFTWARE_EVENT, Cpu
from vtx.machine.loader.elf import read_elf
from vtx.machine.memory import PhysicalMemory
from vtx.machine.reset import reset_cpu

GDT, IDT, TSS, HANDLERS, TABLES, CODE = 0x1000, 0x2000, 0x3000, 0x5000, 0x8000, 0x10000
STACK, INNER_STACK, IST_STACK, USER_STACK = 0x20000, 0x30000, 0x38000, 0x28000
ABSENT = 0x40_0000
"""A page that is not mapped."""

KERNEL_CODE, KERNEL_DATA, KERNEL_CODE32 = 0x08, 0x10, 0x18
USER_CODE32, USER_DATA, USER_CODE, TSS_SELECTOR = 0x23, 0x2B, 0x33, 0x38
NOT_PRESENT, CONFORMING, GATE, LDT_SELECTOR, TSS32_SELECTOR = 0x48, 0x50, 0x58, 0x68, 0x78
READ_ONLY, SMALL = 0x80, 0x88

_DELIVERY = {FAULT: "deliver_fault", SOFTWARE_EVENT: "deliver_software_event"}
_CODE64, _CODE32, _DATA = 0xA09A, 0xC09A, 0xC092


@cache
def code_bytes(source: str, bits: int) -> bytes:
    """The machine code of a few instructions, as it stands at CODE."""
    text = f".intel_syntax noprefix\n.code{bits}\n_start:\n{source}\n"
    image = read_elf(asm.assemble(text, name="test.s", elf_class=64, base=CODE).elf(), "test")
    return next(
        bytes(s.data[CODE - s.paddr :])
        for s in image.segments
        if s.paddr <= CODE < s.paddr + len(s.data)
    )


def descriptor(base: int, limit: int, rights: int) -> int:
    """A segment descriptor; `rights` in the format of the VMCS (G, D, L above the type)."""
    low = limit & 0xFFFF | (base & 0xFF_FFFF) << 16 | (rights & 0xFF) << 40
    return low | (limit >> 16 & 0xF) << 48 | (rights >> 12 & 0xF) << 52 | (base >> 24) << 56


def gate(selector: int, target: int, kind: int, dpl: int = 0, present: bool = True, low5: int = 0):
    rights = kind | dpl << 5 | present << 7
    low = target & 0xFFFF | selector << 16 | low5 << 32 | rights << 40
    return low | (target >> 16 & 0xFFFF) << 48


class Bench:
    """One CPU and its surroundings."""

    def __init__(self, mode: str, engine: str) -> None:
        self.cpu = Cpu(Bus(PhysicalMemory(1 << 20)))
        self.state = self.cpu.state
        self.features = features_of("haswell", hide_vmx=True)
        reset_cpu(self.cpu, self.features, "haswell")
        self.bits = {"long": 64, "protected": 32, "real": 16}[mode]
        self.ports: list[tuple[object, ...]] = []
        self.flushes: list[tuple[int, ...]] = []
        self._offer_services()
        self._write_tables(mode)
        getattr(self, f"_enter_{mode}")()
        self.cpu.switch_context()
        self.engine = make_engine(engine, self.cpu, self.features)
        self.runner = Runner(self.engine)
        self._name = engine

    def _offer_services(self) -> None:
        services = self.cpu.services
        flush = services[Service.FLUSH_TLB]
        services[Service.PORT_IN] = lambda port, size: 0x11223344 & ((1 << 8 * size) - 1)
        services[Service.PORT_OUT] = lambda *a: self.ports.append(a)
        services[Service.CPUID] = lambda leaf, sub: (leaf, sub, 3, 4)
        services[Service.TPR_READ] = lambda: 7
        services[Service.TPR_WRITE] = lambda value: self.ports.append(("tpr", value))
        services[Service.RANDOM] = lambda: 0x1234_5678_9ABC_DEF0
        services[Service.TSC_WRITTEN] = lambda: None

        def record(*args: int) -> None:
            self.flushes.append(args)
            flush(*args)

        services[Service.FLUSH_TLB] = record

    # --- memory ------------------------------------------------------------------------------
    def write(self, place: int, value: int, size: int = 8) -> None:
        self.cpu.bus.write_bytes(place, value.to_bytes(size, "little"))

    def read(self, place: int, size: int = 8) -> int:
        return int.from_bytes(self.cpu.memory[place : place + size], "little")

    def _write_tables(self, mode: str) -> None:
        long = mode == "long"
        code, data = (_CODE64 if long else _CODE32), _DATA
        flat = 0xF_FFFF
        rows = {
            KERNEL_CODE: descriptor(0, flat, code), KERNEL_DATA: descriptor(0, flat, data),
            KERNEL_CODE32: descriptor(0, flat, _CODE32),
            USER_CODE32 & ~7: descriptor(0, flat, _CODE32 | 0x60),
            USER_DATA & ~7: descriptor(0, flat, data | 0x60),
            USER_CODE & ~7: descriptor(0, flat, code | 0x60),
            TSS_SELECTOR: descriptor(TSS, 0x67 if not long else 0x80, 0x89),
            NOT_PRESENT: descriptor(0, flat, data & ~0x80),
            CONFORMING: descriptor(0, flat, (code | 4)),
            LDT_SELECTOR: descriptor(0x4000, 0xFFF, 0x82),
            TSS32_SELECTOR: descriptor(0x4800, 0x67, 0x89),
            READ_ONLY: descriptor(0, flat, 0xC090),
            SMALL: descriptor(0x1_0000, 0x0FFF, 0x4092),
        }  # fmt: skip
        for selector, value in rows.items():
            self.write(GDT + selector, value)
        for vector in range(256):
            handler = HANDLERS + 16 * vector
            self.cpu.bus.write_bytes(handler, b"\xf4")
            dpl = 3 if vector in (3, 4, 0x80) else 0
            kind = 14 if vector != 0x81 else 15
            if long:
                self.write(IDT + 16 * vector, gate(KERNEL_CODE, handler, kind, dpl))
            elif mode == "protected":
                self.write(IDT + 8 * vector, gate(KERNEL_CODE, handler, kind, dpl))
        self.write(TABLES, TABLES + 0x1007)
        self.write(TABLES + 0x1000, TABLES + 0x2007)
        self.write(TABLES + 0x2000, 0x87)  # the first 2 MiB, for everybody
        if long:
            self.write(TSS + 4, INNER_STACK)
            self.write(TSS + 0x24, IST_STACK)
        else:
            self.write(TSS + 4, INNER_STACK, 4)
            self.write(TSS + 8, KERNEL_DATA, 2)

    # --- modes -------------------------------------------------------------------------------
    def _tables(self) -> None:
        self.state.write("gdtr_base", GDT)
        self.state.write("gdtr_limit", 0x8F)
        self.state.write("idtr_base", IDT)
        self.state.write("idtr_limit", 0xFFF if self.bits == 64 else 0x7FF)
        self.state.write("rsp", STACK)
        self.state.write("rip", CODE)
        self.state.write_segment("tr", TSS_SELECTOR, TSS, 0x80, 0x8B)
        self.state.write_segment("ldtr", 0, 0, 0, 0x10082)

    def _enter_long(self) -> None:
        for name, value in (("cr0", 0x8001_0031), ("cr3", TABLES), ("cr4", 0x20),
                            ("efer", 0xD01)):  # fmt: skip
            self.state.write(name, value)
        self.state.write_segment("cs", KERNEL_CODE, 0, 0xFFFF_FFFF, 0xA09B)
        for name in ("ss", "ds", "es", "fs", "gs"):
            self.state.write_segment(name, KERNEL_DATA, 0, 0xFFFF_FFFF, 0xC093)
        self._tables()

    def _enter_protected(self) -> None:
        self.state.write("cr0", 0x11)
        self.state.write_segment("cs", KERNEL_CODE, 0, 0xFFFF_FFFF, 0xC09B)
        for name in ("ss", "ds", "es", "fs", "gs"):
            self.state.write_segment(name, KERNEL_DATA, 0, 0xFFFF_FFFF, 0xC093)
        self._tables()

    def _enter_real(self) -> None:
        self.state.write("cr0", 0x10)
        self.state.write_segment("cs", CODE >> 4, CODE, 0xFFFF, 0x9B)
        for name in ("ss", "ds", "es", "fs", "gs"):
            self.state.write_segment(name, 0, 0, 0xFFFF, 0x93)
        self._tables()
        self.state.write("rip", 0)
        self.state.write("rsp", 0x8000)
        self.state.write("idtr_base", 0)
        self.state.write("idtr_limit", 0x3FF)
        for vector in range(256):
            self.write(4 * vector, (HANDLERS >> 4) << 16 | 16 * vector, 4)

    def user(self) -> None:
        """Go on at CPL 3."""
        code = 0xA0FB if self.bits == 64 else 0xC0FB
        self.state.write_segment("cs", USER_CODE, 0, 0xFFFF_FFFF, code)
        self.state.write_segment("ss", USER_DATA, 0, 0xFFFF_FFFF, 0xC0F3)
        for name in ("ds", "es", "fs", "gs"):
            self.state.write_segment(name, USER_DATA, 0, 0xFFFF_FFFF, 0xC0F3)
        self.state.write("rsp", USER_STACK)

    # --- running -----------------------------------------------------------------------------
    def load(self, source: str, place: int = CODE, bits: int = 0) -> None:
        self.cpu.bus.write_bytes(place, code_bytes(source, bits or self.bits))

    def run(self, source: str, *, bits: int = 0, most: int = 60) -> Ended:
        """Run instructions until the CPU halts, shuts down, or has done `most` of them."""
        self.load(source, CODE, bits)
        self.engine.forget_blocks()
        self.engine.key = current_key(self.cpu.words)
        return self.runner.run(self.cpu.now() + most)

    def exits(self, source: str) -> bool:
        """Whether the instruction at CODE, or the event it raises, ends in a VM exit."""
        self["rip"] = CODE
        one = OneByOne(self._name, self.cpu, self.features, self.engine)
        status = one.run(code_bytes(source, self.bits) + bytes(15))
        while status in _DELIVERY:
            done = self.engine.call(_DELIVERY[status])
            status = self.cpu.status if done is None else OK
        return status == EXIT

    @property
    def vector(self) -> int | None:
        """Vector of the handler that was entered (and halted, if it may)."""
        place = self["rip"] + self["cs_base"] - HANDLERS
        return place // 16 if 0 <= place < 4096 and place % 16 <= 1 else None

    def frame(self, index: int) -> int:
        """Element of the handler's frame, 0 at the top of the stack."""
        size = self.bits // 8
        return self.read(self.state.read("rsp") + self.state.read("ss_base") + size * index, size)

    def fault(self, source: str, **options: int) -> tuple[int | None, int]:
        """Vector and error code that running `source` raises."""
        self.run(source, **options)
        return self.vector, self.frame(0)

    def __getitem__(self, slot: str) -> int:
        return self.state.read(slot)

    def __setitem__(self, slot: str, value: int) -> None:
        self.state.write(slot, value)


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Which engine runs the test."""
    return str(request.param)


@pytest.fixture
def long(engine: str) -> Bench:
    """64-bit mode at CPL 0, 4-level paging."""
    return Bench("long", engine)


@pytest.fixture
def protected(engine: str) -> Bench:
    """32-bit protected mode at CPL 0, paging off."""
    return Bench("protected", engine)


@pytest.fixture
def real(engine: str) -> Bench:
    """Real-address mode."""
    return Bench("real", engine)
