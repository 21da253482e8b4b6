# loop: never ends.
#
# What it is for: whoever runs a guest needs a way to stop one that does not end by itself: an
# instruction budget, or an interrupt from the keyboard. This guest is what they are tried on.
#
# What you learn: with interrupts off, a jump to itself is for ever. HLT with interrupts off
# would be for ever too, but there the machine can see that nothing more will happen.

        .intel_syntax noprefix

        .text
        .globl _start
_start:
        jmp _start
