"""Finding the blocks of a page of guest code in compiled code: what `blocks` does, without Python.

The functions are compiled by `words`. They translate what is known: at an instruction that is
not, the caller is asked. From the block that was asked for they go on to all blocks of the page
that jumps lead to, and leave out those that are not known. How a block is written is
`block_code`'s business.
"""

from vtx.engine.native.batch_code import (
    entry_of,
)
from vtx.engine.native.block_code import (
    lead_waiting,
    push,
    write_block,
)
from vtx.engine.native.page_layout import (
    AHEAD,
    ALONE,
    AT,
    BLOCK_COUNT,
    CALL_COUNT,
    DONE,
    END,
    ENDS,
    FIRST_IP,
    FULL,
    GOES_BEHIND,
    HEAD,
    INSIDE,
    IP_MASK,
    IS_NODE,
    IS_TEMPLATE,
    LONGEST_BLOCK,
    MOST,
    MOST_BLOCKS,
    MOST_CALLS,
    MOST_WAITING,
    P_JUMPS,
    P_KNOWN,
    P_NEXT,
    P_OUT,
    P_SIZE,
    PAGE,
    PIECE,
    PIECES,
    POOL,
    PYTHON,
    REGISTERS,
    ROOT,
    SPARE,
    STACK,
    STACKED,
    STEP,
    T_BODY,
    T_FIELDS,
    T_FLAGS,
    T_HEAD,
    T_SIZES,
    T_STEPS,
    T_VALUES,
    T_VARIANT,
    THROUGH,
    UNKNOWN,
    UNLINKED,
    V_ANY,
    V_NEXT,
    V_PLAN,
    WAITING_COUNT,
)
from vtx.engine.native.words import (
    below,
    i8,
    i16,
    i32,
    put16,
    put64,
    u8,
    u16,
    u32,
    u64,
)


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
    if u64(j + AT) + 16 + size + SPARE > u64(j + END):
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


FUNCTIONS = (translate_page, translate_block, compute)
