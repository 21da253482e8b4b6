# calls: recursion, and hardly anything else.
#
# What you learn: Fibonacci numbers by their definition. Every call saves a register, and every
# return is an indirect branch that only a return-address cache can foresee.

        .include "start.inc"

.equ N, 16

kernel_main:
        push rbx
        push rbp
        mov rbp, rdi
        xor ebx, ebx                    # checksum
1:      mov edi, N
        call fibonacci
        imul rbx, rbx, 31
        add rbx, rax
        dec rbp
        jnz 1b
        mov rax, rbx
        pop rbp
        pop rbx
        ret

# RAX: Fibonacci number EDI. Keeps RBX.
fibonacci:
        cmp edi, 2
        jae 1f
        mov eax, edi
        ret
1:      push rbx
        push rdi
        dec edi
        call fibonacci
        mov rbx, rax
        pop rdi
        sub edi, 2
        call fibonacci
        add rax, rbx
        pop rbx
        ret
image_end:
