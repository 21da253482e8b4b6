"""Translating a page of guest code in compiled code: what `blocks` does, without Python.

The functions are compiled by `words`. They translate what is known: at an instruction that is
not, the caller is asked. From the block that was asked for they go on to all blocks of the page
that jumps lead to, and leave out those that are not known.
"""

from vtx.engine.native.batch_code import entry_of, note_block
from vtx.engine.native.page_layout import (
    _SPARE,
    ADDRESSES,
    AHEAD,
    ALONE,
    AT,
    BASE,
    BLOCK_COUNT,
    CALL,
    CALL_COUNT,
    CALLS,
    COMMON,
    COMMON2,
    DONE,
    END,
    ENDS,
    FALLS,
    FIRST_IP,
    FIRST_LINK,
    FULL,
    GOES_BEHIND,
    HEAD,
    HOLE,
    INSIDE,
    IP_MASK,
    IS_NODE,
    IS_TEMPLATE,
    JUMP_ADDEND,
    JUMP_FIELD,
    JUMP_OPCODE,
    JUMP_SIZE,
    LEAVES,
    LINK,
    LINK_COUNT,
    LINKS,
    LONGEST_BLOCK,
    MOST,
    MOST_BLOCKS,
    MOST_CALLS,
    MOST_STACKED,
    MOST_WAITING,
    P_BODY,
    P_CODE,
    P_FLAGS,
    P_JUMPS,
    P_KNOWN,
    P_NEXT,
    P_OUT,
    P_PATCHES,
    P_SIZE,
    P_TARGET,
    PAGE,
    PATCH,
    PIECE,
    PIECES,
    POOL,
    PYTHON,
    REGISTERS,
    ROOT,
    STACK,
    STACKED,
    START,
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
    WAIT,
    WAITING,
    WAITING_COUNT,
)
from vtx.engine.native.plans import BY_BACK, BY_VALUE
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


FUNCTIONS = (
    translate_page, translate_block, compute, write_block, wait, push, lead_out, lead_waiting, emit,
)  # fmt: skip
