# list: loads that wait for one another.
#
# What you learn: 4096 nodes of a cache line each, linked in an order that jumps about, so that
# neither the processor nor anything that emulates it can know the next address early.

        .include "start.inc"

.equ NODES, 4096
.equ NODE_SHIFT, 6
.equ STEP, 1663                 # odd, so that the list passes through every node
.equ NEXT, 0
.equ VALUE, 8

kernel_main:
        xor ecx, ecx
build:  mov eax, ecx
        shl eax, NODE_SHIFT
        lea edx, [rcx + STEP]
        and edx, NODES - 1
        shl edx, NODE_SHIFT
        add rdx, rsi
        mov [rsi + rax + NEXT], rdx
        mov [rsi + rax + VALUE], rcx
        inc ecx
        cmp ecx, NODES
        jne build

        xor eax, eax                    # checksum
1:      mov rdx, rsi
        mov ecx, NODES
follow: add rax, [rdx + VALUE]
        mov rdx, [rdx + NEXT]
        dec ecx
        jnz follow
        rol rax, 1
        dec rdi
        jnz 1b
        ret
image_end:
