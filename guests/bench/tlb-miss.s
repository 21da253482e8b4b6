# tlb-miss: nearly every access misses the TLB.
#
# What you learn: what a page walk costs, alone (four loads) and below EPT (up to 24). There are
# more pages than any TLB has entries, but they share 16 frames: data are always in the cache,
# translations never.
#
# With BASELINE defined the same instructions stay in 16 pages. The difference of the two, divided
# by ACCESSES, is the price of one miss.

.set SETUP, 1
        .include "start.inc"

        .ifndef TLB_PAGES
.equ TLB_PAGES, 32768
        .endif
        .ifdef BASELINE
.equ TOUCHED, 16
        .else
.equ TOUCHED, TLB_PAGES
        .endif
.equ WINDOW, 0x40000000         # the second GiB
.equ ACCESSES, 1024             # of one iteration
.equ STRIDE, 33                 # pages: odd, and not the next one

# Map the pages, and touch each once: a VMM that builds tables on demand has built them.
setup:
        mov edi, OWN_TABLES                     # a page directory; its tables follow
        mov dword ptr [PDPT + 8], OWN_TABLES | PTE_P | PTE_RW
        lea edx, [rdi + PAGE_SIZE + PTE_P + PTE_RW]
        mov ecx, TLB_PAGES / 512
1:      mov [rdi], rdx
        add edi, 8
        add edx, PAGE_SIZE
        dec ecx
        jnz 1b
        mov edi, OWN_TABLES + PAGE_SIZE
        mov r8d, WINDOW
        xor ecx, ecx
2:      mov eax, ecx
        and eax, 15
        shl eax, 12
        add eax, FREE | PTE_P | PTE_RW
        mov [rdi + rcx * 8], rax
        add [r8], rcx
        add r8d, PAGE_SIZE
        inc ecx
        cmp ecx, TLB_PAGES
        jne 2b
        ret

kernel_main:
        xor eax, eax                    # checksum
        xor ecx, ecx                    # page
        mov esi, WINDOW
1:      mov r8d, ACCESSES
2:      mov edx, ecx
        shl edx, 12
        add rax, [rsi + rdx]
        add ecx, STRIDE
        and ecx, TOUCHED - 1
        dec r8d
        jnz 2b
        rol rax, 1
        dec rdi
        jnz 1b
        ret
image_end:
