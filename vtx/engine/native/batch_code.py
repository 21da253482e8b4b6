"""Batches of blocks in compiled code: noted when they are written, put in place, and killed.

The functions are compiled by `words`; see `page_layout` for what they work on.
"""

from vtx.engine.native.page_layout import (
    ADDRESS_COUNT,
    ADDRESSES,
    AT,
    BASE,
    BLOCK,
    BLOCK_COUNT,
    BLOCKS,
    CALL,
    CALL_COUNT,
    CALLS,
    ENTRIES,
    FIRST_IP,
    FIRST_LINK,
    HOLE,
    IP_MASK,
    IS_NEW,
    JUMP_ADDEND,
    JUMP_FIELD,
    JUMP_OPCODE,
    LINES,
    LINK,
    LINK_COUNT,
    LINKS,
    NUMBER,
    PAGE,
    PLACES,
    PLACES_SHIFT,
    REPEATS,
    SIZE,
    START,
    WATCHED,
)
from vtx.engine.native.second_level import HASH
from vtx.engine.native.words import below, i32, put8, put32, put64, u8, u32, u64
from vtx.machine.code_watch import LINE_SHIFT


def entry_of(j: int, inside: int) -> int:
    """One more than where in the arena the block at a page offset is entered, or 0."""
    return u32(u64(j + ENTRIES) + 4 * inside)


def note_block(
    j: int, inside: int, start: int, count: int, length: int, flags: int, gone: int
) -> int:
    """A block is written: let everyone know."""
    batch = u64(j + START)
    n = u64(j + BLOCK_COUNT)
    block = u64(j + BLOCKS) + BLOCK * n
    put32(block, inside)
    put32(block + 4, start - batch)
    put32(block + 8, count)
    put32(block + 12, length)
    put32(block + 16, (flags & REPEATS) != 0)
    put32(block + 20, gone - batch)
    put64(block + 24, 0)
    put64(j + BLOCK_COUNT, n + 1)
    put32(u64(j + ENTRIES) + 4 * inside, start + 1)
    watch(j, inside, length)
    put_place(j, inside, u64(j + BASE) + start)
    return 0


def watch(j: int, inside: int, length: int) -> int:
    """Note from which bytes of the page code was made, and in which lines they lie."""
    watched = u64(j + WATCHED)
    last = inside + length
    n = inside
    while n < last:
        put8(watched + (n >> 3), u8(watched + (n >> 3)) | 1 << (n & 7))
        n += 1
    lines = (2 << ((last - 1) >> LINE_SHIFT)) - (1 << (inside >> LINE_SHIFT))
    put64(j + LINES, u64(j + LINES) | lines)
    return 0


def put_place(j: int, inside: int, hva: int) -> int:
    """Let native code find the block by its place, if its key has a number."""
    if u64(j + NUMBER) == 0:
        return 0
    ip = (u64(j + FIRST_IP) + inside) & u64(j + IP_MASK)
    page = u64(j + PAGE)
    place = u64(j + PLACES) + 32 * (((ip ^ page) * HASH) >> u64(j + PLACES_SHIFT))
    put64(place, ip)
    put64(place + 8, page)
    put64(place + 16, u64(j + NUMBER))
    put64(place + 24, hva)
    return 0


def install_batch(j: int) -> int:
    """Make code at AT that was translated before fit its place; 0 if a list is not sound."""
    base = u64(j + BASE)
    start = u64(j + AT)
    size = u64(j + SIZE)
    beyond = size - 3
    addresses = u64(j + ADDRESSES)
    call = u64(j + CALLS)
    last = call + CALL * u64(j + CALL_COUNT)
    while call != last:
        site = u32(call)
        number = u32(call + 4)
        if below(site, beyond) == 0 or below(number, u64(j + ADDRESS_COUNT)) == 0:
            return 0
        value = u64(addresses + 8 * number) + i32(call + 8) - start
        if below(0xFFFF_FFFF, value + 0x8000_0000):
            return 0
        put32(base + start + site, value)
        call += CALL
    link = u64(j + LINKS)
    last = link + LINK * u64(j + LINK_COUNT)
    number = u64(j + FIRST_LINK)
    while link != last:
        if below(u32(link), beyond) == 0 or below(u32(link + 4), beyond) == 0:
            return 0
        if below(u32(link + 12), 4096) == 0:
            return 0
        stub = u32(link) - u64(j + HOLE)
        if below(stub, beyond) == 0:
            return 0
        # It may have been led to a block of another batch, which is not there now.
        put32(base + start + u32(link + 4), stub + i32(link + 8))
        put32(base + start + u32(link), number)
        number += 1
        link += LINK
    block = u64(j + BLOCKS)
    last = block + BLOCK * u64(j + BLOCK_COUNT)
    while block != last:
        if below(u32(block + 4), size - 8) == 0 or below(u32(block + 20), size - 8) == 0:
            return 0
        if u32(block) + u32(block + 12) > 4096 or u32(block + 12) == 0:
            return 0
        block += BLOCK
    enter_batch(j)
    return 1


def enter_batch(j: int) -> int:
    """Let its blocks be found; IS_NEW: for the first time."""
    start = u64(j + AT)
    block = u64(j + BLOCKS)
    last = block + BLOCK * u64(j + BLOCK_COUNT)
    while block != last:
        put32(u64(j + ENTRIES) + 4 * u32(block), start + u32(block + 4) + 1)
        if u64(j + IS_NEW):
            watch(j, u32(block), u32(block + 12))
            put_place(j, u32(block), u64(j + BASE) + start + u32(block + 4))
        block += BLOCK
    return 0


def connect_batch(j: int) -> int:
    """Lead its jumps to blocks of other batches that are entered."""
    start = u64(j + AT)
    link = u64(j + LINKS)
    last = link + LINK * u64(j + LINK_COUNT)
    while link != last:
        entry = entry_of(j, u32(link + 12))
        if entry:
            put32(u64(j + BASE) + start + u32(link + 4), entry - 1 - start + i32(link + 8))
        link += LINK
    return 0


def kill_batch(j: int) -> int:
    """Let whoever enters its blocks leave native code instead."""
    start = u64(j + BASE) + u64(j + AT)
    block = u64(j + BLOCKS)
    last = block + BLOCK * u64(j + BLOCK_COUNT)
    while block != last:
        entry = start + u32(block + 4)
        put8(entry, JUMP_OPCODE)
        gone = u32(block + 20) - u32(block + 4)
        put32(entry + JUMP_FIELD, gone - JUMP_FIELD + JUMP_ADDEND)
        block += BLOCK
    return 0


VISIBLE = (install_batch, enter_batch, connect_batch, kill_batch)
FUNCTIONS = (*VISIBLE, entry_of, note_block, watch, put_place)
