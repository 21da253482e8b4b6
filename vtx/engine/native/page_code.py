"""Translating a page of guest code in compiled code: what `blocks` does, without Python.

The functions are compiled by `words`. They work on a *job*, words that say what is to be done
and where everything lies; on the tables that `flat` has filled; and on the lists of a batch of
blocks, which `batches` gives to Python. They translate what is known: at an instruction that is
not, the caller is asked. From the block that was asked for they go on to all blocks of the page
that jumps lead to, and leave out those that are not known.
"""

from vtx.engine.native.plans import BY_BACK, BY_VALUE
from vtx.engine.native.second_level import HASH
from vtx.engine.native.words import (
    below,
    i8,
    i16,
    i32,
    put8,
    put16,
    put32,
    put64,
    u8,
    u16,
    u32,
    u64,
)
from vtx.machine.code_watch import LINE_SHIFT

DONE, UNKNOWN, PYTHON, FULL = range(4)
"""How a translation ends: an instruction or its stencil is not known, the first instruction is
none that native code runs, there is no room."""

# --- a job: offsets of words -------------------------------------------------------------------
(POOL, PAGE, FIRST_IP, IP_MASK, BASE, AT, END, ADDRESSES, INSIDE, MOST, AHEAD, ENTRIES, PLACES,
 PLACES_SHIFT, NUMBER, HEAD, UNLINKED, THROUGH, HOLE, FIRST_LINK, CALLS, CALL_COUNT, BLOCKS,
 BLOCK_COUNT, LINKS, LINK_COUNT, WAITING, WAITING_COUNT, WATCHED, STACKED, START, SIZE,
 ADDRESS_COUNT, LINES, IS_NEW, COMMON, COMMON2) = range(0, 37 * 8, 8)  # fmt: skip
"""START is where the batch begins in the arena, AT where it goes on; what HEAD, UNLINKED and
THROUGH are says `flat`."""
REGISTERS = 512
STACK = REGISTERS + 512
MOST_STACKED = 1024
PIECES = STACK + 2 * MOST_STACKED
PIECE = 128
LONGEST_BLOCK = 32
JOB_SIZE = PIECES + PIECE * LONGEST_BLOCK

CALL, BLOCK, LINK, WAIT = 12, 32, 20, 24
"""Sizes of entries. A call: {site, number of the symbol, addend}. A block: {page offset, entry,
instructions, bytes, repeats, where it leaves when it is dead, spare, spare}. A link: {place of its
number, field, addend, page offset of the target, spare}. What waits: {field, addend, place}."""
MOST_CALLS, MOST_BLOCKS, MOST_LINKS, MOST_WAITING = 16384, 1024, 2048, 2048

# --- tables: tags and fields; see `flat` ---------------------------------------------------------
IS_NODE, IS_TEMPLATE, IS_PYTHON = 1, 2, 3
ROOT = 64
ENDS, ALONE, REPEATS, GOES_BEHIND = 1, 2, 4, 8
T_HEAD, T_FIELDS, T_STEPS, T_VALUES, T_FLAGS, T_VARIANT, T_SIZES, T_BODY = 1, 2, 3, 4, 5, 8, 12, 16
STEP = 16
V_NEXT, V_ANY, V_PLAN = 8, 12, 16
P_KNOWN, P_NEXT, P_SIZE, P_CODE, P_OUT, P_PATCHES, P_JUMPS, P_FLAGS, P_TARGET, P_BODY = range(
    0, 40, 4
)
FALLS, LEAVES = 1, 2
PATCH = 16
JUMP_SIZE, JUMP_FIELD, JUMP_ADDEND, JUMP_OPCODE = 5, 1, -4, 0xE9
_SPARE = 64
"""Bytes behind code that may be overwritten."""


def translate_page(j: int) -> int:
    """Translate the block at INSIDE, and if AHEAD is set what can be reached from it."""
    put16(j + STACK, u64(j + INSIDE))
    put64(j + STACKED, 1)
    most = u64(j + MOST)
    is_first = 1
    while u64(j + STACKED):
        n = u64(j + STACKED) - 1
        put64(j + STACKED, n)
        inside = u16(j + STACK + 2 * n)
        if entry_of(j, inside) == 0:
            status = translate_block(j, inside, most)
            if is_first and status != DONE:
                return status
            if status == FULL or u64(j + AHEAD) == 0:
                break
        is_first = 0
        most = LONGEST_BLOCK
    lead_waiting(j)
    return DONE


def entry_of(j: int, inside: int) -> int:
    """One more than where in the arena the block at a page offset is entered, or 0."""
    return u32(u64(j + ENTRIES) + 4 * inside)


def translate_block(j: int, inside: int, most: int) -> int:
    """Find the instructions of a block, and write it."""
    pool = u64(j + POOL)
    page = u64(j + PAGE)
    mask = u64(j + IP_MASK)
    ip = (u64(j + FIRST_IP) + inside) & mask
    at = inside
    count = 0
    size = 0
    jumps = 0
    known = 0
    flags = 0
    while count < most and at < 4096:
        entry = ROOT + IS_NODE
        n = at
        while (entry & 3) == IS_NODE and n < 4096:
            entry = u32(pool + (entry - IS_NODE) + 4 * u8(page + n))
            n += 1
        if entry == 0:
            return UNKNOWN
        if (entry & 3) != IS_TEMPLATE:
            break
        template = pool + entry - IS_TEMPLATE
        length = u8(template)
        if at + length > 4096:
            break
        flags = u8(template + T_FLAGS)
        if (flags & ALONE) and count:
            flags = 0
            break
        piece = j + PIECES + PIECE * count
        variant = compute(j, template, page + at, ip, piece + 8)
        if variant == 0:
            return UNKNOWN
        plan = u32(variant + V_PLAN)
        if u32(variant + V_ANY) == 0:
            while plan and u32(pool + plan + P_KNOWN) != known:
                plan = u32(pool + plan + P_NEXT)
        if plan == 0:
            return UNKNOWN
        plan += pool
        put64(piece, plan)
        if u32(plan + P_OUT):
            known = u32(plan + P_OUT)
        size += u32(plan + P_SIZE)
        jumps += u32(plan + P_JUMPS)
        count += 1
        at += length
        ip = (ip + length) & mask
        if flags & (ENDS | ALONE):
            break
    if count == 0:
        return PYTHON
    stubs = u32(u64(j + UNLINKED) + P_SIZE) + u32(u64(j + THROUGH) + P_SIZE)
    size += u32(u64(j + HEAD) + P_SIZE) + 16 + stubs * (jumps + 3 + u64(j + WAITING_COUNT))
    if u64(j + AT) + 16 + size + _SPARE > u64(j + END):
        return FULL
    if u64(j + BLOCK_COUNT) == MOST_BLOCKS or u64(j + WAITING_COUNT) + jumps >= MOST_WAITING:
        return FULL
    if u64(j + CALL_COUNT) > MOST_CALLS - 4 * MOST_WAITING:
        return FULL
    calls = u64(j + CALL_COUNT)
    waiting = u64(j + WAITING_COUNT)
    stacked = u64(j + STACKED)
    if write_block(j, inside, count, at - inside, flags):
        if flags & GOES_BEHIND and at < 4096:
            push(j, at)
        return DONE
    put64(j + CALL_COUNT, calls)
    put64(j + WAITING_COUNT, waiting)
    put64(j + STACKED, stacked)
    return UNKNOWN


def compute(j: int, template: int, code: int, ip: int, out: int) -> int:
    """Compute the known values of an instruction; the variant of its template, or 0."""
    registers = j + REGISTERS
    put64(registers, ip)
    register = registers + 8
    size_at = template + T_SIZES
    last = size_at + u8(template + T_FIELDS)
    field = code + u8(template + T_HEAD)
    while size_at != last:
        size = u8(size_at)
        if size == 1:
            put64(register, i8(field))
        elif size == 2:
            put64(register, i16(field))
        elif size == 4:
            put64(register, i32(field))
        else:
            put64(register, u64(field))
        field += size
        register += 8
        size_at += 1
    step = template + T_BODY
    end = step + STEP * u8(template + T_STEPS)
    while step != end:
        a = u64(registers + 8 * u8(step + 1))
        b = u64(step + 8)
        if u8(step + 3) == 0:
            b = u64(registers + 8 * u8(step + 2))
        op = u8(step)
        if op == 0:
            a += b
        elif op == 1:
            a -= b
        elif op == 2:
            a &= b
        elif op == 3:
            a |= b
        elif op == 4:
            a ^= b
        elif op == 5:
            a = a << b
        elif op == 6:
            a = a >> b
        elif op == 7:
            a = a == b
        elif op == 8:
            a = a != b
        elif op == 9:
            a = below(a, b)
        elif op == 10:
            a = below(b, a) ^ 1
        else:
            a = a * b
        put64(register, a)
        register += 8
        step += STEP
    signature = 0
    n = 0
    while n < u8(template + T_VALUES):
        value = u64(registers + 8 * u8(end))
        put64(out + 8 * n, value)
        kind = u8(end + 1)
        if kind == 1:
            signature |= below(0xFFFF_FFFF, value + 0x8000_0000) << n
        elif kind == 2:
            signature |= value << n
        end += 2
        n += 1
    pool = u64(j + POOL)
    variant = u32(template + T_VARIANT)
    while variant:
        if u64(pool + variant) == signature:
            return pool + variant
        variant = u32(pool + variant + V_NEXT)
    return 0


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


# --- batches that are there already ---------------------------------------------------------------
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


VISIBLE = (translate_page, install_batch, enter_batch, connect_batch, kill_batch)
FUNCTIONS = (
    *VISIBLE, entry_of, translate_block, compute, write_block, wait, push, lead_out, lead_waiting,
    note_block, watch, put_place, emit,
)  # fmt: skip
