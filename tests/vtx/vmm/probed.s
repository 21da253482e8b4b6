# probed: instructions that are hard to count once, for the tests of probes.
#
# Each label in front of an instruction is a place to probe. What happens on the way: faults
# that are mended, VM exits that a VMM completes, events that are delivered on a page nobody has
# touched, iterations, single steps, another address space, the same code at two addresses.

        .intel_syntax noprefix
        .include "x86.inc"
        .include "ports.inc"

.equ PAGE, 0x8000000000         # the first page of PML4 slot 1, absent until it is touched
.equ FRAME, 0x400000
.equ FRESH_STACK, 0x600000      # RAM that nothing has touched
.equ ALIAS, 0x100000000         # everything below 1 GiB, once more
.equ TRAP_VECTOR, 0x30
.equ TIMER_VECTOR, 0x31

.macro gate vector, handler
        lea rdi, [rip + idt + \vector * 16]
        lea rsi, [rip + \handler]
        mov eax, 0x8e
        write_interrupt_gate
.endm

        .text
        .globl _start
_start:
        lgdt [rip + gdt_pointer]
        lea rax, [rip + 1f]
        push 8
        push rax
        retfq
1:      mov eax, 16
        mov ss, eax
        gate VECTOR_DB, step_over
        gate VECTOR_BP, back
        gate VECTOR_UD, behind
        gate VECTOR_PF, mend
        gate TRAP_VECTOR, back
        gate TIMER_VECTOR, clock
        lidt [rip + idt_pointer]
        call map_more

        mov rbx, PAGE
faulting:
        mov rax, [rbx]                  # once to fault, once to complete
undefined:
        ud2                             # never completes; its handler goes on behind it

        lea rsi, [rip + gdt]
        mov rdi, FRAME
        mov ecx, 5
        cld
string: rep movsb
no_string:
        rep movsb                       # RCX is 0: it retires all the same
port_string:
        rep outsb                       # so here, and it would exit
        xor eax, eax
identity:
        cpuid

        mov r13, rsp
        mov rsp, FRESH_STACK            # delivery itself may exit, half way
software:
        int TRAP_VECTOR
        mov rsp, FRESH_STACK + 0x3000
breakpoint:
        int3
        mov rsp, r13

        push FLAG_TF | 2
        popfq
stepped:
        nop                             # a debug trap follows
        nop

        mov ecx, 3
around: dec ecx                         # in the middle of other instructions
        jnz around

        mov rax, cr3
        mov rdx, rax
        lea rsi, [rip + pml4]
new_space:
        mov cr3, rsi
in_new_space:
        nop
old_space:
        mov cr3, rdx

        call twice
        lea rax, [rip + twice]
        mov rdx, ALIAS
        add rax, rdx
        call rax

        mov ebx, LAPIC
        mov dword ptr [rbx + LAPIC_SPURIOUS], LAPIC_ENABLE | 0x3f
        mov dword ptr [rbx + LAPIC_DIVIDE], LAPIC_DIVIDE_BY_1
        mov dword ptr [rbx + LAPIC_LVT_TIMER], TIMER_VECTOR
        mov dword ptr [rbx + LAPIC_INITIAL_COUNT], 500
        sti
asleep: hlt
        cli
        call last_of_page
        power_off

twice:  ret

# PML4 slot 1 gets tables of its own, and the first GiB a second place.
map_more:
        mov rax, cr3
        lea rdx, [rip + pdpt + PTE_P + PTE_RW]
        mov [rax + 8], rdx
        lea rdx, [rip + pd + PTE_P + PTE_RW]
        mov [rip + pdpt], rdx
        lea rdx, [rip + pt + PTE_P + PTE_RW]
        mov [rip + pd], rdx
        mov rdx, [rax]
        and rdx, -PAGE_SIZE
        mov rcx, [rdx]
        mov [rdx + 4 * 8], rcx
        mov rcx, [rax]                  # another root with the same slots
        mov [rip + pml4], rcx
        mov rcx, [rax + 8]
        mov [rip + pml4 + 8], rcx
        ret

mend:   mov qword ptr [rip + pt], FRAME | PTE_P | PTE_RW
        add rsp, 8
back:   iretq
behind: add qword ptr [rsp], 2
        iretq
step_over:
        and qword ptr [rsp + 16], ~FLAG_TF
        iretq
clock:  push rax
        mov eax, LAPIC
        mov dword ptr [rax + LAPIC_EOI], 0
        pop rax
        iretq

        .align 4096
        .skip 4096 - 2, 0x90
last_of_page:
        mov eax, 1                      # goes on in the next page
        ret

        .data
        .align 8
gdt:    .quad 0, DESCRIPTOR_CODE64, DESCRIPTOR_DATA
gdt_end:
gdt_pointer:
        .word gdt_end - gdt - 1
        .quad gdt
        .align 8
idt_pointer:
        .word 0x40 * 16 - 1
        .quad idt

        .bss
        .align 4096
pml4:   .skip 4096
pdpt:   .skip 4096
pd:     .skip 4096
pt:     .skip 4096
idt:    .skip 0x40 * 16
