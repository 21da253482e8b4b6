"""Steps that access memory: every shape of access to every kind of page, and page-table edits.

Where a step edits page tables it also invalidates: a guest that relies on stale translations
may differ between styles, as between processors.
"""

from fidelity_strategies import NUMBERS, Steps, evenly, lines
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

PORTS = (
    0x20, 0x21, 0x40, 0x41, 0x42, 0x43, 0x60, 0x61, 0x64, 0x70, 0x71, 0x80, 0x92, 0xA0, 0xA1,
    0xE9, 0x2F8, 0x3F8, 0x3F9, 0x3FA, 0x3FB, 0x3FC, 0x3FD, 0x3FE, 0x3FF, 0x4D0, 0x510, 0x511,
    0x600, 0x602, 0x604, 0x608, 0xCF8, 0xCF9, 0xCFC, 0xFFFD, 0xFFFF,
)  # fmt: skip
_LAPIC_REGISTERS = (
    0x20, 0x30, 0x80, 0xA0, 0xB0, 0xD0, 0xE0, 0xF0, 0x100, 0x110, 0x200, 0x280, 0x300, 0x310,
    0x320, 0x350, 0x360, 0x370, 0x380, 0x390, 0x3E0, 0x3F0, 0x400, 0x24, 0x382,
)  # fmt: skip
_SHAPES = """
    mov al, byte ptr {m}
    mov byte ptr {m}, al
    mov ax, word ptr {m}
    mov word ptr {m}, 0x1234
    mov eax, dword ptr {m}
    mov dword ptr {m}, eax
    mov dword ptr {m}, {n:#x}
    movzx eax, byte ptr {m}
    movsx ecx, word ptr {m}
    xchg dword ptr {m}, eax
    xchg byte ptr {m}, cl
    add dword ptr {m}, 1
    lock add dword ptr {m}, {n:#x}
    or dword ptr {m}, {n:#x}
    and dword ptr {m}, {n:#x}
    lock or byte ptr {m}, 4
    sub eax, dword ptr {m}
    cmp dword ptr {m}, eax
    test dword ptr {m}, {n:#x}
    inc dword ptr {m}
    not dword ptr {m}
    cmpxchg dword ptr {m}, ecx
    lock cmpxchg dword ptr {m}, ecx
    lock cmpxchg8b {m}
    xadd dword ptr {m}, eax
    bts dword ptr {m}, 3
    bt dword ptr {m}, ecx
    lock btr dword ptr {m}, 5
    shl dword ptr {m}, 1
    imul eax, dword ptr {m}
    div dword ptr {m}
    setz byte ptr {m}
    cmovz eax, dword ptr {m}
    mov ds, word ptr {m}
    mov word ptr {m}, es
    jmp {word} ptr {m}
    call {word} ptr {m}
    push {word} ptr {m}
    pop {word} ptr {m}
    invlpg {m}
    clflush byte ptr {m}
    prefetcht0 byte ptr {m}
    sgdt {m}
    sidt {m}
    sldt word ptr {m}
    str word ptr {m}
    smsw word ptr {m}
    lldt word ptr {m}
    ltr word ptr {m}
    lmsw word ptr {m}
    verr word ptr {m}
    movnti dword ptr {m}, eax
    crc32 eax, byte ptr {m}
    bsf eax, dword ptr {m}
    movbe eax, dword ptr {m}
"""
_SHAPES_64 = """
    mov rax, qword ptr {m}
    mov qword ptr {m}, rax
    add qword ptr {m}, 1
    xchg qword ptr {m}, rax
    movsxd rax, dword ptr {m}
    lock cmpxchg16b {m}
"""
_SHAPES_32 = """
    les eax, {m}
    bound eax, {m}
"""


def operands(long: bool) -> Steps:
    """Memory operands: good pages, bad pages, devices, page crossings."""
    pages = lines(
        """
        [TEST + {page:#x} + {at:#x}]
        [DATA]
        [DATA + 0xefd]
        [LARGE + DATA]
        [LARGE_READ_ONLY + DATA]
        [ABSENT]
        [GDT + 8]
        [LOG + 0xc00]
        [PAYLOAD]
        """,
        long,
        page=st.sampled_from([n << 12 for n in (0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15)]),
        at=st.sampled_from((0, 0x7FC, 0xFFE)),
    )
    devices = lines(
        """
        [TEST + 0x7000 + {at:#x}]
        [TEST + 0x8000 + {at:#x}]
        [TEST + 0x9000]
        [TEST + 0x9010]
        [TEST + 0x9040]
        """,
        long,
        at=st.sampled_from(_LAPIC_REGISTERS),
    )
    wild = lines("[{r}bx]\n[{r}bx + {r}si * 8]\n[{r}sp - 8]\ngs:[0x10]", long)
    return evenly([pages, pages, devices, wild])


def pointers(long: bool) -> SearchStrategy[int]:
    """Addresses for registers."""
    known = [
        0, 0xFFF, 0x9FFFE, 0x10B100, 0x10BFFD, 0x1FFFFC, 0x200000, 0x400000, 0x400FFD, 0x401000,
        0x402010, 0x403000, 0x406800, 0x407080, 0x4070B0, 0x407300, 0x408020, 0x409000, 0x40A000,
        0x40C000, 0x90B100, 0xD0B100, 0x1000000, 0xFEE00080, 0xFEC00010, 0xFFFFFFFC,
    ]  # fmt: skip
    if long:
        known += [
            0x7FFFFFFFFFFC, 0x800000000000, 0xFFFF7FFFFFFFFFFF, 0xFFFF800000000000,
            0xFFFFFFFFFFFFFFF8,
        ]  # fmt: skip
    return st.sampled_from(known)


def accesses(long: bool) -> Steps:
    """One access by any shape of instruction."""
    shapes = _SHAPES + (_SHAPES_64 if long else _SHAPES_32)
    plain = lines(shapes, long, m=operands(long), n=NUMBERS)
    through = lines("mov {r}bx, {p:#x}; {step}", long, p=pointers(long), step=plain)
    return evenly([plain, through])


def strings(long: bool) -> Steps:
    """String instructions, plain and repeated, in RAM, devices, ports and over page ends."""
    places = st.sampled_from((
        0x10B100, 0x10BFFA, 0x400FF9, 0x401FFC, 0x402FF0, 0x403010, 0x407080, 0x407310, 0x409000,
        0x40A000, 0x40BFF8, 0x90B200, 0xD0B200,
    ))  # fmt: skip
    names = ["stosb", "stosw", "stosd", "movsb", "movsw", "movsd", "lodsb", "lodsd", "scasb",
             "cmpsb", "cmpsd"]  # fmt: skip
    names += ["stosq", "movsq"] if long else []
    return lines(
        """
        mov {r}di, {d:#x}; mov {r}si, {s:#x}; mov ecx, {c}; {flag}; {rep}{name}
        mov {r}di, {d:#x}; mov {r}si, {s:#x}; mov ecx, {c}; {flag}; {rep}{name}
        mov edx, {p:#x}; mov {r}di, {d:#x}; mov {r}si, {s:#x}; mov ecx, {c}; {flag}; {rep}{io}
        """,
        long,
        d=places,
        s=places,
        c=st.one_of(st.integers(0, 7), st.integers(0, 40)),
        flag=st.sampled_from(("cld", "std")),
        rep=st.sampled_from(("", "rep ", "repne ")),
        name=st.sampled_from(names),
        io=st.sampled_from(("insb", "insw", "insd", "outsb", "outsw", "outsd")),
        p=st.sampled_from(PORTS),
    )


_CHANGES = """
    mov dword ptr [{e}], FRAMES + 7
    mov dword ptr [{e}], FRAMES + 0x1007
    mov dword ptr [{e}], FRAMES + 0x2005
    mov dword ptr [{e}], FRAMES + 3
    mov dword ptr [{e}], FRAMES + 0x107
    mov dword ptr [{e}], 0
    mov dword ptr [{e}], LAPIC + 7
    mov dword ptr [{e}], 0x10b007
    and dword ptr [{e}], 0xffffff9f
    xor dword ptr [{e}], 2
    xor dword ptr [{e}], 4
    btc dword ptr [{e}], 5
    lock btr dword ptr [{e}], 6
    btc dword ptr [{e}], 0
    or dword ptr [{e}], 0x18
    mov byte ptr [{e}], 7
    xchg dword ptr [{e}], eax
"""
_CHANGES_WIDE = """
    btc dword ptr [{e} + 4], 31
    mov dword ptr [{e} + 4], 0
    bts dword ptr [{e} + 4], 20
"""
_USES = """
    mov eax, [TEST + {at:#x}]
    mov [TEST + {at:#x}], eax
    add dword ptr [TEST + {at:#x}], 1
    call TEST + {at:#x}
    mov [TEST + {at:#x}], eax; mov eax, [TEST]
    nop
"""


def page_tables(mode: str) -> Steps:
    """An entry is changed, the change made known, and the page accessed."""
    long, size = mode == "long", 4 if mode == "paged" else 8

    def edit(page: int) -> Steps:
        entries = (f"PT_TEST + {page * size}", f"TEST + 0x6000 + {page * size}")
        return lines(
            "{change}; invlpg [TEST + {at:#x}]; {use}\n"
            "{change}; mov {r}ax, cr4; btc {r}ax, 7; mov cr4, {r}ax; {use}",
            long,
            at=st.just(page << 12),
            change=lines(
                _CHANGES + (_CHANGES_WIDE if size == 8 else ""), long, e=st.sampled_from(entries)
            ),
            use=lines(_USES, long, at=st.just(page << 12)),
        )

    # PGE is turned over twice: everything is invalidated, large pages too.
    flush = "mov {r}ax, cr4; btc {r}ax, 7; mov cr4, {r}ax; btc {r}ax, 7; mov cr4, {r}ax"
    upper = lines(
        f"""
        xor dword ptr [PD + {{large}}], {{x:#x}}; {flush}; mov eax, [LARGE + DATA]
        xor dword ptr [PD + {{large}}], {{x:#x}}; {flush}; mov [LARGE + DATA], eax
        xor dword ptr [PD + {{small}}], {{y:#x}}; {flush}; mov eax, [TEST]
        xor dword ptr [PD + {{small}}], {{y:#x}}; {flush}; mov [TEST + 0xb000], eax
        """,
        long,
        large=st.just(8 if mode == "paged" else 32),
        small=st.just(4 if mode == "paged" else 16),
        x=st.sampled_from((1, 2, 4, 0x20, 0x40, 0x100, 0x80)),
        y=st.sampled_from((1, 2, 4, 0x20, 0x1000)),
    )
    return evenly([*(edit(page) for page in (0, 1, 2, 3, 4, 11, 12)), upper])
