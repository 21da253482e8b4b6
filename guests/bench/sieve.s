# sieve: byte stores with a growing stride, and a branch that is hard to foresee.
#
# What you learn: the sieve of Eratosthenes with a byte per number. Most of the time goes into
# the loop `strike`: one store, one addition, one comparison.

        .include "start.inc"

.equ LIMIT, 8192

kernel_main:
        xor eax, eax                    # checksum
1:      mov r8, rsi                     # all numbers are prime until struck out
        lea r9, [rsi + LIMIT]
clear:  mov qword ptr [r8], 0
        add r8, 8
        cmp r8, r9
        jne clear
        mov ecx, 2
next_number:
        cmp byte ptr [rsi + rcx], 0
        jne composite
        imul rax, rax, 31
        add rax, rcx
        lea edx, [rcx + rcx]
        cmp edx, LIMIT
        jae composite
strike: mov byte ptr [rsi + rdx], 1
        add rdx, rcx
        cmp rdx, LIMIT
        jb strike
composite:
        inc ecx
        cmp ecx, LIMIT
        jb next_number
        dec rdi
        jnz 1b
        ret
image_end:
