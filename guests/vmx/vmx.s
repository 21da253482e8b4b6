# vmx: a hypervisor in VMX root operation, and a guest that does what it is told.
#
# What it is for: everything VT-x does, one step at a time, on the processor itself and not
# through a VMM. Run it with VMX shown: vtx run guests/vmx/vmx.s --cpu haswell,+vmx --vmm bare
#
# What you learn, in the order of the steps: how VMX operation is entered and what its
# instructions refuse (operation.inc); how a VMCS is filled (setup.inc) and a guest entered and
# left (enter.inc); which instructions exit and what the exit tells (exits.inc); control registers
# (registers.inc); exceptions, interrupts, NMIs, timers and how events are injected
# (events.inc); address translation by EPT and VPIDs (memory.inc); entries that fail and areas
# of MSRs (failures.inc).
#
# Each step prints "ok NAME", or a line for everything that is not as the SDM says.

        .intel_syntax noprefix
        .include "../include/x86.inc"
        .include "../include/ports.inc"
        .include "../include/serial.inc"
        .include "../include/catch.inc"
        .include "names.inc"

.equ GUEST_VECTORS, 0x40

        .include "steps.inc"
        .include "enter.inc"
        .include "operation.inc"
        .include "setup.inc"
        .include "exits.inc"
        .include "registers.inc"
        .include "events.inc"
        .include "memory.inc"
        .include "failures.inc"

        .text
        .globl _start
_start:
        call serial_init
        call catch_init
        call guest_idt_init
        call vmx_operation
        call setup_vmcs
        call instruction_exits
        call register_exits
        call events
        call memory
        call failed_entries
        call unpaged_guest
        begin "VMXOFF"
        check_status VM_SUCCEED, "vmxoff"
        check_fault VECTOR_UD, "vmptrst [rip + scratch]"
        check_fault 0xffffffff, "mov rax, cr4; and eax, ~CR4_VMXE; mov cr4, rax"
        finish
        cmp dword ptr [rip + failures], 0
        jne 1f
        power_off
1:      mov al, 1
        out DEBUG_EXIT, al
