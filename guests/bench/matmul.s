# matmul: the product of two matrices of 64-bit integers.
#
# What you learn: the inner loop reads one matrix along its rows and the other down its columns:
# one load with a small stride, one with a large one, a multiplication and an addition.
#
# B is changed by every product, so that no two are the same.

        .include "start.inc"

.equ N, 24
.equ ROW, N * 8
.equ A, 0
.equ B, 0x2000
.equ C, 0x4000

kernel_main:
        push rbx
        push rbp
        xor ecx, ecx
fill:   lea rax, [rcx + rcx * 2 + 1]
        mov [rsi + A + rcx * 8], rax
        lea rax, [rcx + rcx * 4 + 7]
        mov [rsi + B + rcx * 8], rax
        inc ecx
        cmp ecx, N * N
        jne fill

        xor eax, eax                    # checksum
1:      lea r8, [rsi + A]               # the row of A
        lea r11, [rsi + C]
next_row:
        lea r9, [rsi + B]               # the column of B
next_column:
        mov rdx, r8
        mov r10, r9
        xor ebx, ebx
        mov ecx, N
dot:    mov rbp, [rdx]
        imul rbp, [r10]
        add rbx, rbp
        add rdx, 8
        add r10, ROW
        dec ecx
        jnz dot
        mov [r11], rbx
        add rax, rbx
        rol rax, 1
        add r11, 8
        add r9, 8
        lea rdx, [rsi + B + ROW]
        cmp r9, rdx
        jne next_column
        add r8, ROW
        lea rdx, [rsi + A + N * ROW]
        cmp r8, rdx
        jne next_row
        xor [rsi + B], rax
        dec rdi
        jnz 1b
        pop rbp
        pop rbx
        ret
image_end:
