# vmx-more: the VT-x features that came after the first ones, in VMX root operation.
#
# What it is for: one step for each later feature, on the processor itself. Read guests/vmx
# first; the way into VMX operation, into the guest and back is the one there.
# Run it with: vtx run guests/vmx-more/vmx-more.s --cpu max,+vmx --vmm bare
#
# What you learn, in the order of the steps: how the guest's clock is scaled and how loops of
# PAUSE are found (time.inc); what the newer bits of EPT do, how written pages are logged, how a
# guest switches between address spaces and handles its own EPT violations (memory.inc); how a
# guest that is a VMM itself reads and writes its VMCS without exits (shadow.inc).
#
# Each step prints "ok NAME", or a line for everything that is not as the SDM says.

        .intel_syntax noprefix
        .include "../include/x86.inc"
        .include "../include/ports.inc"
        .include "../include/serial.inc"
        .include "../include/catch.inc"
        .include "../vmx/names.inc"
        .include "names.inc"

.equ GUEST_VECTORS, 0x40

        .include "../vmx/steps.inc"
        .include "../vmx/enter.inc"
        .include "../vmx/setup.inc"
        .include "start.inc"
        .include "time.inc"
        .include "memory.inc"
        .include "shadow.inc"

        .text
        .globl _start
_start:
        call serial_init
        call catch_init
        call guest_idt_init
        call start_vmx
        call setup_vmcs
        call guest_time
        call guest_memory
        call shadow_vmcs
        vmxoff
        cmp dword ptr [rip + failures], 0
        jne 1f
        power_off
1:      mov al, 1
        out DEBUG_EXIT, al
