"""Small guests that use several CPUs, as assembly: a start that the first CPU runs in 64-bit mode,
and the real-mode page that start-up IPIs lead the others to."""

TRAMPOLINE = 0x8000
COUNT = 0x7000
"""Where the others count themselves."""
INIT_ALL, STARTUP_ALL = 0xC4500, 0xC4600 | TRAMPOLINE >> 12
"""ICR: to all but this CPU."""

COUNT_ME = f"lock inc dword ptr [{COUNT}]"

BIG_REAL = f"""
        lgdt    [gdtr - page + {TRAMPOLINE}]
        mov     eax, cr0
        inc     eax                     # CR0.PE
        mov     cr0, eax
        mov     cx, 8
        mov     fs, cx                  # base 0, limit 4 GiB
        dec     eax
        mov     cr0, eax                # real mode again; FS keeps its limit
        jmp     9f
        .balign 8
gdt:    .quad   0, 0x00cf92000000ffff
gdtr:   .word   15
        .long   gdt - page + {TRAMPOLINE}
9:      mov     ebx, 0xfee00000
        mov     dword ptr fs:[ebx + 0xf0], 0x1ff
"""
"""For `others`: FS reaches all of memory, EBX is at the local APIC, which accepts interrupts."""


def handler(vector: int, label: str) -> str:
    """For `others`: the interrupt vector's entry leads to `label` in the page."""
    return f"""
        mov     word ptr [{4 * vector}], offset {label} - page
        mov     word ptr [{4 * vector + 2}], {TRAMPOLINE >> 4}
"""


END = "mov dword ptr fs:[ebx + 0xb0], 0"
"""For a handler in `others`, behind BIG_REAL: end of interrupt."""


def guest(main: str, others: str, *, start: bool = True) -> str:
    """`main` runs on the first CPU with RBX at its local APIC, in 64-bit mode; `others`, in 16-bit
    code of the page at TRAMPOLINE, on the others. With `start` they are started at once, and the
    first CPU waits until all have counted themselves."""
    started = f"""
        mov     dword ptr [rbx + 0x300], {INIT_ALL}
        mov     dword ptr [rbx + 0x300], {STARTUP_ALL}
wait:   pause
        cmp     [{COUNT}], ebp
        jb      wait
"""
    return f"""
        .intel_syntax noprefix
        .globl _start
_start: lea     rsi, [rip + page]
        mov     edi, {TRAMPOLINE}
        mov     ecx, offset page_end - page
        rep movsb
        mov     ebx, 0xfee00000
        mov     ebp, OTHERS
        mov     eax, 1
        {started if start else ""}
        {main}
        out     0xf4, al
        hlt
        .balign 16
        .code16
page:   xor     ax, ax
        mov     ds, ax
        mov     ss, ax
        mov     sp, 0x6000
        {others}
8:      hlt
        jmp     8b
page_end:
"""
