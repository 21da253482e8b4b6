"""Executable memory is handed out in order, and never more than there is."""

import ctypes
import mmap
import platform

import pytest

from vtx.engine.native import arena
from vtx.engine.native.arena import Arena, ArenaError, ArenaFullError

X86_64 = platform.machine() == "x86_64"


@pytest.mark.skipif(not X86_64, reason="x86-64 code")
def test_what_is_written_runs() -> None:
    memory = Arena(4096)
    offset = memory.append(b"\x90")
    offset = memory.append(b"\x48\x8d\x47\x05\xc3")  # lea rax, [rdi + 5]; ret
    memory.flush(offset, 5)
    assert ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64)(memory.base + offset)(37) == 42


def test_base_is_where_the_view_begins() -> None:
    memory = Arena(100)
    memory.view[5] = 0xA5
    assert ctypes.c_uint8.from_address(memory.base + 5).value == 0xA5
    assert memory.size == len(memory.view) == mmap.PAGESIZE


def test_places_follow_each_other_at_their_alignment() -> None:
    memory = Arena(4096)
    assert [memory.append(b"abc"), memory.append(b"de", 1), memory.append(b"f")] == [0, 3, 16]
    assert (memory.used, memory.room) == (17, 4079)
    assert bytes(memory.view[:5]) == b"abcde"


def test_a_full_arena_refuses_and_stays_as_it_is() -> None:
    memory = Arena(4096)
    memory.allocate(4090)
    with pytest.raises(ArenaFullError, match="17 bytes"):
        memory.append(bytes(17), 1)
    with pytest.raises(ArenaFullError):
        memory.append(bytes(1))  # the alignment leaves nothing
    assert memory.append(bytes(6), 1) == 4090 and memory.room == 0


def test_going_back_hands_out_the_same_bytes_again() -> None:
    memory = Arena(4096)
    memory.append(b"keep")
    mark = memory.used
    memory.append(b"drop")
    memory.reset(mark)
    assert memory.append(b"x", 1) == mark
    with pytest.raises(ArenaError, match="cannot go back"):
        memory.reset(mark + 2)
    memory.reset()
    assert memory.used == 0


def test_only_bytes_that_were_handed_out_are_overwritten() -> None:
    memory = Arena(4096)
    memory.append(b"12345678")
    memory.write(6, b"ab")
    assert bytes(memory.view[:8]) == b"123456ab"
    for offset in (7, -1):
        with pytest.raises(ArenaError, match="not handed out"):
            memory.write(offset, b"ab")


@pytest.mark.parametrize("size", [0, -1, 1 << 62, 1 << 70])
def test_an_impossible_size_is_refused_in_one_line(size: int) -> None:
    with pytest.raises(ArenaError) as caught:
        Arena(size)
    assert "\n" not in str(caught.value)


def test_a_host_without_the_flush_function_says_so() -> None:
    with pytest.raises(ArenaError, match="no such_function_is_nowhere"):
        arena._runtime("such_function_is_nowhere")
