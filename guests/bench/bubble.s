# bubble: bubble sort, whose branches depend on the data.
#
# What you learn: neighbours in the wrong order change places; after pass k the k largest numbers
# stand at the end. Whether two change places is as good as random at first.

        .include "start.inc"

.equ COUNT, 96

kernel_main:
        xor eax, eax                    # checksum
1:      mov edx, 2024
        xor ecx, ecx
fill:   imul edx, edx, 1664525
        add edx, 1013904223
        mov [rsi + rcx * 4], edx
        inc ecx
        cmp ecx, COUNT
        jne fill
        mov r8d, COUNT - 1
next_pass:
        xor ecx, ecx
next_pair:
        mov edx, [rsi + rcx * 4]
        mov r9d, [rsi + rcx * 4 + 4]
        cmp edx, r9d
        jbe in_order
        mov [rsi + rcx * 4], r9d
        mov [rsi + rcx * 4 + 4], edx
in_order:
        inc ecx
        cmp ecx, r8d
        jne next_pair
        dec r8d
        jnz next_pass
        xor ecx, ecx
sum:    imul rax, rax, 31
        mov edx, [rsi + rcx * 4]
        add rax, rdx
        inc ecx
        cmp ecx, COUNT
        jne sum
        dec rdi
        jnz 1b
        ret
image_end:
