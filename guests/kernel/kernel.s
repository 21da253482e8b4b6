# kernel: a small real 64-bit kernel that runs four processes and then powers off.
#
# What it is for: it does what every kernel does and a VMM must get right: its own page
# tables, GDT, IDT and TSS, timer interrupts that preempt ring-3 code, system calls,
# switching between address spaces, demand paging, copy-on-write fork, and killing a process
# that touches what is not its own. At the end it prints how often each of these happened.
#
# What you learn: the order in which a kernel takes over a CPU (this file), and then one
# subject per file:
#   layout.inc    addresses and record layouts that all the others use
#   memory.inc    physical frames, the kernel's page tables, page faults, copy-on-write
#   traps.inc     how control gets into the kernel and back out
#   process.inc   the process table, the scheduler, fork, exit, wait
#   syscalls.inc  the system calls
#   programs.inc  the ring-3 programs
#
# The address space of a process has two parts. The lowest 512 GiB (PML4 slot 0) are the
# kernel's, the same in all of them and closed to ring 3. PML4 slot 1 is the process's own:
#   USER_BASE              the programs' code, shared and read-only
#   USER_BASE + 0x100000   heap: pages appear when they are first touched
#   USER_BASE + 0x200000   end of the stack, whose pages appear in the same way
#
# The kernel itself is never preempted: it runs with interrupts off, except while idle.
# Labels name the events, so that a trace with symbols reads as a story: timer_preempt,
# syscall_entry, demand_fault, cow_copy, kill_process, switch_address_space.

        .intel_syntax noprefix
        .include "../include/x86.inc"
        .include "../include/ports.inc"
        .include "layout.inc"

.equ TIMER_PERIOD, 1500

        .section .rodata
        .align 4096
rodata_start:

        .text
text_start:
        .include "../include/serial.inc"

        .globl _start
_start:
        lea rsp, [rip + kernel_stack_top]
        call serial_init
        call check_memory       # RDI still points to the boot information
        call paging_init
        call traps_init
        call timer_init
        print "kernel: up\n"
        lea rdi, [rip + program_counting]
        call process_create
        lea rdi, [rip + program_family]
        call process_create
        lea rdi, [rip + program_intruder]
        call process_create
        call schedule           # picks the first process; its frame says where it starts
        jmp return_to_user

# The last process has ended. Say what happened and power off.
shutdown:
        print "kernel: no processes left\n"
        print_decimal_line "timer ticks", [rip+count_timer_tick]
        print_decimal_line "timer preemptions", [rip+count_timer_preempt]
        print_decimal_line "address space switches", [rip+count_switch]
        print_decimal_line "address spaces", [rip+count_address_space]
        print_decimal_line "system calls", [rip+count_syscall]
        print_decimal_line "demand faults", [rip+count_demand_fault]
        print_decimal_line "copy-on-write copies", [rip+count_cow_copy]
        print_decimal_line "copy-on-write reuses", [rip+count_cow_reuse]
        print_decimal_line "processes killed", [rip+count_kill_process]
        print_decimal_line "frames still in use", [rip+frames_in_use]
        print "kernel: done\n"
        power_off

# The kernel itself did something wrong, RSI says what. Ends with exit status 3.
panic:
        print "kernel: panic: "
        call print_string
        call print_newline
        mov al, 1
        out DEBUG_EXIT, al
1:      cli
        hlt
        jmp 1b

        .include "memory.inc"
        .include "traps.inc"
        .include "process.inc"
        .include "syscalls.inc"
        .include "programs.inc"

# The ends of the three parts of the image, which are mapped with different rights.
        .text
        .align 4096, 0xcc
text_end:

        .section .rodata
        .align 4096
rodata_end:

        .data
        .align 8
count_timer_tick:       .quad 0
count_timer_preempt:    .quad 0
count_switch:           .quad 0
count_address_space:    .quad 0
count_syscall:          .quad 0
count_demand_fault:     .quad 0
count_cow_copy:         .quad 0
count_cow_reuse:        .quad 0
count_kill_process:     .quad 0
frames_in_use:          .quad 0

        .bss
        .align 16
kernel_stack:
        .skip 8192
kernel_stack_top:
image_end:
