"""What `page_code`, `block_code` and `batch_code` find where: jobs, lists, tables, by offsets.

A *job* is an array of words that says what is to be done and where everything lies. Lists tell
Python what was done; the tables are those that `flat` fills.
"""

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
SPARE = 64
"""Bytes behind code that may be overwritten."""
