# hello: the smallest guest that says something and ends well.
#
# What it is for: if this prints, then loading, 64-bit entry, port output and power-off work.
# What you learn: how a plain ELF64 guest starts (64-bit long mode, paging on with the first
# 4 GiB mapped to themselves, interrupts off, a stack in RSP, boot information in RDI), how a
# byte reaches the serial port, and how a guest turns the machine off.
#
# Nothing here needs an IDT or page tables of its own: as long as no instruction faults and
# interrupts stay off, the state the loader left is enough.

        .intel_syntax noprefix
        .include "../include/ports.inc"

        .text
        .globl _start
_start:
        lea rsi, [rip + greeting]
        mov dx, COM1            # I/O ports above 255 are only reached through DX
next_byte:
        lodsb                   # AL = [RSI], and RSI moves on
        test al, al
        jz done                 # the NUL that ends the string
        out dx, al              # under a VMM each of these is one I/O exit
        jmp next_byte
done:
        power_off

        .section .rodata
greeting:
        .asciz "Hello from a 64-bit guest.\n"
