"""Address spaces in native memory do what the machine's dictionaries do."""

import random
from collections.abc import Iterator

import pytest

from vtx.engine.choice import make_engine, native_problem
from vtx.machine.bus import Bus
from vtx.machine.cpu import Cpu
from vtx.machine.memory import PhysicalMemory
from vtx.machine.tlb import PRIVILEGES, AddressSpace, Tlb

PAGES = [0, 1, 255, 256, 257, 0x1000, 0x1100, 0xF_FFFF_FFFF, 0xF_FFFF_FFFF_FFFF]


@pytest.fixture(scope="module")
def native_tlb() -> Iterator[Tlb]:
    if native_problem() is not None:
        pytest.skip(f"no native engine here: {native_problem()}")
    cpu = Cpu(Bus(PhysicalMemory(1 << 20)))
    engine = make_engine("native", cpu, frozenset())
    yield cpu.tlb
    del engine


def content(space: AddressSpace) -> list[dict[int, int]]:
    return [dict(pages) for pages in (*space.reads, *space.writes, *space.fetch)]


def act(space: AddressSpace, rng: random.Random, pages: list[int]) -> None:
    """One thing that happens to an address space, the same for equal generators."""
    page, n = rng.choice(pages), rng.randrange(len(PRIVILEGES))
    match rng.randrange(12):
        case 0:
            space.forget_page(page << 12 | rng.randrange(4096))
        case 1 if rng.random() < 0.1:
            space.forget_all()
        case 2 if rng.random() < 0.3:
            space.forget_local()
        case 3:
            space.reads[n].pop(page, None)
        case 4 | 5 | 6:
            space.reads[n][page] = rng.randrange(256) << 12
        case 7:
            if page not in space.global_pages:
                space.global_pages.add(page)
                space.fetch[n][page] = rng.randrange(256) << 12
        case _:
            space.writes[n][page] = rng.randrange(256) << 12


@pytest.mark.parametrize("seed", range(6))
def test_a_space_is_what_a_space_of_dictionaries_is(native_tlb: Tlb, seed: int) -> None:
    ours, theirs = native_tlb.new_space(), AddressSpace()
    one, other = random.Random(seed), random.Random(seed)
    for step in range(400):
        act(ours, one, PAGES)
        act(theirs, other, PAGES)
        # Data translations that are not known to be global go; the others are a matter of flags.
        if step % 20 == 0:
            assert content(ours)[8:] == content(theirs)[8:]
    assert ours.global_pages == theirs.global_pages


def test_it_forgets_nothing_however_much_there_is(native_tlb: Tlb) -> None:
    space = native_tlb.new_space()
    pages = {page: (page * 7 & 0xFF) << 12 for page in range(0, 9000, 3)}
    for page, host in pages.items():
        space.reads[1][page] = host
    assert dict(space.reads[1]) == pages
    assert not any(space.reads[n] for n in (0, 2, 3))
    assert not any(space.writes)


def test_reading_and_writing_are_forgotten_together_by_page(native_tlb: Tlb) -> None:
    space = native_tlb.new_space()
    for n in range(len(PRIVILEGES)):
        space.reads[n][5] = space.writes[n][5] = 0x3000
        space.reads[n][5 + 256] = 0x4000
    space.forget_page(0x5FFF)
    assert not any(5 in pages for pages in space.maps())
    assert all(pages[5 + 256] == 0x4000 for pages in space.reads)


def test_a_protected_page_loses_the_right_to_be_written_in_every_space(native_tlb: Tlb) -> None:
    native_tlb.switch((0, 1, 0))
    native_tlb.space.writes[1][9] = 0x7000
    native_tlb.space.reads[1][9] = 0x7000
    native_tlb.switch((0, 2, 0))
    native_tlb.space.writes[0][0x99] = 0x7000
    native_tlb.space.writes[0][0x98] = 0x8000
    native_tlb.protect(0x7000)
    assert (dict(native_tlb.space.writes[0])) == {0x98: 0x8000}
    native_tlb.switch((0, 1, 0))
    assert not native_tlb.space.writes[1]
    assert dict(native_tlb.space.reads[1]) == {9: 0x7000}
