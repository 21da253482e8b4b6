# The fixed part of the generated 64-bit programs: tables, and handlers that note every event.
        .intel_syntax noprefix
        .include "fidelity_places.inc"

        .macro test_entry low, high=0
        .long \low, \high
        .endm

        .text
        .globl _start
start:
_start:
        mov eax, PML4
        mov cr3, rax
        mov eax, 0xa0                   # PAE PGE
        mov cr4, rax
        mov ecx, 0xc0000080
        mov eax, 0xd01                  # SCE LME LMA NXE
        xor edx, edx
        wrmsr
        lgdt [gdt_pointer]
        lidt [idt_pointer]
        mov eax, TSS_SELECTOR
        ltr ax
        mov ecx, 0xc0000081             # STAR: SYSCALL to 0x08, SYSRET to 0x18
        xor eax, eax
        mov edx, (0x1b << 16) | KERNEL_CS
        wrmsr
        inc ecx                         # LSTAR
        lea rax, [rip + syscall_entry]
        xor edx, edx
        wrmsr
        mov ecx, 0x174                  # SYSENTER_CS, _ESP, _EIP
        mov eax, KERNEL_CS
        wrmsr
        inc ecx
        mov eax, TRAP_STACK
        wrmsr
        inc ecx
        lea rax, [rip + sysenter_entry]
        wrmsr
        mov eax, KERNEL_DS
        mov ds, eax
        mov es, eax
        mov ss, eax
        mov esp, KERNEL_STACK
        push KERNEL_CS
        push PAYLOAD
        retfq

# Stubs of 16 bytes each: all leave vector and error code on the stack.
        .align 16
stubs:
        .set vector, 0
        .rept 256
        .if vector < 32 && ((ERROR_CODES >> vector) & 1)
        nop
        nop
        .else
        push 0
        .endif
        push vector
        jmp note
        .align 16
        .set vector, vector + 1
        .endr

# Stack: rdx rcx rax, vector, error code, RIP, CS, RFLAGS, RSP, SS.
note:
        push rax
        push rcx
        push rdx
        mov rcx, LOG
        mov rax, [rcx]
        inc qword ptr [rcx]
        cmp rax, MOST_RECORDS
        jae stop
        inc rax
        shl rax, 6
        add rcx, rax
        mov rax, [rsp + 24]             # vector and error code in one word
        mov [rcx], eax
        mov rax, [rsp + 32]
        mov [rcx + 4], eax
        mov rax, [rsp + 40]
        mov [rcx + 8], rax
        mov rax, [rsp + 48]
        mov [rcx + 16], eax
        mov rax, [rsp + 72]
        mov [rcx + 20], eax
        mov rax, [rsp + 56]
        mov [rcx + 24], rax
        mov rax, [rsp + 64]
        mov [rcx + 32], rax
        mov rax, cr2
        mov [rcx + 40], rax
        mov rax, dr6
        mov [rcx + 48], rax
        mov rax, rcx
        rdtsc
        mov rcx, LOG
        mov rdx, [rcx]
        shl rdx, 6
        mov [rcx + rdx + 56], eax

        mov rax, [rsp + 24]
        cmp rax, FINISH
        je stop
        cmp rax, TO_KERNEL
        je to_kernel
        cmp rax, 1
        je debug
        cmp rax, 32
        jae interrupt
        bt dword ptr [rip + faults], eax
        jnc leave
        mov rax, [rsp + 40]             # go on with the next slot, on a good stack
        cmp rax, PAYLOAD
        jb stop
        cmp rax, PAYLOAD_END
        jae stop
        and rax, -SLOT
        add rax, SLOT
        mov [rsp + 40], rax
        mov eax, KERNEL_STACK
        test byte ptr [rsp + 48], 3
        jz 1f
        mov eax, USER_STACK
1:      mov [rsp + 64], rax
leave:  pop rdx
        pop rcx
        pop rax
        add rsp, 16
        iretq
debug:  bts qword ptr [rsp + 56], 16    # RF: do not stop at the same breakpoint again
        jmp leave
to_kernel:
        mov qword ptr [rsp + 48], KERNEL_CS
        mov qword ptr [rsp + 64], KERNEL_STACK
        mov qword ptr [rsp + 72], KERNEL_DS
        jmp leave
interrupt:
        mov ecx, LAPIC
        mov dword ptr [rcx + 0xb0], 0   # EOI
        jmp leave
stop:   mov al, 1
        out DEBUG_EXIT, al
1:      cli
        hlt
        jmp 1b

# SYSCALL and SYSENTER go back to where their registers say.
syscall_entry:
        mov [LOG + 8], rsp
        mov [LOG + 16], r11
        sysretq
sysenter_entry:
        mov [LOG + 24], rsp
        pushfq
        pop qword ptr [LOG + 32]
        sysexitq

faults: .long FAULTS
gdt_pointer:
        .word 0x7f
        .quad GDT
idt_pointer:
        .word 0xfff
        .quad IDT

        .org GDT - IMAGE
        .quad 0
        .quad 0x00209b0000000000        # 0x08 kernel code
        .quad 0x00cf93000000ffff        # 0x10 kernel data
        .quad 0x00cffb000000ffff        # 0x18 user code, 32-bit
        .quad 0x00cff3000000ffff        # 0x20 user data
        .quad 0x0020fb0000000000        # 0x28 user code, 64-bit
        .quad 0x0000890000000000 | ((TSS & 0xffffff) << 16) | 0x37f, 0
        .quad 0x00201b0000000000        # 0x40 absent code
        .quad 0x00009b000000ffff        # 0x48 16-bit code
        .quad 0x0000ec0000080000 | (PAYLOAD & 0xffff) | ((PAYLOAD >> 16) << 48), 0
        .quad 0x0000820000000000 | ((DATA & 0xffffff) << 16) | 0x1f, 0

        .org TSS - IMAGE + 4
        .quad TRAP_STACK
        .org TSS - IMAGE + 36
        .quad IST1_STACK, IST2_STACK
        .org TSS - IMAGE + 102
        .word 104
        .fill 8, 1, 0                   # ports 0 to 0x3f are ring 3's
        .fill 0x310, 1, 0xff

        .set n, 0
        .rept 256
        .org IDT - IMAGE + n * 16
        .word (stubs - start + IMAGE + n * 16) & 0xffff, KERNEL_CS
        .if n == 2 || n == 18
        .byte 1
        .elseif n == 8
        .byte 2
        .else
        .byte 0
        .endif
        .if n == 3 || n == 4 || n == 0x80 || n == 0x81
        .byte 0xee
        .else
        .byte 0x8e
        .endif
        .word (stubs - start + IMAGE + n * 16) >> 16
        .quad 0
        .set n, n + 1
        .endr

        .org USER_STACK - IMAGE         # DATA, recognisable
        .set n, 0
        .rept 512
        .quad 0x0123456789abcdef + n * 0x1111
        .set n, n + 1
        .endr

        .org FRAMES - IMAGE
        .fill 0x1000, 4, 0xaa55c3c3     # begins with RETs, should it be executed

        .org PML4 - IMAGE
        .quad PDPT + 7
        .org PDPT - IMAGE
        .quad PD + 7, 0, 0, PD_HIGH + 7
        .org PD - IMAGE
        .quad PT + 7                    # 0
        .quad 0
        .quad PT_TEST + 7               # TEST
        .quad 0
        .quad 0x83                      # LARGE
        .quad 0
        .quad 0x85                      # LARGE_READ_ONLY
        .org PT - IMAGE
        .set n, 0
        .rept 512
        .if n >= 0x108 && n < 0x10c     # payload, user stack, DATA
        .quad (n << 12) | 7
        .else
        .quad (n << 12) | 3
        .endif
        .set n, n + 1
        .endr
        .include "fidelity_test_pages.inc"
        .org PD_HIGH - IMAGE + 0x1f6 * 8
        .quad IOAPIC + 0x9b, LAPIC + 0x9b       # 2 MiB pages, uncached
