# cpuid-exit: VM exits, one after the other.
#
# What you learn: CPUID leaves VMX non-root operation always, whatever the VMM wants. Without a
# VMM it is an instruction like others.
#
# With BASELINE defined the same loop has another instruction in its place. The difference of the
# two, divided by 8 an iteration, is the price of one exit and entry.

        .include "start.inc"

.macro event
        xor eax, eax
        .ifdef BASELINE
        mov ebx, eax
        .else
        cpuid
        .endif
.endm

kernel_main:
        push rbx
        xor esi, esi                    # checksum: CPUID tells of the machine, so count only
1:      .rept 8
        event
        inc rsi
        .endr
        dec rdi
        jnz 1b
        mov rax, rsi
        pop rbx
        ret
image_end:
