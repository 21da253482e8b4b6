# firmware: a hypervisor that is started instead of an operating system.
#
# What it is for: everything the Python VMMs of vtx do to give a guest a PC of its own, done by
# software that runs on the processor itself, in VMX root operation. It is the only software on
# the machine (a "Type 1" hypervisor): the loader starts it in 64-bit mode, the guest's image
# comes along as the first Multiboot module, and from then on the processor switches between
# this program and the guest by VM entries and VM exits.
#
# How to read it, in this order:
#
#   boot.inc      what the loader gave us; memory divided; VMX operation entered
#   vmcs.inc      the VMCS: what makes the guest exit, what we are, what the guest starts as
#   ept.inc       guest-physical memory, a page when it is first touched
#   loader.inc    the guest's image (ELF64, or Multiboot ELF32) into the guest's memory
#   bootinfo.inc  what a loader leaves in low memory for the guest
#   exits.inc     the inner loop: VM exit, find the handler, VM entry
#   clock.inc     the guest's time, from which our own is hidden
#   events.inc    interrupts into the guest, and events whose delivery a VM exit cut short
#   step.inc      how the guest executes one instruction under our eyes
#   cpuid.inc, control.inc, msr.inc        instructions that exit, by kind
#   io.inc, string.inc, mmio.inc           how the guest reaches its devices
#   com1.inc, pic.inc, pit.inc, lapic*.inc, ioapic.inc, cmos.inc   those devices
#   shutdown.inc  how it all ends
#
# Conventions: RBX, RBP and R12 to R15 survive calls, other registers do not. A handler of a VM
# exit may change all registers: the guest's are in memory meanwhile. R11 belongs to the macros
# that read and write the VMCS.
#
# vtx reads the symbols monitor_*, guest_* and vm_exit: vtx/vmm/firmware.py says which.

        .intel_syntax noprefix
        .include "../guests/include/x86.inc"
        .include "../guests/include/ports.inc"
        .include "../guests/include/multiboot.inc"
        .include "../guests/vmx/names.inc"
        .include "names.inc"

        .include "boot.inc"
        .include "vmcs.inc"
        .include "ept.inc"
        .include "loader.inc"
        .include "bootinfo.inc"
        .include "exits.inc"
        .include "clock.inc"
        .include "events.inc"
        .include "step.inc"
        .include "cpuid.inc"
        .include "control.inc"
        .include "msr.inc"
        .include "io.inc"
        .include "string.inc"
        .include "mmio.inc"
        .include "com1.inc"
        .include "pic.inc"
        .include "pit.inc"
        .include "lapic.inc"
        .include "lapic_timer.inc"
        .include "lapic_ipi.inc"
        .include "lapic_registers.inc"
        .include "ioapic.inc"
        .include "cmos.inc"
        .include "shutdown.inc"
