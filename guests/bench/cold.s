# cold: more than 200,000 instructions, each executed once.
#
# What it is for: what it costs an executor to meet code for the first time. Booting is like
# this, and so is every short test.
#
# What you learn: how a loader puts a program at its place. The program below is copied behind
# itself again and again; in every copy the numbers that `varied` has put down in a list are
# changed, as relocation does, so that no two copies are the same bytes. Much remains
# the same: of the instructions of a C library three quarters occur more than once, too.
#
#       kernel_main(how often to execute the copies, data)

        .include "start.inc"

        .ifndef COPIES
.equ COPIES, 128
        .endif
.equ SCRATCH, 0                 # what the program works on
.equ PROGRAM, 0x10000           # where the copies begin

kernel_main:
        push rbx
        push rbp
        push r12
        mov r8, rdi
        mov r9, rsi
        cld
        xor eax, eax                    # equal at every start
        lea rdi, [r9 + SCRATCH]
        mov ecx, 0x1000 / 8
        rep stosq
        lea rdi, [r9 + PROGRAM]
        xor ebx, ebx                    # copy
next_copy:
        mov r10, rdi
        lea rsi, [rip + program]
        mov ecx, (program_end - program) / 8
        rep movsq
        lea rsi, [rip + relocations]
        lea edx, [rbx * 8]              # what is added: a few entries further on
relocate:
        movzx eax, word ptr [rsi]
        add [r10 + rax], edx
        add rsi, 2
        lea rax, [rip + relocations_end]
        cmp rsi, rax
        jne relocate
        inc ebx
        cmp ebx, COPIES
        jne next_copy
        mov byte ptr [rdi], 0xc3        # RET behind the last copy

        xor eax, eax
        test r8, r8
        jz 2f
        mov rsi, r9
        .irp register, rbx, rcx, rdx, rdi, rbp, r9, r10, r11, r12
        mov \register, rax
        .endr
1:      lea r12, [rsi + PROGRAM]
        push r8
        push rsi
        call r12
        pop rsi
        pop r8
        dec r8
        jnz 1b
        imul rax, rax, 31
        add rax, rbx
        imul rax, rax, 31
        add rax, rcx
        imul rax, rax, 31
        add rax, rdx
2:      pop r12
        pop rbp
        pop rbx
        ret

# An instruction whose last four bytes are a number to be varied.
.macro varied instruction:vararg
        \instruction
9:      .text 1
        .word 9b - 4 - program
        .text 0
.endm

# 35 instructions on two registers a and b, 64 and 32 bits of them. RSI is the data.
.macro chunk a, ad, b, bd, at
        varied mov \a, [rsi + SCRATCH + 0x100 + \at]
        add \a, \b
        lea \b, [\a + \a * 2 + 5]
        varied xor \ad, 0x12345670 + \at
        varied mov [rsi + SCRATCH + 0x108 + \at], \a
        test \bd, 4
        jz 1f
        varied add \b, 0x1000 + \at
1:      shl \ad, 3
        movzx \bd, byte ptr [rsi + \at]
        varied sub \bd, dword ptr [rsi + SCRATCH + 0x204 + \at]
        not \b
        varied cmp \ad, 0x40000000 + \at
        jae 2f
        varied add [rsi + SCRATCH + 0x300 + \at], \bd
2:      push \a
        adc \bd, \ad
        imul \b, \a
        varied mov \ad, 0x55aa0000 + \at
        ror \ad, 7
        xor \b, \a
        pop \a
        call 3f
        jmp 4f
3:      varied and \a, 0x7ffffff0
        neg \b
        ret
4:      setc byte ptr [rsi + \at + 8]
        cmovz \a, \b
        movsxd \b, \ad
        varied imul \bd, \ad, 0x10203 + \at
        sbb \a, 7
        xchg \a, \b
        bt \ad, 3
        inc \b
.endm

# The register pairs of one left-hand register.
.macro row a, ad, at
        chunk \a, \ad, rax, eax, (\at + 0x00)
        chunk \a, \ad, rbx, ebx, (\at + 0x08)
        chunk \a, \ad, rcx, ecx, (\at + 0x10)
        chunk \a, \ad, rdi, edi, (\at + 0x18)
        chunk \a, \ad, rbp, ebp, (\at + 0x20)
        chunk \a, \ad, r9, r9d, (\at + 0x28)
        chunk \a, \ad, r11, r11d, (\at + 0x30)
.endm

        .text 1
relocations:                            # the list begins here, in a part behind the program
        .text 0
        .align 8
program:
        row rdx, edx, 0x00
        row rax, eax, 0x40
        row rcx, ecx, 0x80
        row rdi, edi, 0xc0
        row r10, r10d, 0x100
        row r9, r9d, 0x140
        row rbx, ebx, 0x180
        row r12, r12d, 0x1c0
        .align 8
program_end:

        .text 2
relocations_end:
image_end:
