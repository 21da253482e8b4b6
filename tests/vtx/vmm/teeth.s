# teeth: a short guest that leans on everything a VMM can get wrong, for the tests of compare.
#
# Nothing is printed: each finding is stored in `results`, so that a wrong one shows in memory.
# Exceptions are noted too, and the guest goes on behind the place that raised them.

        .intel_syntax noprefix
        .include "x86.inc"
        .include "ports.inc"

.equ PAGE, 0x8000000000         # the first page of PML4 slot 1, which is ours
.equ FRAME_A, 0x400000
.equ FRAME_B, 0x402000
.equ FRAMES, 0x410000           # one after the other, for pages that are only touched once
.equ FRESH_STACK, 0x600000      # RAM that nothing has touched
.equ SELF_VECTOR, 0x30
.equ TIMER_VECTOR, 0x31
.equ SPURIOUS_VECTOR, 0x3f

# Append a register to the results.
.macro note register
        mov [r15], \register
        add r15, 8
.endm

# Run \code; if it faults, the handler notes that and continues behind it.
.macro attempt code
        lea r14, [rip + 8f]
        \code
8:
.endm

        .text
        .globl _start
_start:
        lea r15, [rip + results]
        call tables_init
        call traps_init
        call pages
        call instructions
        call interrupts
        power_off

# --- paging ----------------------------------------------------------------------------------

tables_init:
        mov rax, cr3
        lea rdx, [rip + pdpt]
        or rdx, PTE_P | PTE_RW
        mov [rax + 8], rdx
        lea rdx, [rip + pd]
        or rdx, PTE_P | PTE_RW
        mov [rip + pdpt], rdx
        lea rdx, [rip + pt]
        or rdx, PTE_P | PTE_RW
        mov [rip + pd], rdx
        read_msr MSR_EFER
        or rax, EFER_NXE
        write_msr MSR_EFER
        mov rax, cr0
        or rax, CR0_WP
        mov cr0, rax
        mov rax, 0x1111
        mov [FRAME_A], rax
        mov byte ptr [FRAME_A + 16], 0xc3       # a RET
        mov rax, 0x2222
        mov [FRAME_B], rax
        ret

pages:
        mov rdi, PAGE
        # Accessed and dirty flags: after a read, after a write.
        mov qword ptr [rip + pt], FRAME_A | PTE_P | PTE_RW
        mov rax, [rdi]
        note rax
        mov rax, [rip + pt]
        note rax
        mov qword ptr [rdi + 8], 0x3333
        mov rax, [rip + pt]
        note rax
        # The flags are cleared and must come again.
        and qword ptr [rip + pt], ~(PTE_A | PTE_D)
        invlpg [rdi]
        mov rax, [rdi]
        mov rax, [rip + pt]
        note rax
        mov qword ptr [rdi + 8], 0x4444
        mov rax, [rip + pt]
        note rax
        # Another frame behind the same page.
        mov qword ptr [rip + pt], FRAME_B | PTE_P | PTE_RW
        invlpg [rdi]
        mov rax, [rdi]
        note rax
        mov qword ptr [rdi + 8], 0x5555
        # And again, with a load of CR3 in place of INVLPG.
        mov qword ptr [rip + pt], FRAME_A | PTE_P | PTE_RW
        mov rax, cr3
        mov cr3, rax
        mov rax, [rdi]
        note rax
        # Read-only, and read before it is written.
        mov qword ptr [rip + pt], FRAME_A | PTE_P
        invlpg [rdi]
        mov rax, [rdi]
        attempt "mov qword ptr [rdi + 8], 0x6666"
        # No execution, and read before it is called.
        mov rax, FRAME_A | PTE_P
        bts rax, PTE_NX_BIT
        mov [rip + pt], rax
        invlpg [rdi]
        mov rax, [rdi]
        lea rsi, [rdi + 16]
        attempt "call rsi"
        # Executable again.
        mov qword ptr [rip + pt], FRAME_A | PTE_P
        invlpg [rdi]
        call rsi
        # Not present.
        mov qword ptr [rip + pt], 0
        invlpg [rdi]
        attempt "mov rax, [rdi]"
        # Many pages, written once each, one frame behind the other.
        lea rbx, [rip + pt]
        mov ecx, 8
1:      mov rax, rcx
        shl rax, 12
        lea rdx, [rax + FRAMES + PTE_P + PTE_RW]
        mov [rbx + rcx * 8], rdx
        mov [rdi + rax], rcx
        dec ecx
        jnz 1b
        ret

# --- instructions that exit ------------------------------------------------------------------

instructions:
        xor eax, eax
        cpuid
        note rbx
        mov eax, 1
        cpuid
        note rdx
        xor eax, eax
        in al, 0x80                     # nobody there: all ones, in 8 bits only
        note rax
        mov eax, -1
        in ax, 0x80
        note rax
        rdtsc
        note rax
        mov rax, cr4
        note rax
        mov rax, cr0
        note rax
        mov ecx, MSR_PAT
        rdmsr
        xor eax, 0x01000000
        wrmsr
        rdmsr
        note rax
        invd
        nop
        nop
        note rsp
        ret

# --- interrupts --------------------------------------------------------------------------------

interrupts:
        mov ebx, LAPIC
        mov dword ptr [rbx + LAPIC_SPURIOUS], LAPIC_ENABLE | SPURIOUS_VECTOR
        mov dword ptr [rbx + LAPIC_DIVIDE], LAPIC_DIVIDE_BY_1
        # From ourselves: STI holds it back over one instruction, which here exits.
        mov dword ptr [rbx + LAPIC_ICR_HIGH], 0
        mov dword ptr [rbx + LAPIC_ICR_LOW], 0x40000 | SELF_VECTOR
        sti
        invd
        nop
        nop
        nop
        # On a stack that has never been touched: delivery itself needs a page.
        cli
        mov r13, rsp
        mov dword ptr [rbx + LAPIC_ICR_LOW], 0x40000 | SELF_VECTOR
        mov rsp, FRESH_STACK
        sti
        nop
        nop
        nop
        cli
        mov rsp, r13
        # From the timer, into a loop that counts.
        mov dword ptr [rbx + LAPIC_LVT_TIMER], TIMER_VECTOR
        mov dword ptr [rbx + LAPIC_INITIAL_COUNT], 300
        xor ecx, ecx
        sti
1:      inc ecx
        cmp dword ptr [rip + timer_seen], 0
        je 1b
        cli
        note rcx
        # And once more, asleep.
        mov dword ptr [rbx + LAPIC_INITIAL_COUNT], 700
        sti
        hlt
        cli
        rdtsc
        note rax
        ret

self_interrupt:
        push rax
        mov rax, [rsp + 8]
        note rax
        jmp end_of_interrupt
timer_interrupt:
        push rax
        mov rax, [rsp + 8]
        note rax
        inc dword ptr [rip + timer_seen]
end_of_interrupt:
        mov eax, LAPIC
        mov dword ptr [rax + LAPIC_EOI], 0
        pop rax
        iretq

page_fault:
        pop rax
        note rax
        mov rax, cr2
        note rax
        mov rax, [rsp]
        note rax
        mov [rsp], r14
        mov rax, [rip + expected_stack]
        mov [rsp + 24], rax             # as it was before a call that did not return
        iretq

.macro gate vector, handler
        lea rdi, [rip + idt + \vector * 16]
        lea rsi, [rip + \handler]
        mov eax, 0x8e
        write_interrupt_gate
.endm

traps_init:
        lgdt [rip + gdt_pointer]
        pop rdx
        push 8
        push rdx
        gate VECTOR_PF, page_fault
        gate SELF_VECTOR, self_interrupt
        gate TIMER_VECTOR, timer_interrupt
        lidt [rip + idt_pointer]
        lea rax, [rsp + 8]              # as it is inside `pages`, which `_start` calls as well
        mov [rip + expected_stack], rax
        mov eax, 16
        mov ss, eax
        mov ds, eax
        mov es, eax
        retfq

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
expected_stack: .quad 0
timer_seen:     .long 0

        .bss
        .align 4096
pdpt:   .skip 4096
pd:     .skip 4096
pt:     .skip 4096
idt:    .skip 0x40 * 16
results: .skip 4096
