# exits: executes the instructions that leave VMX non-root operation, and prints their results.
#
# What it is for: a VMM has to give every one of these instructions the outcome it has on the
# bare machine. The output is the same with and without a VMM, or the VMM is wrong.
#
# What you learn: which instructions a VMM sees. Some exit always (CPUID, VMCALL, INVD, XSETBV),
# some when a control bit says so (HLT, RDTSC, INVLPG, MOV CR3), some for certain operands
# only (I/O ports, MSRs, control-register bits the VMM owns), and some because of what is, or
# is not, behind an address (MMIO). SDM volume 3C, "Instructions That Cause VM Exits".
#
#   privileged.inc   CPUID, MSRs, TLB and cache, time, VMX
#   registers.inc    control and debug registers, descriptor-table registers
#   io.inc           IN, OUT and their string forms
#   mmio.inc         the local APIC's registers, touched by many kinds of instructions
#   waiting.inc      HLT and the interrupts that end it, PAUSE, MONITOR and MWAIT
#
# What the processor does not advertise by CPUID is not tried, except where #UD is the answer.

        .intel_syntax noprefix
        .include "../include/x86.inc"
        .include "../include/ports.inc"

        .text
        .include "../include/serial.inc"
        .include "../include/catch.inc"

        .globl _start
_start:
        lea rsp, [rip + stack_top]
        call serial_init
        call catch_init
        call test_cpuid
        call test_msrs
        call test_control_registers
        call test_debug_registers
        call test_descriptor_tables
        call test_invalidation
        call test_time
        call test_vmx
        call test_ports
        call test_lapic_mmio
        call test_ioapic_mmio
        call test_waiting
        call test_x2apic
        print "exits: done\n"
        power_off

        .include "privileged.inc"
        .include "registers.inc"
        .include "io.inc"
        .include "mmio.inc"
        .include "waiting.inc"

        .bss
        .align 16
        .skip 8192
stack_top:
