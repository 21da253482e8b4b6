"""Routines of the algebra as native functions give what the reference's give, on any state."""

import random

import pytest

from vtx.engine.choice import make_engine, native_problem
from vtx.engine.reference import Reference
from vtx.isa.layout import SLOT_NAMES
from vtx.isa.program import Flush
from vtx.machine.bus import Bus
from vtx.machine.cpu import Cpu
from vtx.machine.memory import PhysicalMemory

MEMORY = 64 << 10
TABLES, IDT, GDT, TSS, VMCS = 0x2000, 0x8000, 0x9000, 0xA000, 0xB000


class Pair:
    """Two CPUs with equal states and memories, on two engines."""

    def __init__(self) -> None:
        self.engines = [self._engine("reference"), self._engine("native")]

    @staticmethod
    def _engine(name: str) -> Reference:
        return make_engine(name, Cpu(Bus(PhysicalMemory(MEMORY))), frozenset())

    def fill(self, slots: dict[str, int], memory: bytes) -> None:
        for engine in self.engines:
            cpu = engine.cpu
            for name in SLOT_NAMES:
                cpu.state.write(name, slots.get(name, 0))
            cpu.bus.write_bytes(0, memory)
            cpu.tlb.flush()
            cpu.switch_context()

    def agree(self, routine: str, *args: int) -> tuple[int, ...] | None:
        """Call the routine on both; what it gave."""
        ends = []
        for engine in self.engines:
            result = engine.call(routine, *args)
            cpu = engine.cpu
            status = cpu.status if result is None else 0
            ends.append((result, status, cpu.state.as_dict(), bytes(cpu.memory[:MEMORY])))
        for name, value in ends[0][2].items():
            assert ends[1][2][name] == value, name
        assert ends[0] == ends[1]
        return ends[0][0]


@pytest.fixture(scope="module")
def pair() -> Pair:
    if native_problem() is not None:
        pytest.skip(f"no native engine here: {native_problem()}")
    return Pair()


def entry(rng: random.Random, target: int) -> int:
    """A paging-structure entry, mostly a good one."""
    value = target | 7
    for _ in range(rng.choice((0, 0, 0, 1, 2))):
        value ^= 1 << rng.choice((0, 1, 2, 5, 6, 7, 8, 50, 63))
    return value


def tables(rng: random.Random) -> bytes:
    """Paging structures that lead from every entry of one to the next, and random bytes."""
    memory = bytearray(rng.randbytes(MEMORY))
    for level in range(4):
        for n in range(512):
            at = TABLES + 0x1000 * level + 8 * n
            target = TABLES + 0x1000 * (level + 1) if level < 3 else rng.randrange(16) << 12
            memory[at : at + 8] = entry(rng, target).to_bytes(8, "little")
    return bytes(memory)


def mode(rng: random.Random) -> dict[str, int]:
    long = rng.random() < 0.6
    cr4 = (1 << 5 if long or rng.random() < 0.5 else 0) | rng.choice((0, 1 << 7))
    cr4 |= rng.choice((0, 1 << 4)) | rng.choice((0, 1 << 20)) | rng.choice((0, 1 << 21))
    return {
        "cr0": 1 | (0x8000_0000 if long or rng.random() < 0.8 else 0) | rng.choice((0, 1 << 16)),
        "cr3": TABLES, "cr4": cr4, "efer": (0x500 if long else 0) | rng.choice((0, 1 << 11)),
        "rflags": 2 | rng.choice((0, 0x200)), "cs_ar": 0xA09B if long else 0xC09B,
        "ss_ar": 0xC093, "cs_limit": 0xFFFF_FFFF, "ss_limit": 0xFFFF_FFFF, "cs_sel": 8,
        "ss_sel": 16, "rsp": 0x5000 + rng.randrange(4096), "rip": rng.randrange(MEMORY),
        "idtr_base": IDT, "idtr_limit": rng.choice((0xFFF, 0xFFF, 0x40)), "gdtr_base": GDT,
        "gdtr_limit": 0xFF, "tr_base": TSS, "tr_limit": 0x67, "tr_ar": 0x8B,
        **{f"pdpte{n}": entry(rng, TABLES + 0x2000) & ~0xE6 for n in range(4)},
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_translate(pair: Pair, seed: int) -> None:
    rng, found = random.Random(seed), 0
    for _ in range(12):
        memory = tables(rng)
        for _ in range(8):
            pair.fill(mode(rng), memory)
            gva = rng.choice((rng.randrange(1 << 32), rng.getrandbits(47), rng.getrandbits(64)))
            found += pair.agree("translate", gva, rng.randrange(64)) is not None
    assert 5 < found < 90


def test_translate_through_extended_page_tables(pair: Pair) -> None:
    rng, found = random.Random(9), 0
    for _ in range(250):
        slots = mode(rng) | {"vmx": 2, "proc_controls": 1 << 31, "proc2_controls": 2}
        slots["eptp"] = TABLES | 0x1E | rng.choice((0, 1 << 6))
        pair.fill(slots, tables(rng))
        found += pair.agree("translate", rng.getrandbits(47), rng.randrange(64)) is not None
    assert found > 3


def with_gates(rng: random.Random, memory: bytes, long: bool) -> bytes:
    """Gates and segments that are mostly good, in tables that are mapped one to one."""
    changed = bytearray(memory)
    for n in range(16):
        changed[TABLES + 0x3000 + 8 * n : TABLES + 0x3008 + 8 * n] = (
            (n << 12 | 0x67).to_bytes(8, "little")
        )  # fmt: skip
    for level in range(3):
        at = TABLES + 0x1000 * level
        changed[at : at + 8] = (at + 0x1000 | 0x67).to_bytes(8, "little")
    for vector in range(256 if long else 512):
        kind = rng.choice((0x8E, 0x8E, 0x8F, 0xEE, 0x0E, 0x85))
        gate = rng.randrange(1 << 16) | 8 << 16 | kind << 40
        step = 16 if long else 8
        at = IDT + step * vector
        changed[at : at + step] = gate.to_bytes(step, "little")
    code = 0x00AF_9B00_0000_FFFF if long else 0x00CF_9B00_0000_FFFF
    changed[GDT + 8 : GDT + 24] = code.to_bytes(8, "little") + (
        0x00CF_9300_0000_FFFF.to_bytes(8, "little")
    )  # fmt: skip
    return bytes(changed)


@pytest.mark.parametrize("routine", ["deliver_fault", "deliver_software_event", "deliver_event"])
def test_deliveries(pair: Pair, routine: str) -> None:
    rng, delivered = random.Random(routine), 0
    for _ in range(80):
        slots = mode(rng)
        slots |= {
            "fault_vector": rng.choice((0, 6, 8, 13, 14)), "fault_error": rng.randrange(1 << 16),
            "fault_has_error": rng.randrange(2), "fault_cr2": rng.getrandbits(40),
            "event_vector": rng.randrange(256), "event_type": rng.choice((0, 3, 4, 6)),
            "event_valid": rng.randrange(2), "event_length": rng.randrange(1, 4),
            "event_error": rng.randrange(1 << 16), "event_has_error": rng.randrange(2),
            "retired": 1000,
        }  # fmt: skip
        pair.fill(slots, with_gates(rng, tables(rng), bool(slots["efer"] & 0x400)))
        delivered += pair.agree(routine) is not None
    assert delivered > 5


def test_vm_exit(pair: Pair) -> None:
    rng = random.Random(5)
    for _ in range(30):
        slots = mode(rng) | {
            "vmx": 2, "vmcs_pointer": VMCS, "exit_reason": rng.choice((0, 10, 12, 28, 48)),
            "exit_qualification": rng.getrandbits(32), "exit_length": 2, "retired": 77,
            "exit_controls": rng.getrandbits(24), "entry_controls": 1 << 9,
            "proc_controls": rng.choice((0, 1 << 31)), "proc2_controls": rng.choice((0, 1 << 5)),
            "vpid": 7, "event_valid": rng.randrange(2), "resume_flag": rng.randrange(2),
        }  # fmt: skip
        memory = bytearray(with_gates(rng, tables(rng), True))
        memory[VMCS : VMCS + 0x1000] = bytes(
            b if rng.random() < 0.9 else 0 for b in memory[VMCS : VMCS + 0x1000]
        )
        pair.fill(slots, bytes(memory))
        pair.agree("vm_exit")


class TestFlushes:
    """What INVVPID and INVEPT forget, seen by the translations that stay."""

    SPACES = ((1, 0, 0x2000), (1, 3, 0x2000), (2, 0, 0x2000), (0, 0, 0), (2, 0, 0x3000))
    FLUSHES = (
        (Flush.VPID_PAGE, 1, 0x5123), (Flush.VPID, 2, 0), (Flush.VPID_LOCAL, 1, 0),
        (Flush.ALL_VPIDS, 0, 0), (Flush.EPT, 0x201E, 0), (Flush.ALL_EPT, 0, 0),
        (Flush.LOCAL, 0, 0), (Flush.PAGE, 0x5FFF, 0), (Flush.PCID_LOCAL, 0, 0),
        (Flush.ALL, 0, 0),
    )  # fmt: skip

    @pytest.mark.parametrize("flush", FLUSHES, ids=lambda flush: Flush(flush[0]).name)
    def test_both_engines_keep_the_same_translations(
        self, pair: Pair, flush: tuple[int, int, int]
    ) -> None:
        left = []
        for engine in pair.engines:
            tlb = engine.cpu.tlb
            for tag in self.SPACES:
                tlb.switch(tag)
                tlb.space.global_pages.add(6)
                for page in (5, 6, 5 + 256):
                    tlb.space.reads[1][page] = tlb.space.fetch[0][page] = 0x7000
                    tlb.space.writes[2][page] = 0x8000
            tlb.switch((0, 0, 0))
            engine.cpu.flush(*flush)
            found = []
            for tag in self.SPACES:
                tlb.switch(tag)
                found.append([dict(pages) for pages in tlb.space.maps()])
            tlb.flush()
            tlb.switch((0, 0, 0))
            engine.cpu.switch_context()
            left.append(found)
        assert left[0] == left[1]
        everything = {5: 0x7000, 6: 0x7000, 5 + 256: 0x7000}
        assert any(maps[1] != everything for maps in left[1])
