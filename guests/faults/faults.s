# faults: raises every exception that can be reached, and prints what the handler was given.
#
# What it is for: the vector, the error code, CR2 and the stack of an exception must be exactly
# right, alone, nested in the delivery of another, and whichever VMM stands in between. A VMM
# that uses page faults itself (shadow paging) has to tell its own from the guest's.
#
# What you learn: for each vector an instruction that raises it; how error codes are made up;
# what happens when delivering an exception faults; how a handler returns to the instruction
# after it has repaired the cause. SDM volume 3A, "Interrupt and Exception Handling".
#
#   simple.inc     one fault at a time, in ring 0
#   pages.inc      page faults, and the page tables that cause them
#   ring3.inc      what ring 3 may not do
#   compat.inc     32-bit code: #OF, #BR and segment limits, which 64-bit code does not have
#   nested.inc     faults during the delivery of faults, and handlers that return
#
# Not reached: #NM and #MF (they belong to an x87 FPU), #MC, and #XM.

        .intel_syntax noprefix
        .include "../include/x86.inc"
        .include "../include/ports.inc"

# A linear address of each kind of page that pages.inc makes.
.equ USER_ALIAS, 0x8000000000           # the first 2 MiB again, open to ring 3
.equ TEST_PAGES, 0x10000000000
.equ ABSENT_PAGE, TEST_PAGES
.equ READ_ONLY_PAGE, TEST_PAGES + 0x1000
.equ NO_EXECUTE_PAGE, TEST_PAGES + 0x2000
.equ RESERVED_BIT_PAGE, TEST_PAGES + 0x3000
.equ USER_PAGE, TEST_PAGES + 0x4000
.equ USER_READ_ONLY_PAGE, TEST_PAGES + 0x5000
.equ USER_NO_EXECUTE_PAGE, TEST_PAGES + 0x6000
.equ KERNEL_PAGE, TEST_PAGES + 0x7000   # the page after this one is absent
.equ NOT_CANONICAL, 0x0000800000000000

        .text
        .include "../include/serial.inc"
        .include "../include/catch.inc"

        .globl _start
_start:
        lea rsp, [rip + stack_top]
        call serial_init
        call catch_init
        call pages_init
        call test_simple
        call test_pages
        call test_ring3
        call test_compat
        call test_returning
        call test_nested
        print "faults: done\n"
        power_off

        .include "simple.inc"
        .include "pages.inc"
        .include "ring3.inc"
        .include "compat.inc"
        .include "nested.inc"

        .bss
        .align 16
        .skip 8192
stack_top:
