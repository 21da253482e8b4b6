# The fixed part of the generated 32-bit programs: tables, and handlers that note every event.
# PAGING is 0 (none), 1 (32-bit paging with 4 MiB pages) or 2 (PAE).
        .intel_syntax noprefix
        .include "fidelity_places.inc"

        .macro test_entry low, high=0
        .if PAGING == 2
        .long \low, \high
        .else
        .long \low
        .endif
        .endm

        .text
        .code32
        .globl _start
start:
        .long 0x1badb002, 0, -0x1badb002        # Multiboot header
_start:
        lgdt [gdt_pointer]
        lidt [idt_pointer]
        mov eax, KERNEL_DS
        mov ds, eax
        mov es, eax
        mov ss, eax
        mov fs, eax
        mov gs, eax
        mov esp, KERNEL_STACK
        mov eax, TSS_SELECTOR
        ltr ax
        mov ecx, 0x174                  # SYSENTER_CS, _ESP, _EIP
        mov eax, KERNEL_CS
        xor edx, edx
        wrmsr
        inc ecx
        mov eax, TRAP_STACK
        wrmsr
        inc ecx
        mov eax, offset sysenter_entry
        wrmsr
        .if PAGING == 1
        mov eax, PD
        mov cr3, eax
        mov eax, 0x90                   # PSE PGE
        mov cr4, eax
        .elseif PAGING == 2
        mov eax, PDPT
        mov cr3, eax
        mov eax, 0xa0                   # PAE PGE
        mov cr4, eax
        mov ecx, 0xc0000080
        mov eax, 0x800                  # NXE
        wrmsr
        .endif
        .if PAGING
        mov eax, 0x80010031             # PG WP NE ET PE
        mov cr0, eax
        .endif
        push KERNEL_CS
        push PAYLOAD
        retf

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

# Stack: edx ecx eax ds, vector, error code, EIP, CS, EFLAGS; from ring 3 also ESP, SS.
note:
        push ds
        push eax
        push ecx
        push edx
        mov eax, KERNEL_DS
        mov ds, eax
        mov ecx, LOG
        mov eax, [ecx]
        inc dword ptr [ecx]
        cmp eax, MOST_RECORDS
        jae stop
        inc eax
        shl eax, 6
        add ecx, eax
        mov eax, [esp + 16]
        mov [ecx], eax
        mov eax, [esp + 20]
        mov [ecx + 4], eax
        mov eax, [esp + 24]
        mov [ecx + 8], eax
        mov eax, [esp + 28]
        mov [ecx + 12], eax
        mov eax, [esp + 32]
        mov [ecx + 16], eax
        mov [ecx + 20], esp
        mov eax, [esp + 12]
        mov [ecx + 24], eax
        mov eax, cr2
        mov [ecx + 28], eax
        mov eax, dr6
        mov [ecx + 32], eax
        rdtsc
        mov [ecx + 36], eax

        mov eax, [esp + 16]
        cmp eax, FINISH
        je stop
        cmp eax, TO_KERNEL
        je to_kernel
        cmp eax, 1
        je debug
        cmp eax, 32
        jae interrupt
        bt dword ptr [faults], eax
        jnc leave
        mov eax, [esp + 24]             # go on with the next slot, on a good stack
        cmp eax, PAYLOAD
        jb stop
        cmp eax, PAYLOAD_END
        jae stop
        and eax, -SLOT
        add eax, SLOT
        mov [esp + 24], eax
        test byte ptr [esp + 28], 3
        jz 1f
        mov dword ptr [esp + 36], USER_STACK
        jmp leave
1:      mov edx, [esp + 28]             # same ring: build the frame anew on the good stack
        mov ecx, [esp + 32]
        mov esp, KERNEL_STACK
        push ecx
        push edx
        push eax
        iretd
leave:  pop edx
        pop ecx
        pop eax
        pop ds
        add esp, 8
        iretd
debug:  bts dword ptr [esp + 32], 16    # RF: do not stop at the same breakpoint again
        jmp leave
to_kernel:
        mov ecx, [esp + 32]
        mov eax, [esp + 24]
        mov edx, KERNEL_DS
        mov es, edx
        mov fs, edx
        mov gs, edx
        mov esp, KERNEL_STACK
        push ecx
        push KERNEL_CS
        push eax
        iretd
interrupt:
        mov ecx, LAPIC
        mov dword ptr [ecx + 0xb0], 0   # EOI
        jmp leave
stop:   mov al, 1
        out DEBUG_EXIT, al
1:      cli
        hlt
        jmp 1b

# SYSENTER goes back to where its caller's registers say.
sysenter_entry:
        mov [LOG + 24], esp
        pushfd
        pop dword ptr [LOG + 32]
        sysexit

faults: .long FAULTS
gdt_pointer:
        .word 0x7f
        .long GDT
idt_pointer:
        .word 0x7ff
        .long IDT

        .org GDT - IMAGE
        .quad 0
        .quad 0x00cf9b000000ffff        # 0x08 kernel code
        .quad 0x00cf93000000ffff        # 0x10 kernel data
        .quad 0x00cffb000000ffff        # 0x18 user code
        .quad 0x00cff3000000ffff        # 0x20 user data
        .quad 0x00cff1000000ffff        # 0x28 user data, read-only
        .quad 0x0000890000000000 | ((TSS & 0xffffff) << 16) | 0x37f, 0
        .quad 0x00cf1b000000ffff        # 0x40 absent code
        .quad 0x00009b000000ffff        # 0x48 16-bit code
        .quad 0x0000ec0000080000 | (PAYLOAD & 0xffff) | ((PAYLOAD >> 16) << 48)
        .quad 0x0040921000000fff | ((DATA & 0xffff) << 16)      # 0x58 a small segment
        .quad 0x0000820000000000 | ((DATA & 0xffffff) << 16) | 0x1f, 0

        .org TSS - IMAGE + 4
        .long TRAP_STACK, KERNEL_DS
        .org TSS - IMAGE + 102
        .word 104
        .fill 8, 1, 0                   # ports 0 to 0x3f are ring 3's
        .fill 0x310, 1, 0xff

        .set n, 0
        .rept 256
        .org IDT - IMAGE + n * 8
        .word (stubs - start + IMAGE + n * 16) & 0xffff, KERNEL_CS
        .byte 0
        .if n == 3 || n == 4 || n == 0x80 || n == 0x81
        .byte 0xee
        .else
        .byte 0x8e
        .endif
        .word (stubs - start + IMAGE + n * 16) >> 16
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

        .org PDPT - IMAGE
        .quad PD + 1, 0, 0, PD_HIGH + 1
        .org PD - IMAGE
        .if PAGING == 2
        .quad PT + 7                    # 0
        .quad 0
        .quad PT_TEST + 7               # TEST
        .quad 0
        .quad 0x83                      # LARGE
        .quad 0
        .quad 0x85                      # LARGE_READ_ONLY
        .else
        .long PT + 7
        .long PT_TEST + 7
        .long 0x83
        .long 0x85
        .org PD - IMAGE + 0x3fb * 4
        .long IOAPIC + 0x9b             # one 4 MiB page holds IOAPIC and LAPIC
        .endif
        .org PT - IMAGE
        .set n, 0
        .rept 512
        .if n >= 0x108 && n < 0x10c     # payload, user stack, DATA
        test_entry (n << 12) | 7
        .else
        test_entry (n << 12) | 3
        .endif
        .set n, n + 1
        .endr
        .include "fidelity_test_pages.inc"
        .if PAGING == 2
        .org PD_HIGH - IMAGE + 0x1f6 * 8
        .quad IOAPIC + 0x9b, LAPIC + 0x9b       # 2 MiB pages, uncached
        .endif
