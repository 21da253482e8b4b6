# triple: ends in a triple fault.
#
# What it is for: a fault, a second one while delivering it (double fault), and a third while
# delivering that leave the processor without anything to run. It shuts down, and a PC resets.
# Under a VMM this is the TRIPLE_FAULT exit.
#
# What you learn: how little it takes. With an IDT of length zero no exception has a gate, so
# UD2 raises #UD, which raises #GP, which makes #DF, which raises #GP: three.

        .intel_syntax noprefix

        .text
        .globl _start
_start:
        lidt [rip + empty_idt]
        ud2

        .section .rodata
        .align 8
empty_idt:
        .word 0
        .quad 0
