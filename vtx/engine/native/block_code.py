"""Writing a block in compiled code: stencils copied, fields filled, jumps led.

The functions are compiled by `words`. Which instructions a block has is decided in `page_code`;
what they work on says `page_layout`.
"""

from vtx.engine.native.batch_code import (
    entry_of,
    note_block,
)
from vtx.engine.native.page_layout import (
    ADDRESSES,
    AT,
    BASE,
    CALL,
    CALL_COUNT,
    CALLS,
    COMMON,
    COMMON2,
    FALLS,
    FIRST_IP,
    FIRST_LINK,
    HEAD,
    HOLE,
    IP_MASK,
    JUMP_ADDEND,
    JUMP_FIELD,
    JUMP_OPCODE,
    JUMP_SIZE,
    LEAVES,
    LINK,
    LINK_COUNT,
    LINKS,
    MOST_CALLS,
    MOST_STACKED,
    P_BODY,
    P_CODE,
    P_FLAGS,
    P_JUMPS,
    P_PATCHES,
    P_SIZE,
    P_TARGET,
    PATCH,
    PIECE,
    PIECES,
    POOL,
    STACK,
    STACKED,
    START,
    THROUGH,
    UNLINKED,
    WAIT,
    WAITING,
    WAITING_COUNT,
)
from vtx.engine.native.plans import (
    BY_BACK,
    BY_VALUE,
)
from vtx.engine.native.words import (
    below,
    put8,
    put16,
    put32,
    put64,
    u8,
    u16,
    u32,
    u64,
)


def write_block(j: int, inside: int, count: int, length: int, flags: int) -> int:
    """Write the instructions that were found; 0 where a function they call is not linked."""
    base = u64(j + BASE)
    start = (u64(j + AT) + 15) & -16
    ip = (u64(j + FIRST_IP) + inside) & u64(j + IP_MASK)
    common = j + COMMON
    put64(common, count)
    put64(common + 8, ip)
    at = emit(j, u64(j + HEAD), start, common, 0)
    n = 0
    plan = 0
    values = 0
    while n < count:
        piece = j + PIECES + PIECE * n
        plan = u64(piece)
        values = piece + 8
        end = emit(j, plan, at, values, count - n)
        if end == 0:
            return 0
        n += 1
        if u32(plan + P_JUMPS) and (n == count or u32(plan + P_FLAGS) & LEAVES):
            jump = plan + P_BODY + PATCH * u32(plan + P_PATCHES)
            last = jump + PATCH * u32(plan + P_JUMPS)
            while jump != last:
                if n == count or u8(jump + 5) == 0:
                    target = u64(values + 8 * u8(jump + 6))
                    wait(j, at + u32(jump), u64(jump + 8) - at, target)
                jump += PATCH
        at = end
    if u32(plan + P_FLAGS) & FALLS:
        put8(base + at, JUMP_OPCODE)
        field = at + JUMP_FIELD
        wait(j, field, JUMP_ADDEND - field, u64(values + 8 * u32(plan + P_TARGET)))
        at += JUMP_SIZE
    gone = at
    put64(common, 0)
    put64(common + 8, ip)
    at = emit(j, u64(j + UNLINKED), at, common, 0)
    at = lead_out(j, at)
    if at == 0:
        return 0
    put64(j + AT, at)
    note_block(j, inside, start, count, length, flags, gone)
    return 1


def wait(j: int, field: int, addend: int, target: int) -> int:
    """A jump has to be led to `target`."""
    one = u64(j + WAITING) + WAIT * u64(j + WAITING_COUNT)
    put64(one, field)
    put64(one + 8, addend)
    put64(one + 16, target)
    put64(j + WAITING_COUNT, u64(j + WAITING_COUNT) + 1)
    inside = (target - u64(j + FIRST_IP)) & u64(j + IP_MASK)
    if below(inside, 4096):
        push(j, inside)
    return 0


def push(j: int, inside: int) -> int:
    """The block at a page offset is wanted too."""
    n = u64(j + STACKED)
    if n < MOST_STACKED and entry_of(j, inside) == 0:
        put16(j + STACK + 2 * n, inside)
        put64(j + STACKED, n + 1)
    return 0


def lead_out(j: int, at: int) -> int:
    """Lead the jumps that wait and leave the page through the table of entries."""
    base = u64(j + BASE)
    first = u64(j + WAITING)
    one = first
    kept = first
    last = first + WAIT * u64(j + WAITING_COUNT)
    while one != last:
        target = u64(one + 16)
        inside = (target - u64(j + FIRST_IP)) & u64(j + IP_MASK)
        if below(inside, 4096):
            put64(kept, u64(one))
            put64(kept + 8, u64(one + 8))
            put64(kept + 16, target)
            kept += WAIT
        else:
            put32(base + u64(one), at + u64(one + 8))
            put64(j + COMMON2, target)
            at = emit(j, u64(j + THROUGH), at, j + COMMON, 0)
            if at == 0:
                return 0
            put64(j + WAITING_COUNT, u64(j + WAITING_COUNT) - 1)
        one += WAIT
    return at


def lead_waiting(j: int) -> int:
    """Lead the jumps that still wait to their blocks, or to where Python is asked for them."""
    base = u64(j + BASE)
    at = u64(j + AT)
    one = u64(j + WAITING)
    last = one + WAIT * u64(j + WAITING_COUNT)
    start = u64(j + START)
    while one != last:
        field = u64(one)
        target = u64(one + 16)
        inside = (target - u64(j + FIRST_IP)) & u64(j + IP_MASK)
        entry = entry_of(j, inside)
        if entry > start:
            put32(base + field, entry - 1 + u64(one + 8))
        else:
            # The way to another batch is listed even if it is known: it is no part of this code.
            put32(base + field, at + u64(one + 8))
            if entry:
                put32(base + field, entry - 1 + u64(one + 8))
            n = u64(j + LINK_COUNT)
            put64(j + COMMON, u64(j + FIRST_LINK) + n)
            put64(j + COMMON2, target)
            link = u64(j + LINKS) + LINK * n
            put32(link, at + u64(j + HOLE) - start)
            put32(link + 4, field - start)
            put32(link + 8, u64(one + 8) + start)
            put32(link + 12, inside)
            put32(link + 16, 0)
            put64(j + LINK_COUNT, n + 1)
            at = emit(j, u64(j + UNLINKED), at, j + COMMON, 0)
        one += WAIT
    put64(j + AT, at)
    put64(j + WAITING_COUNT, 0)
    return 0


def emit(j: int, plan: int, at: int, values: int, back: int) -> int:
    """Copy a stencil and fill its fields; where it ends, 0 if something does not fit."""
    base = u64(j + BASE)
    source = u64(j + POOL) + u32(plan + P_CODE)
    target = base + at
    size = u32(plan + P_SIZE)
    n = 0
    while n < size:
        put64(target + n, u64(source + n))
        put64(target + n + 8, u64(source + n + 8))
        n += 16
    patch = plan + P_BODY
    last = patch + PATCH * u32(plan + P_PATCHES)
    while patch != last:
        value = u64(patch + 8)
        kind = u8(patch + 5)
        field = target + u32(patch)
        if kind == BY_VALUE:
            value += u64(values + 8 * u16(patch + 6))
        elif kind == BY_BACK:
            value += back
        else:
            n = u64(j + CALL_COUNT)
            if n >= MOST_CALLS:
                return 0
            call = u64(j + CALLS) + CALL * n
            start = u64(j + START)
            put32(call, at + u32(patch) - start)
            put32(call + 4, u16(patch + 6))
            put32(call + 8, value - (at - start))
            put64(j + CALL_COUNT, n + 1)
            value += u64(u64(j + ADDRESSES) + 8 * u16(patch + 6)) - at
        packer = u8(patch + 4)
        if packer == 2:
            if below(0xFFFF_FFFF, value + 0x8000_0000):
                return 0
            put32(field, value)
        elif packer == 3:
            if below(0xFFFF_FFFF, value):
                return 0
            put32(field, value)
        elif packer == 0:
            if below(0xFF, value + 0x80):
                return 0
            put8(field, value)
        elif packer == 1:
            if below(0xFFFF, value):
                return 0
            put16(field, value)
        else:
            put64(field, value)
        patch += PATCH
    return at + size


FUNCTIONS = (write_block, wait, push, lead_out, lead_waiting, emit)
