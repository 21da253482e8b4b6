# pages: every access in another page, and every page in another frame.
#
# What you learn: what contiguous guest memory hides. The 4 MiB at DATA are mapped to the same
# 4 MiB of RAM in an order that jumps about, as pages lie in a machine that has run for a
# while; no range of them can be translated at once.

.set SETUP, 1
        .include "start.inc"

.equ PAGES, 1024
.equ STEP, 389                  # odd: passes through all of them

# Page i of DATA goes to frame STEP * i of the same RAM.
setup:
        mov edi, PAGE_TABLES + 2 * PAGE_SIZE    # what maps DATA, 8 bytes a page
        xor ecx, ecx
        xor eax, eax
1:      mov edx, eax
        shl edx, 12
        add edx, DATA | PTE_P | PTE_RW | PTE_US
        mov [rdi + rcx * 8], rdx
        add eax, STEP
        and eax, PAGES - 1
        inc ecx
        cmp ecx, PAGES
        jne 1b
        mov rax, cr3
        mov cr3, rax
        ret

kernel_main:
        xor eax, eax                    # checksum
1:      xor ecx, ecx                    # page
        mov r8d, PAGES
next_page:
        mov edx, ecx
        shl edx, 12
        lea edx, [rdx + rcx * 8]        # another place in each, or caches would be too small
        and edx, DATA_SIZE - 8
        add rax, [rsi + rdx]
        add rax, rcx
        mov [rsi + rdx], rax
        add ecx, 7
        and ecx, PAGES - 1
        dec r8d
        jnz next_page
        dec rdi
        jnz 1b
        ret
image_end:
