"""The words behind a CPU's state that native code and Python talk through.

Native code has one pointer, to the state words; these fields follow them. The module only
names places; it must not know who reads or writes them.
"""

from vtx.isa.layout import SLOT_COUNT
from vtx.machine.state import EXECUTOR_WORDS

_NAMES = (
    "budget",  # instructions left when native code was left, or asks Python something
    "link",  # which jump would like to be patched to the block that is found next
    "tlb",  # host address of the current address space's translations
    "jump_cache",  # host address of the table of known block entries
    "entry",  # host address of the code to run
    "on_load", "on_store", "on_probe",  # host addresses of Python's slow paths
    "on_physical_load", "on_physical_store", "on_walk_load", "on_service",
    "scratch", "scratch_high",  # a value that a slow load returns
    "ram_read", "ram_write", "ram_pages",  # per physical page its host address, or 0
    "until",  # retired instructions when the budget is used up
    "walk_references", "walk_observed",  # of the walk being made; Python has to see it
    "walk_misses", "walk_total", "walk_least", "walk_most",  # walks made, their references
    "directory", "nowhere",  # host addresses: the jump caches of all keys, one that knows nothing
    "key",  # number of the key that native code went on with, 0 for the one it was entered with
    "calm", "entered_vmx", "entered_blocking",  # see `between`
    "attention",  # what is due may have changed
    "blocks",  # host address of the table of blocks by place
    "native_root",  # VMX root mode is played by code of the machine, not by Python
    "tags",  # host address of the table of address spaces by tag
    "void",  # number of a physical page where nothing answers
    "on_page",  # asks which host page a page of RAM is
    "memory", "code_lines",  # host address of RAM; of the lines of each of its pages with code
    "on_code",  # tells of a store to such a line
    "failed",  # how an access or a service ended that did not complete, as machine.cpu has it
    *(f"argument{n}" for n in range(8)),
    "own_flush",  # FLUSH_TLB is the CPU's own: native code may answer it
    "spaces",  # host address of the list of all address spaces
    "cpuid",  # host address of the answers of CPUID that are known
    "remembered",  # host address of what `remembered` keeps
)  # fmt: skip
CONTEXT: dict[str, int] = {name: SLOT_COUNT + n for n, name in enumerate(_NAMES)}
"""Field -> index of its 64-bit word, counted from the first state word."""
assert len(_NAMES) <= EXECUTOR_WORDS

LEFT_OK, LEFT_FAULT, LEFT_EXIT, LEFT_SOFTWARE_EVENT = range(4)  # as machine.cpu has them
LEFT_MISS, LEFT_BUDGET, LEFT_RESYNC, LEFT_AFTER_STORE, LEFT_BY_MEMORY = range(4, 9)
LEFT_REGION_BUDGET = 9
"""Why native code was left: a block is not translated yet, the budget is used up, the key may
have changed, a store reached a device or code, an access ended as the CPU's status says."""

JUMP_CACHE_ENTRIES = 1024
"""Entries of {instruction pointer, code}, 16 bytes each."""
SINGLE_ENTRIES = 256
"""Entries behind them of the same kind, for blocks of one instruction that is run alone."""
JUMP_CACHE_USED = 16 * (JUMP_CACHE_ENTRIES + SINGLE_ENTRIES)
"""Offset of how many entries were made since a jump cache was empty. It does not go above
CACHE_LOG + 1."""
CACHE_LOG = 15
JUMP_CACHE_NEXT = JUMP_CACHE_USED + 8
"""Offset of the host address of the next cache of the same space, or 0. Behind it stand the host
addresses of the first CACHE_LOG entries that were made."""
NOWHERE = 0x8000_0000_0000_0001
"""An instruction pointer that no jump has: it is not canonical."""
DIRECTORY_ENTRIES = 64
"""Entries of {translations, number of a key, its jump cache, spare}, 32 bytes each."""
BLOCK_ENTRIES = 8192
"""Entries of {instruction pointer, host address of its page, number of a key, code}, 32 bytes."""
FETCH_KEY = 1 << 60
"""Part of a key of the second level: the translation is for fetching."""
TAG_ENTRIES = 16
"""Entries of {VPID << 12 | PCID, EPT root, translations, spare}, 32 bytes each."""
CPUID_ENTRIES = 64
"""Entries of {leaf | subleaf << 32, EAX | EBX << 32, ECX | EDX << 32, known}, 32 bytes each."""
REMEMBERED_SIZE = 8192
"""Bytes for each routine whose results are kept."""
TLB_ENTRIES = 256
"""Entries per privilege of {read tag, write tag, host address - gva, spare}, 32 bytes each."""
TLB_TABLE = TLB_ENTRIES * 32
TLB_SECOND = 4 * TLB_TABLE
"""Offset, behind the tables of the four privileges, of the address of the second level; the
words behind it are the mask of its indices, its entries in use, and how many these may become."""
TLB_MASK, TLB_COUNT, TLB_LIMIT = TLB_SECOND + 8, TLB_SECOND + 16, TLB_SECOND + 24
TLB_RANGES = TLB_SECOND + 32
"""Offset of the ranges, each 64 bytes: by privilege, then whether the access is to the stack, then
whether it writes. What they hold is said in `region_ranges`."""
RANGES = 16
TLB_CACHES = TLB_RANGES + 64 * RANGES
"""Offset of the host address of the first jump cache of the space, or 0."""
TLB_PYTHON = TLB_CACHES + 8
"""Offset of a word that is not 0 if Python knows something that has to be flushed too."""
TLB_LOG = TLB_PYTHON + 8
"""Offset of the host addresses of the second level's entries, while these are at most so many."""
LOG_ENTRIES = 32
TLB_WORDS = TLB_LOG // 8 + LOG_ENTRIES
NO_TAG = 1
"""A tag that no page has."""
