"""Who hears of a write to bytes that were translated."""

from vtx.machine.code_watch import CodeWatch, lines_of
from vtx.machine.tlb import Tlb

PAGE, OTHER = 0x5000, 0x6000


def test_lines_are_those_that_hold_the_bytes() -> None:
    assert lines_of(0, 0) == lines_of(0, 63) == 1
    assert lines_of(63, 64) == 3
    assert lines_of(4095, 4095) == 1 << 63
    assert lines_of(0, 4095) == (1 << 64) - 1


def test_an_owner_hears_once_of_a_write_to_its_bytes_and_of_no_other() -> None:
    watch, heard = CodeWatch(), list[int]()
    watch.watch(PAGE, heard.append, 100, 104)
    assert not watch.written(PAGE, 96, 99)
    assert not watch.written(PAGE, 105, 112)
    assert not watch.written(OTHER, 100, 104)
    assert watch.written(PAGE, 104, 107)
    assert not watch.written(PAGE, 104, 107)
    assert heard == [PAGE]


def test_a_page_is_watched_as_a_whole_unless_bytes_are_named() -> None:
    watch, heard = CodeWatch(), list[int]()
    watch.watch(PAGE, heard.append)
    assert watch.written(PAGE, 4095, 4095)
    watch.watch(PAGE, heard.append, 0, 3)
    assert watch.written(PAGE)
    assert heard == [PAGE, PAGE]


def test_every_owner_of_a_page_hears_of_a_write_to_the_bytes_of_one() -> None:
    watch, one, two = CodeWatch(), list[int](), list[int]()
    watch.watch(PAGE, one.append, 0, 3)
    watch.watch(PAGE, two.append, 64, 67)
    watch.watch(PAGE, one.append, 128, 131)
    assert watch.written(PAGE, 128, 128)
    assert (one, two) == ([PAGE], [PAGE])


def test_observers_learn_of_every_change_of_the_lines() -> None:
    watch, seen = CodeWatch(), list[tuple[int, int]]()
    watch.watch(PAGE, print, 0, 3)
    watch.observe(lambda page, lines: seen.append((page, lines)))
    watch.watch(PAGE, print, 60, 63)
    watch.watch(PAGE, print, 64, 67)
    watch.written(PAGE, 3, 3)
    assert seen == [(PAGE, 1), (PAGE, 3), (PAGE, 0)]


def test_a_page_that_comes_under_watch_is_written_with_notice() -> None:
    watch, tlb = CodeWatch(), Tlb()
    watch.add_tlb(tlb)
    tlb.space.writes[1][0x123] = PAGE
    tlb.space.writes[1][0x124] = OTHER
    watch.watch(PAGE, print, 0, 3)
    assert dict(tlb.space.writes[1]) == {0x124: OTHER}
    assert dict(tlb.space.guarded[1]) == {0x123: PAGE}
