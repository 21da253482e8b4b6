# tasks: hardware tasks of every kind, for the test that all styles switch them alike.
#
# What the tasks find is appended to LOG, a word each. Paging is on; the task that takes page
# faults has page tables of its own.

        .intel_syntax noprefix
        .code32
        .include "x86.inc"
        .include "multiboot.inc"

.equ LOG, 0x200000
.equ ABSENT, 0x600000                   # nothing is mapped here until it is touched
.equ CODE_SELECTOR, 0x08
.equ DATA_SELECTOR, 0x10
.equ MAIN, 0x18
.equ ADDER, 0x20
.equ GATE, 0x28
.equ CALLED, 0x30
.equ PAGER, 0x38
.equ TRAPPED, 0x40
.equ BROKEN, 0x48
.equ MENDER, 0x50
.equ CLOCK, 0x58
.equ TASK_GATE_RIGHTS, 0x85

# Append EAX to the log.
.macro note
        push edi
        mov edi, [log_end]
        mov [edi], eax
        add dword ptr [log_end], 4
        pop edi
.endm

# A descriptor of a TSS at EAX into GDT slot \selector.
.macro set_tss selector, tss
        mov eax, offset \tss
        mov word ptr [gdt + \selector], 0x67
        mov [gdt + \selector + 2], ax
        shr eax, 16
        mov [gdt + \selector + 4], al
        mov word ptr [gdt + \selector + 5], 0x0089
        mov [gdt + \selector + 7], ah
.endm

.macro task name, entry, directory, flags=2, trap=0
\name:  .long 0, 0, 0, 0, 0, 0, 0
        .long \directory, \entry, \flags
        .long 0, 0, 0, 0
        .long \name\()_stack, 0, 0, 0
        .long DATA_SELECTOR, CODE_SELECTOR, DATA_SELECTOR, DATA_SELECTOR, DATA_SELECTOR, 0
        .long 0
        .word \trap, 0x68
        .skip 256
\name\()_stack:
.endm

.macro set_gate vector, selector
        mov dword ptr [idt + 8 * \vector], (\selector) << 16
        mov dword ptr [idt + 8 * \vector + 4], TASK_GATE_RIGHTS << 8
.endm

        .text
        multiboot_header
        .globl _start
_start:
        mov esp, offset main_stack
        set_tss MAIN, main_tss
        set_tss ADDER, adder_tss
        set_tss CALLED, called_tss
        set_tss PAGER, pager_tss
        set_tss TRAPPED, trapped_tss
        set_tss BROKEN, broken_tss
        set_tss MENDER, mender_tss
        set_tss CLOCK, clock_tss
        mov dword ptr [gdt + GATE], ADDER << 16
        mov dword ptr [gdt + GATE + 4], TASK_GATE_RIGHTS << 8
        set_gate 10, MENDER
        set_gate 14, PAGER
        set_gate 0x20, CLOCK
        set_gate 0x40, CALLED
        mov eax, offset debug
        mov [idt + 8], ax
        mov word ptr [idt + 10], CODE_SELECTOR
        mov word ptr [idt + 12], 0x8e00
        shr eax, 16
        mov [idt + 14], ax
        lgdt [gdt_pointer]
        lidt [idt_pointer]
        jmp CODE_SELECTOR:1f
1:      mov eax, DATA_SELECTOR
        mov ds, eax
        mov es, eax
        mov ss, eax
        mov eax, MAIN
        ltr ax
        # Each directory maps the first 4 MiB to itself.
        mov dword ptr [directory], 0x83
        mov dword ptr [pager_directory], 0x83
        mov eax, cr4
        or eax, CR4_PSE
        mov cr4, eax
        mov eax, offset directory
        mov cr3, eax
        mov eax, cr0
        or eax, CR0_PG
        mov cr0, eax

        call ADDER:0                    # nested, and again behind its IRET
        call GATE:0
        mov eax, [sum]
        note
        int 0x40
        note                            # EAX is main's
        mov eax, cr0                    # TS, of every switch
        and eax, 8
        note
        clts
        mov eax, 0x155
        mov dr7, eax
        mov ecx, 0x1234
        mov [ABSENT + 8], ecx           # the pager maps it
        mov eax, [ABSENT + 8]
        note
        mov eax, dr7                    # local breakpoints went with the switch
        note
        jmp TRAPPED:0
        mov dword ptr [broken_tss + 0x54], CODE_SELECTOR + 0x1000
        call BROKEN:0
        mov eax, 0xb0b
        note
        call start_clock
1:      sti
        hlt
        cli
        cmp dword ptr [ticks], 3
        jb 1b
        mov eax, cr3
        sub eax, offset directory
        note
        str eax
        note
        mov al, 0x10
        out 0xf4, al

# The adder: a coroutine that goes on behind its IRET at the next call.
adder:
        add dword ptr [sum], 5
        iretd
        add dword ptr [sum], 70
        iretd

called:
        pushfd
        pop eax
        and eax, 0x4000                 # NT
        note
        movzx eax, word ptr [called_tss]
        note                            # the link
        iretd
        jmp called

# Runs on its own tables; main's are at the same place in both.
pager:
        pop eax
        note                            # the error code
        mov eax, cr2
        note
        mov eax, [main_tss + 0x1c]
        note
        mov dword ptr [directory + 4], 0x400083
        iretd
        jmp pager

trapped:
        mov eax, 0x7e57
        note
        jmp MAIN:0

debug:
        mov eax, dr6
        note
        mov eax, 0xffff0ff0
        mov dr6, eax
        mov eax, [esp]
        sub eax, offset trapped
        note
        iretd

broken:
        mov eax, 0xbad
        note
        iretd
        jmp broken

# The broken task's DS is no data segment: it faults as that task, which is mended here.
mender:
        pop eax
        note
        mov eax, [broken_tss + 0x20]
        sub eax, offset broken
        note
        mov dword ptr [broken_tss + 0x54], DATA_SELECTOR
        iretd
        jmp mender

clock:
        inc dword ptr [ticks]
        mov al, 0x20
        out 0x20, al
        iretd
        jmp clock

start_clock:
        mov al, 0x11
        out 0x20, al
        out 0xa0, al
        mov al, 0x20
        out 0x21, al
        mov al, 0x28
        out 0xa1, al
        mov al, 4
        out 0x21, al
        mov al, 2
        out 0xa1, al
        mov al, 1
        out 0x21, al
        out 0xa1, al
        mov al, 0xfe
        out 0x21, al
        mov al, 0x34
        out 0x43, al
        mov al, 100
        out 0x40, al
        xor eax, eax
        out 0x40, al
        ret

        .data
        .align 8
gdt:    .quad 0, 0x00cf9a000000ffff, 0x00cf92000000ffff
        .skip 0x60 - 0x18
gdt_pointer:
        .word 0x5f
        .long gdt
idt_pointer:
        .word 0x7ff
        .long idt
log_end: .long LOG
sum:    .long 0
ticks:  .long 0
        .align 4
        task main_tss, 0, directory
        task adder_tss, adder, directory
        task called_tss, called, directory
        task pager_tss, pager, pager_directory
        task trapped_tss, trapped, directory, 2, 1
        task broken_tss, broken, directory
        task mender_tss, mender, directory
        task clock_tss, clock, directory

        .bss
        .align 4096
directory: .skip 4096
pager_directory: .skip 4096
idt:    .skip 0x800
        .skip 4096
main_stack:
