# crc32: a table lookup for every byte, each depending on the one before.
#
# What you learn: the CRC of Ethernet and ZIP a byte at a time. The table holds the remainders
# of all single bytes; it is computed first, bit by bit.

        .include "start.inc"

.equ POLYNOMIAL, 0xedb88320             # bits reversed: the lowest bit is the highest power
.equ TABLE, 0
.equ BUFFER, 0x1000
.equ BUFFER_SIZE, 4096

kernel_main:
        xor ecx, ecx
next_entry:
        mov eax, ecx
        mov edx, 8
next_bit:
        mov r8d, eax
        and r8d, 1
        neg r8d                         # all ones if the bit that falls out is 1
        and r8d, POLYNOMIAL
        shr eax, 1
        xor eax, r8d
        dec edx
        jnz next_bit
        mov [rsi + TABLE + rcx * 4], eax
        inc ecx
        cmp ecx, 256
        jne next_entry

        xor ecx, ecx                    # something to sum: byte i is 167 i + 13
        mov eax, 13
fill:   mov [rsi + BUFFER + rcx], al
        add eax, 167
        inc ecx
        cmp ecx, BUFFER_SIZE
        jne fill

        mov eax, -1
1:      lea r8, [rsi + BUFFER]
        lea r9, [rsi + BUFFER + BUFFER_SIZE]
next_byte:
        movzx ecx, byte ptr [r8]
        movzx edx, al
        xor ecx, edx
        shr eax, 8
        xor eax, [rsi + TABLE + rcx * 4]
        inc r8
        cmp r8, r9
        jne next_byte
        dec rdi
        jnz 1b
        not eax
        ret
image_end:
