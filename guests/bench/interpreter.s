# interpreter: indirect branches, one for every few instructions.
#
# What you learn: the dispatch loop of a bytecode interpreter, repeated behind every operation
# ("threaded code"), with a table of distances so that it may lie anywhere in memory.
#
# The machine has an accumulator (RAX), a counter (ECX) and four cells of memory. Its program
# runs the counter from 100 down.

        .include "start.inc"

.macro dispatch
        movzx edx, byte ptr [r8]
        inc r8
        movsxd rdx, dword ptr [r9 + rdx * 4]
        add rdx, r9
        jmp rdx
.endm

kernel_main:
        xor eax, eax
        lea r9, [rip + operations]
        mov qword ptr [rsi], 1
        mov qword ptr [rsi + 8], 2
        mov qword ptr [rsi + 16], 3
        mov qword ptr [rsi + 24], 4
1:      lea r8, [rip + program]
        dispatch

op_add:                                 # accumulator += cell
        movzx edx, byte ptr [r8]
        inc r8
        add rax, [rsi + rdx * 8]
        dispatch
op_xor:                                 # accumulator ^= cell
        movzx edx, byte ptr [r8]
        inc r8
        xor rax, [rsi + rdx * 8]
        dispatch
op_store:                               # cell = accumulator
        movzx edx, byte ptr [r8]
        inc r8
        mov [rsi + rdx * 8], rax
        dispatch
op_multiply:                            # accumulator *= the next byte
        movzx edx, byte ptr [r8]
        inc r8
        imul rax, rdx
        dispatch
op_rotate:
        rol rax, 7
        dispatch
op_count:                               # accumulator += counter
        add rax, rcx
        dispatch
op_set:                                 # counter = the next byte
        movzx ecx, byte ptr [r8]
        inc r8
        dispatch
op_loop:                                # until the counter is 0, back by the next byte
        movzx edx, byte ptr [r8]
        inc r8
        dec ecx
        jz 2f
        sub r8, rdx
2:      dispatch
op_end:
        dec rdi
        jnz 1b
        ret

        .align 4
operations:
        .long op_add - operations, op_xor - operations, op_store - operations
        .long op_multiply - operations, op_rotate - operations, op_count - operations
        .long op_set - operations, op_loop - operations, op_end - operations

.equ OP_ADD, 0
.equ OP_XOR, 1
.equ OP_STORE, 2
.equ OP_MULTIPLY, 3
.equ OP_ROTATE, 4
.equ OP_COUNT, 5
.equ OP_SET, 6
.equ OP_LOOP, 7
.equ OP_END, 8

program:
        .byte OP_SET, 100
again:  .byte OP_COUNT, OP_ADD, 0, OP_MULTIPLY, 37, OP_XOR, 1, OP_STORE, 0
        .byte OP_ROTATE, OP_ADD, 2, OP_STORE, 1, OP_XOR, 3, OP_ADD, 1, OP_STORE, 2, OP_ROTATE, OP_STORE, 3
        .byte OP_LOOP, loop_end - again
loop_end:
        .byte OP_END
image_end:
