# smp: a Multiboot kernel that starts the other processors and has them work together.
#
# What it is for: it uses every way in which processors of one machine meet: start-up through a
# real-mode trampoline, interrupts of each kind and destination, locks, a TLB shootdown, code
# that one changes and others run, and the local APIC in each of its modes.
#
# What you learn: only one processor, the bootstrap processor, runs when a kernel is entered.
# The others wait for a start-up IPI, whose vector is the number of a page below 1 MiB. There
# they begin in real mode, with nothing but CS and IP set, and have to go all the way to 64-bit
# mode by themselves. From then on they sleep, and an interrupt tells them what to do.
#
# Start it with four processors:  vtx run smp.s --smp 4

        .intel_syntax noprefix
        .code32
        .include "../include/x86.inc"
        .include "../include/ports.inc"
        .include "../include/multiboot.inc"

.equ CPUS, 4
.equ OTHERS, CPUS - 1
.equ TRAMPOLINE, 0x8000                 # below 1 MiB, at the start of a page
.equ KERNEL_CS, 0x08
.equ KERNEL_DS, 0x10
.equ CODE32, 0x18
.equ STACK_SHIFT, 12
.equ ROUNDS, 500                        # how often each processor takes the lock
.equ WINDOW, 0x40000000                 # a linear page, mapped to one frame or another
.equ FRAME_A, 0x300000
.equ FRAME_B, 0x301000

# The local APIC: physical addresses, and where they are mapped: displacements are signed in
# 64-bit mode, so they do not reach it where it is. The x2APIC MSR of a register is 0x800 + (its
# offset >> 4).
.equ APIC_PLACE, 0xfee00000
.equ OTHER_PLACE, 0xfea00000
.equ APIC, 0x40200000
.equ APIC_ELSEWHERE, 0x40400000
.equ APIC_ID, 0x20
.equ APIC_EOI, 0xb0
.equ APIC_LOGICAL, 0xd0
.equ APIC_SPURIOUS, 0xf0
.equ APIC_ERROR, 0x280
.equ APIC_ICR, 0x300
.equ APIC_ICR_HIGH, 0x310
.equ APIC_LVT_TIMER, 0x320
.equ APIC_TIMER_COUNT, 0x380
.equ MSR_APIC_BASE, 0x1b
.equ BASE_BSP, 1 << 8
.equ BASE_X2APIC, 1 << 10
.equ BASE_ENABLE, 1 << 11
.equ MSR_X2APIC_ID, 0x802
.equ MSR_X2APIC_EOI, 0x80b
.equ MSR_X2APIC_LOGICAL, 0x80d
.equ MSR_X2APIC_SPURIOUS, 0x80f
.equ MSR_X2APIC_ICR, 0x830
.equ MSR_X2APIC_SELF, 0x83f

# The interrupt command register, low half.
.equ LOWEST_PRIORITY, 1 << 8
.equ NMI, 4 << 8
.equ INIT, 5 << 8
.equ STARTUP, 6 << 8
.equ LOGICAL, 1 << 11
.equ ASSERT, 1 << 14
.equ TO_SELF, 1 << 18
.equ TO_ALL_OTHERS, 3 << 18

.equ V_COMMAND, 0x40                    # vectors: run [command]; count a hit; a timer
.equ V_HIT, 0x41
.equ V_TIMER, 0x42

# expect "text", condition: a line that says whether the last comparison came out as it should.
.macro expect text, condition
        j\condition 8f
        print "not "
        inc dword ptr [failures]
8:      print "ok \text\n"
.endm

# Have all other processors call a routine, and wait until they have done it.
.macro others_call routine
        mov dword ptr [command], offset \routine
        call command_others
.endm

        .text
        .code32
        multiboot_header

        .globl _start
_start:
        mov esp, offset stacks + (1 << STACK_SHIFT)
        # Page tables: the first GiB as it is, and in the second WINDOW and both places of the APIC.
        mov dword ptr [pml4], offset pdpt + 3
        mov dword ptr [pdpt], offset pd_low + 3
        mov dword ptr [pdpt + 8], offset pd_window + 3
        mov dword ptr [pd_window], offset window_table + 3
        mov dword ptr [pd_window + 8], APIC_PLACE + 0x93        # 2 MiB, not cached
        mov dword ptr [pd_window + 16], OTHER_PLACE + 0x93
        mov dword ptr [window_table], FRAME_A + 3
        mov eax, 0x83                   # present, writable, 2 MiB
        xor ecx, ecx
1:      mov [pd_low + ecx * 8], eax
        add eax, LARGE_PAGE_SIZE
        inc ecx
        cmp ecx, 512
        jb 1b
        mov dword ptr [FRAME_A], 0xaaaa
        mov dword ptr [FRAME_B], 0xbbbb
        lgdt [gdt_pointer]
        call enter_long_mode
        push KERNEL_CS
        push offset first_in_long_mode
        retf

# Paging and IA-32e mode on; the caller is in compatibility mode behind it. Any processor.
enter_long_mode:
        mov eax, cr4
        or eax, CR4_PAE
        mov cr4, eax
        mov eax, offset pml4
        mov cr3, eax
        mov ecx, MSR_EFER
        rdmsr
        or eax, 0x100                   # LME
        wrmsr
        mov eax, cr0
        or eax, CR0_PG | CR0_PE | CR0_WP
        mov cr0, eax
        ret

# What a start-up IPI leads to, copied to TRAMPOLINE: CS = TRAMPOLINE >> 4, IP = 0, and nothing
# else can be relied on. It must not use addresses of its own but relative to CS.
        .balign 16, 0
        .code16
trampoline:
        cli
        mov ax, cs
        mov ds, ax
        lgdt [gdt_pointer16 - trampoline]
        mov eax, cr0
        or al, CR0_PE
        mov cr0, eax
        .byte 0x66, 0xea                # jmp CODE32:other_in_protected_mode, a 32-bit offset
        .long other_in_protected_mode
        .word CODE32
        .balign 4, 0
gdt_pointer16:
        .word gdt_end - gdt - 1
        .long gdt
trampoline_end:

        .code32
other_in_protected_mode:
        mov eax, KERNEL_DS
        mov ds, eax
        mov es, eax
        mov ss, eax
        # Each processor takes the stack of its APIC ID. There was none to call on before.
        mov eax, 1
        cpuid
        shr ebx, 24
        lea esp, [ebx + 1]
        shl esp, STACK_SHIFT
        add esp, offset stacks
        call enter_long_mode
        push KERNEL_CS
        push offset other_in_long_mode
        retf

        .code64
        .include "../include/serial.inc"

other_in_long_mode:
        lidt [idt_pointer]
        call apic_on
        # Its logical ID in the flat model: one bit for each processor.
        call my_number
        mov ecx, eax
        mov edx, 1 << 24
        shl edx, cl
        mov [APIC + APIC_LOGICAL], edx
        lock inc dword ptr [started]
1:      sti
        hlt                             # everything else is done by interrupts
        jmp 1b

first_in_long_mode:
        mov eax, KERNEL_DS
        mov ds, eax
        mov es, eax
        mov ss, eax
        mov al, 0xff                    # the 8259s have nothing to say
        out PIC1_DATA, al
        out PIC2_DATA, al
        call serial_init
        call idt_init

        # --- who is here
        mov ecx, MSR_APIC_BASE
        rdmsr
        cmp eax, APIC_PLACE | BASE_ENABLE | BASE_BSP
        expect "the bootstrap processor, its APIC enabled", e
        mov eax, 1
        cpuid
        shr ebx, 16
        cmp ebx, CPUS                   # initial APIC ID 0, and the count
        expect "CPUID counts the processors", e
        mov eax, 0xb
        mov ecx, 1
        cpuid
        cmp ebx, CPUS
        expect "so does the topology leaf", e

        # --- the modes of the local APIC
        call apic_on
        mov dword ptr [APIC + 0x80], 0x20
        mov eax, APIC_PLACE | BASE_BSP
        call write_apic_base
        mov eax, 1
        cpuid
        bt edx, 9
        expect "a disabled APIC leaves CPUID", nc
        mov eax, APIC_PLACE | BASE_BSP | BASE_ENABLE | BASE_X2APIC
        call write_apic_base
        cmp dword ptr [faults], 1
        expect "x2APIC mode cannot be entered from there: #GP", e
        mov eax, OTHER_PLACE | BASE_BSP | BASE_ENABLE
        call write_apic_base
        mov eax, [APIC_ELSEWHERE + 0x80]
        add eax, [APIC_ELSEWHERE + APIC_SPURIOUS]
        cmp eax, 0xff
        expect "enabled elsewhere, its registers are as after reset", e
        mov eax, APIC_PLACE | BASE_BSP | BASE_ENABLE
        call write_apic_base
        call apic_on
        mov dword ptr [APIC + APIC_LOGICAL], 1 << 24

        # --- INIT, start-up
        mov esi, offset trampoline
        mov edi, TRAMPOLINE
        mov ecx, offset trampoline_end - trampoline
        rep movsb
        mov eax, TO_ALL_OTHERS | INIT | ASSERT
        call send
        mov eax, TO_ALL_OTHERS | STARTUP | ASSERT | (TRAMPOLINE >> 12)
        call send
        call send                       # the manual wants two; the second finds them running
        mov ebx, OTHERS
        mov edi, offset started
        call wait_for
        cmp dword ptr [started], OTHERS
        expect "the others are up, each once", e

        # --- a lock, and memory
        others_call count_under_lock
        cmp dword ptr [counter], OTHERS * ROUNDS
        expect "they counted under a lock", e
        others_call note_time
        rdtsc
        cmp eax, [times + 4]
        seta bl
        cmp eax, [times + 8]
        seta bh
        and bl, bh
        cmp bl, 1
        expect "the time-stamp counter is one for all", e

        # --- interrupts: who gets them
        sti
        mov edx, 2
        mov eax, V_HIT | ASSERT
        call send
        mov eax, 0x0100 << 8
        call hits_are
        expect "a physical destination", e
        mov edx, 0b1010
        mov eax, V_HIT | LOGICAL | ASSERT
        call send
        mov eax, 0x01000100
        call hits_are
        expect "a logical destination", e
        mov edx, 0xff
        mov eax, V_HIT | ASSERT
        call send
        mov eax, 0x01010101
        call hits_are
        expect "broadcast", e
        mov eax, V_HIT | TO_SELF | ASSERT
        call send
        mov eax, 0x01
        call hits_are
        expect "to itself", e
        mov edx, 0b1100
        mov eax, V_HIT | LOGICAL | LOWEST_PRIORITY | ASSERT
        call send
        mov eax, 0x00010000
        call hits_are
        expect "to one of those with the lowest priority", e
        mov edx, 3
        mov eax, NMI | ASSERT
        call send
        mov eax, 0x02000000
        call hits_are
        expect "an NMI", e
        cli
        mov dword ptr [APIC + APIC_ERROR], 0
        mov eax, 5 | TO_SELF | ASSERT   # no such vector: the first sixteen are illegal
        call send
        mov dword ptr [APIC + APIC_ERROR], 0
        cmp dword ptr [APIC + APIC_ERROR], 1 << 5
        expect "an illegal vector is an error of the sender", e

        # --- memory that one processor remaps
        mov ebx, 0xaaaa * OTHERS
        call sum_of_windows
        expect "all see the page", e
        mov dword ptr [window_table], FRAME_B + 3
        invlpg [WINDOW]
        others_call flush_window
        mov ebx, 0xbbbb * OTHERS
        call sum_of_windows
        expect "after a shootdown all see the other frame", e

        # --- code that one processor changes
        others_call patched
        mov byte ptr [patched_value], 10
        others_call patched
        cmp dword ptr [patch_sum], OTHERS * (1 + 10)
        expect "all run the code as it is now", e

        # --- a timer that only one processor has
        others_call start_timer_of_2
        mov ebx, 1
        mov edi, offset timer_hits
        call wait_for
        cmp dword ptr [timer_cpu], 2
        expect "a local timer interrupts its own processor", e

        # --- INIT again, for one of them
        mov edx, 3
        mov eax, INIT | ASSERT
        call send
        mov edx, 3
        mov eax, STARTUP | ASSERT | (TRAMPOLINE >> 12)
        call send
        mov ebx, OTHERS + 1
        mov edi, offset started
        call wait_for
        cmp dword ptr [started], OTHERS + 1
        expect "INIT and start-up restart one processor", e

        # --- x2APIC mode, first the others
        others_call to_x2apic
        call to_x2apic
        mov dword ptr [x2apic], 1
        mov ecx, MSR_X2APIC_LOGICAL
        rdmsr
        cmp eax, 1
        expect "x2APIC: the logical ID follows from the ID", e
        sti
        mov edx, 1
        mov eax, V_HIT
        call send
        mov eax, 0x0100
        call hits_are
        expect "x2APIC: a physical destination", e
        mov edx, 0b1101                 # cluster 0, members 0, 2 and 3
        mov eax, V_HIT | LOGICAL
        call send
        mov eax, 0x01010001
        call hits_are
        expect "x2APIC: a logical destination", e
        mov edx, 0xffffffff
        mov eax, V_HIT
        call send
        mov eax, 0x01010101
        call hits_are
        expect "x2APIC: broadcast", e
        mov ecx, MSR_X2APIC_SELF
        mov eax, V_HIT
        xor edx, edx
        wrmsr
        mov eax, 0x01
        call hits_are
        expect "x2APIC: the self-IPI register", e
        mov eax, APIC_PLACE | BASE_BSP | BASE_ENABLE
        call write_apic_base
        cmp dword ptr [faults], 2
        expect "x2APIC: there is no way back to xAPIC but by disabling: #GP", e

        # --- done
        cmp dword ptr [failures], 0
        setne al
        add al, 0x10                    # exit status 33, or 35
        out DEBUG_EXIT, al
1:      cli
        hlt
        jmp 1b

# --- of any processor ------------------------------------------------------------------------

# EAX: this processor's number, which is its APIC ID. Changes nothing else.
my_number:
        push rbx
        push rcx
        push rdx
        mov eax, 1
        cpuid
        shr ebx, 24
        mov eax, ebx
        pop rdx
        pop rcx
        pop rbx
        ret

# Software-enable the APIC in xAPIC mode, spurious vector 0xff.
apic_on:
        mov dword ptr [APIC + APIC_SPURIOUS], 0x1ff
        ret

# Write EAX to IA32_APIC_BASE. A #GP is counted in [faults], and the instruction skipped.
write_apic_base:
        mov ecx, MSR_APIC_BASE
        xor edx, edx
        wrmsr
        ret

# Send an IPI: EAX is the low half of the command, EDX the destination. Keeps EAX.
send:
        cmp dword ptr [x2apic], 0
        jne 1f
        shl edx, 24
        mov [APIC + APIC_ICR_HIGH], edx
        mov [APIC + APIC_ICR], eax      # the write of the low half sends it
        ret
1:      mov ecx, MSR_X2APIC_ICR
        wrmsr
        ret

# End of interrupt, in whichever mode this processor's APIC is. Changes EAX, ECX, EDX.
end_of_interrupt:
        mov ecx, MSR_APIC_BASE
        rdmsr
        test eax, BASE_X2APIC
        jnz 1f
        mov dword ptr [APIC + APIC_EOI], 0
        ret
1:      mov ecx, MSR_X2APIC_EOI
        xor eax, eax
        xor edx, edx
        wrmsr
        ret

# --- of the bootstrap processor --------------------------------------------------------------

# Wait until the word at RDI is EBX, for as long as a broken machine deserves.
wait_for:
        mov ecx, 100000
1:      pause
        cmp [rdi], ebx
        loopne 1b
        ret

# Interrupt the others so that they call [command].
command_others:
        mov dword ptr [answers], 0
        mov eax, V_COMMAND | TO_ALL_OTHERS | ASSERT
        call send
        mov ebx, OTHERS
        mov edi, offset answers
        jmp wait_for

# Whether [hits], a byte for each processor, becomes EAX (ZF), and stays so for a while. An NMI
# counts twice, to tell it apart.
hits_are:
        mov ebx, eax
        mov edi, offset hits
        call wait_for
        mov ecx, 4000 * CPUS            # a hit too many would come in this time
1:      loop 1b
        xor eax, eax
        xchg eax, [hits]
        cmp eax, ebx
        ret

# Whether the words that the others read from WINDOW make EBX (ZF).
sum_of_windows:
        mov dword ptr [window_sum], 0
        push rbx
        others_call add_window
        pop rbx
        cmp [window_sum], ebx
        ret

# --- what the others are told to do ----------------------------------------------------------

count_under_lock:
        mov ecx, ROUNDS
1:      mov eax, 1
2:      xchg eax, [lock_word]           # 0: it was free, and is ours now
        test eax, eax
        jz 3f
        pause
        jmp 2b
3:      mov eax, [counter]              # two instructions: without the lock, counts were lost
        inc eax
        mov [counter], eax
        mov dword ptr [lock_word], 0
        loop 1b
        ret

note_time:
        call my_number
        mov ecx, eax
        rdtsc
        mov [times + rcx * 4], eax
        ret

add_window:
        mov eax, [WINDOW]
        lock add [window_sum], eax
        ret

flush_window:
        invlpg [WINDOW]
        ret

patched:
        .byte 0xb8                      # mov eax, the next four bytes
patched_value:
        .long 1
        lock add [patch_sum], eax
        ret

start_timer_of_2:
        call my_number
        cmp eax, 2
        jne 1f
        mov dword ptr [APIC + 0x3e0], 0xb       # divide by 1
        mov dword ptr [APIC + APIC_LVT_TIMER], V_TIMER
        mov dword ptr [APIC + APIC_TIMER_COUNT], 20000
1:      ret

to_x2apic:
        mov ecx, MSR_APIC_BASE
        rdmsr
        or eax, BASE_X2APIC
        wrmsr
        mov ecx, MSR_X2APIC_SPURIOUS
        mov eax, 0x1ff
        xor edx, edx
        wrmsr
        ret

# --- interrupts and exceptions ---------------------------------------------------------------

.macro save_registers
        push rax
        push rcx
        push rdx
        push rbx
        push rdi
.endm
.macro restore_registers
        pop rdi
        pop rbx
        pop rdx
        pop rcx
        pop rax
.endm

on_command:
        save_registers
        mov eax, [command]
        call rax
        call end_of_interrupt           # before the answer: the next command may follow at once
        lock inc dword ptr [answers]
        restore_registers
        iretq

on_hit:
        save_registers
        call my_number
        lock inc byte ptr [hits + rax]
        call end_of_interrupt
        restore_registers
        iretq

on_timer:
        save_registers
        call my_number
        mov [timer_cpu], eax
        lock inc dword ptr [timer_hits]
        call end_of_interrupt
        restore_registers
        iretq

on_nmi: push rax
        call my_number
        lock add byte ptr [hits + rax], 2
        pop rax
        iretq

# #GP of a WRMSR, which is two bytes long. Nothing else faults.
on_gp:  inc dword ptr [faults]
        add qword ptr [rsp + 8], 2
        add rsp, 8
        iretq

# Interrupt gate at vector EDI to the routine EAX.
gate:
        shl edi, 4
        add edi, offset idt
        mov [rdi], ax
        mov word ptr [rdi + 2], KERNEL_CS
        mov word ptr [rdi + 4], 0x8e00
        shr eax, 16
        mov [rdi + 6], ax
        ret

.macro set_gate vector, routine
        mov edi, \vector
        mov eax, offset \routine
        call gate
.endm

idt_init:
        set_gate 2, on_nmi
        set_gate 13, on_gp
        set_gate V_COMMAND, on_command
        set_gate V_HIT, on_hit
        set_gate V_TIMER, on_timer
        lidt [idt_pointer]
        ret

        .data
        .align 8
gdt:    .quad 0
        .quad 0x00af9b000000ffff        # KERNEL_CS: 64-bit code
        .quad 0x00cf93000000ffff        # KERNEL_DS
        .quad 0x00cf9b000000ffff        # CODE32: on the way
gdt_end:
gdt_pointer:
        .word gdt_end - gdt - 1
        .quad gdt
idt_pointer:
        .word 256 * 16 - 1
        .quad idt

        .bss
        .align 4096
pml4:           .skip 4096
pdpt:           .skip 4096
pd_low:         .skip 4096
pd_window:      .skip 4096
window_table:   .skip 4096
stacks:         .skip CPUS << STACK_SHIFT
idt:            .skip 256 * 16
started:        .skip 4
answers:        .skip 4
command:        .skip 4
failures:       .skip 4
faults:         .skip 4
x2apic:         .skip 4
lock_word:      .skip 4
counter:        .skip 4
times:          .skip 4 * CPUS
hits:           .skip 4
window_sum:     .skip 4
patch_sum:      .skip 4
timer_hits:     .skip 4
timer_cpu:      .skip 4
