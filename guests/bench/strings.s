# strings: the string instructions with their repeat prefixes.
#
# What you learn: each is a whole loop of the C library: memcpy, memset, memchr, memcmp, and LODS
# in a loop of its own.

        .include "start.inc"

.equ BYTES, 512
.equ SOURCE, 0
.equ COPY, 0x1000
.equ FILLED, 0x2000

kernel_main:
        mov r8, rdi
        mov r9, rsi
        cld
        xor ecx, ecx
        mov eax, 1
fill:   mov [r9 + SOURCE + rcx], al     # 1, 4, 7, ...; 0 comes late
        add eax, 3
        inc ecx
        cmp ecx, BYTES
        jne fill

        xor r10d, r10d                  # checksum
1:      lea rsi, [r9 + SOURCE]          # memcpy
        lea rdi, [r9 + COPY]
        mov ecx, BYTES
        rep movsb
        lea rdi, [r9 + FILLED]          # memset
        mov ecx, BYTES / 8
        mov rax, r10
        rep stosq
        lea rdi, [r9 + COPY]            # memchr
        mov ecx, BYTES
        mov al, 0
        repne scasb
        add r10, rcx
        lea rsi, [r9 + SOURCE]          # memcmp: all equal
        lea rdi, [r9 + COPY]
        mov ecx, BYTES
        repe cmpsb
        sete al
        movzx eax, al
        lea r10, [r10 + rax + 1]
        add r10, [r9 + FILLED + BYTES - 8]
        lea rsi, [r9 + COPY]
        mov ecx, BYTES / 8
sum:    lodsq
        imul r10, r10, 31
        add r10, rax
        dec ecx
        jnz sum
        inc byte ptr [r9 + SOURCE + 5]
        dec r8
        jnz 1b
        mov rax, r10
        ret
image_end:
