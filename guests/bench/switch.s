# switch: four processes that take turns, each in an address space of its own.
#
# What you learn: a context switch is a stack switch. `yield` pushes what a function must keep,
# exchanges RSP and CR3, and pops what the other process had pushed. Each process finds its own
# frames at the same addresses, so every switch makes all translations of them worthless.

.set SETUP, 1
        .include "start.inc"

.equ PROCESSES, 4
.equ PRIVATE, 0x40000000        # the second GiB: here the address spaces differ
.equ PRIVATE_PAGES, 4
.equ TABLES, 4 * PAGE_SIZE      # of a process: PML4, PDPT, page directory, page table
.equ STACKS, OWN_TABLES + PROCESSES * TABLES
.equ CONTEXTS, STACKS + PROCESSES * PAGE_SIZE   # saved RSP and CR3 of each process, then ours
.equ OURS, CONTEXTS + PROCESSES * 16

setup:
        mov edi, OWN_TABLES
        mov r8d, FREE | PTE_P | PTE_RW          # the next private frame
1:      lea eax, [rdi + PAGE_SIZE + PTE_P + PTE_RW]
        mov [rdi], rax                          # PML4: our own PDPT
        mov rax, [PDPT]
        mov [rdi + PAGE_SIZE], rax              # first GiB: shared
        lea eax, [rdi + 2 * PAGE_SIZE + PTE_P + PTE_RW]
        mov [rdi + PAGE_SIZE + 8], rax
        lea eax, [rdi + 3 * PAGE_SIZE + PTE_P + PTE_RW]
        mov [rdi + 2 * PAGE_SIZE], rax
        xor ecx, ecx
2:      mov [rdi + 3 * PAGE_SIZE + rcx * 8], r8
        add r8, PAGE_SIZE
        inc ecx
        cmp ecx, PRIVATE_PAGES
        jne 2b
        add edi, TABLES
        cmp edi, OWN_TABLES + PROCESSES * TABLES
        jne 1b
        ret

kernel_main:
        push rbx
        push rbp
        push r12
        push r13
        push r14
        push r15

        # Give every process a stack from which `yield` can pop: RBX is its number plus one, RBP
        # how often it is to run, R12 its own entry in CONTEXTS.
        xor ecx, ecx
        mov r8d, STACKS + PAGE_SIZE
        mov r9d, OWN_TABLES
        mov r12d, CONTEXTS
1:      lea rax, [rip + process]
        mov [r8 - 8], rax
        lea eax, [rcx + 1]
        mov [r8 - 16], rax                      # RBX
        mov [r8 - 24], rdi                      # RBP
        mov [r8 - 32], r12                      # R12
        lea rax, [r8 - 56]                      # and R13 to R15
        mov [r12], rax
        mov [r12 + 8], r9
        add r8, PAGE_SIZE
        add r9, TABLES
        add r12, 16
        inc ecx
        cmp ecx, PROCESSES
        jne 1b

        mov [OURS], rsp
        mov rax, cr3
        mov [OURS + 8], rax
        mov r12d, CONTEXTS
        jmp resume

# The last process has run as often as it should: back to who called kernel_main.
finished:
        mov rsp, [OURS]
        mov rax, [OURS + 8]
        mov cr3, rax
        xor eax, eax
        mov ecx, FREE                           # all private frames, in order
1:      imul rax, rax, 31
        add rax, [rcx]
        add ecx, PAGE_SIZE
        cmp ecx, FREE + PROCESSES * PRIVATE_PAGES * PAGE_SIZE
        jne 1b
        pop r15
        pop r14
        pop r13
        pop r12
        pop rbp
        pop rbx
        ret

# What every process does: a little work on each of its pages.
process:
        mov edx, PRIVATE
1:      add rbx, [rdx]
        rol rbx, 3
        mov [rdx], rbx
        add edx, PAGE_SIZE
        cmp edx, PRIVATE + PRIVATE_PAGES * PAGE_SIZE
        jne 1b
        dec rbp
        jnz 2f
        cmp r12d, CONTEXTS + (PROCESSES - 1) * 16
        je finished
2:      call yield
        jmp process

# Let the next process run; returns when it is this one's turn again.
yield:  push rbx
        push rbp
        push r12
        push r13
        push r14
        push r15
        mov [r12], rsp
        add r12d, 16
        cmp r12d, CONTEXTS + PROCESSES * 16
        jne resume
        mov r12d, CONTEXTS
resume: mov rsp, [r12]
        mov rax, [r12 + 8]
        mov cr3, rax
        pop r15
        pop r14
        pop r13
        pop r12
        pop rbp
        pop rbx
        ret
image_end:
