# churn: page tables that never rest.
#
# What you learn: what an operating system does to a page from birth to death: map it, write it
# (the processor notes that in the entry), make it read-only, unmap it. Whenever an entry
# loses rights, INVLPG must tell the TLB; where one gains them, nothing need be said.

.set SETUP, 1
        .include "start.inc"

.equ WINDOW, 0x40000000         # the second GiB
.equ PAGES, 32
.equ FRAMES, 64                 # more than pages: every round maps others

setup:
        mov dword ptr [PDPT + 8], OWN_TABLES | PTE_P | PTE_RW
        mov dword ptr [OWN_TABLES], OWN_TABLES + PAGE_SIZE | PTE_P | PTE_RW
        ret

kernel_main:
        xor eax, eax                    # checksum
        xor r8d, r8d                    # frame
1:      mov r9d, OWN_TABLES + PAGE_SIZE # the entry
        mov r10d, WINDOW                # the page it maps
next_page:
        mov ecx, r8d
        shl ecx, 12
        add ecx, FREE | PTE_P | PTE_RW
        mov [r9], rcx                   # map: there was nothing before, so nothing is cached
        add rax, [r10]
        add rax, r10
        mov [r10], rax
        mov ecx, [r9]
        and ecx, PTE_A | PTE_D          # both are set by now
        lea rax, [rax + rax * 2]
        add rax, rcx
        and dword ptr [r9], ~PTE_RW     # read-only
        invlpg [r10]
        xor rax, [r10]
        rol rax, 7
        mov qword ptr [r9], 0           # unmap
        invlpg [r10]
        add r8d, 37
        and r8d, FRAMES - 1
        add r9d, 8
        add r10d, PAGE_SIZE
        cmp r9d, OWN_TABLES + PAGE_SIZE + PAGES * 8
        jne next_page
        mov rcx, cr3                    # and once a round everything is invalidated
        mov cr3, rcx
        dec rdi
        jnz 1b
        ret
image_end:
