# Runs SLOTS pieces of unknown 32-bit code; see random_guests.py.
        .intel_syntax noprefix
        .code32
        .equ BASE, 0x100000
        .equ STUBS, BASE + 0x1000
        .equ TSS, BASE + 0x2000
        .equ TABLES, 0x400000           # a page directory, which it does not map itself
        .equ KERNEL_CODE, 0x08
        .equ KERNEL_DATA, 0x10
        .equ USER_CODE, 0x1b
        .equ USER_DATA, 0x23

        .text
        .globl _start
_start: jmp begin
        .align 4
        .long 0x1badb002, 0, -0x1badb002
begin:  lgdt [gdtr]
        lidt [idtr]
        mov eax, 0x28
        ltr ax
        mov eax, KERNEL_DATA
        mov ss, eax
        mov eax, USER_DATA
        mov ds, eax
        mov es, eax
        mov fs, eax
        mov gs, eax
        cmp dword ptr [paging], 0
        je next
        mov eax, cr4
        or eax, 0x10                    # PSE
        mov cr4, eax
        mov edi, TABLES
        mov dword ptr [edi], 0xa7
        mov dword ptr [edi + 0xfec], 0xfec000f7
        mov cr3, edi
        mov eax, cr0
        or eax, 0x80000000
        mov cr0, eax
next:   mov esp, offset kernel_stack
        mov eax, [count]
        cmp eax, SLOTS
        jae done
        shl eax, 4
        add eax, offset slots
        cmp dword ptr [user], 0
        je 1f
        push USER_DATA
        push offset stack
        push 0x3202                     # IOPL 3
        push USER_CODE
        jmp 2f
1:      push 2
        push KERNEL_CODE
2:      push eax
        mov eax, USER_DATA
        mov ds, eax
        mov es, eax
        mov eax, [registers]
        mov ecx, [registers + 8]
        mov edx, [registers + 16]
        mov ebx, [registers + 24]
        mov ebp, [registers + 32]
        mov esi, [registers + 40]
        mov edi, [registers + 48]
        iretd
done:   cli
        hlt
        jmp done

handle: push eax
        mov eax, USER_DATA
        mov ds, eax
        mov es, eax
        pop eax
        mov [registers], eax
        mov [registers + 8], ecx
        mov [registers + 16], edx
        mov [registers + 24], ebx
        mov [registers + 32], ebp
        mov [registers + 40], esi
        mov [registers + 48], edi
        mov edi, [count]
        inc dword ptr [count]
        and edi, 31
        shl edi, 6
        add edi, offset log
        .set n, 0
        .rept 5                         # vector, error code, EIP, CS, EFLAGS
        pop dword ptr [edi + n]
        .set n, n + 8
        .endr
        mov [edi + 40], esp
        mov eax, cr2
        mov [edi + 56], eax
        jmp next

        .org 0x1000
        .set n, 0
        .rept 256
        .align 16
        .if (n == 8) || ((n >= 10) && (n <= 14)) || (n == 17) || (n == 30)
        .else
        push 0
        .endif
        push n
        jmp handle
        .set n, n + 1
        .endr

        .org 0x2000
        .long 0, kernel_stack, KERNEL_DATA
        .fill 22, 4, 0
        .long 0x680000                  # no I/O bitmap
        .align 16
gdt:    .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00cffb000000ffff, 0x00cff3000000ffff
        .quad 0x0000890000000067 + (TSS & 0xffff) * 0x10000 + (TSS >> 16) * 0x100000000
gdtr:   .word . - gdt - 1
        .long gdt
idtr:   .word 2047
        .long idt
        .align 16
count:  .long 0
user:   .ascii "<CPL>"
        .align 16
paging: .ascii "<PG>"
        .align 16
registers:
        .rept 15
        .ascii "<REGS_8>"
        .endr
log:    .fill 64 * 32
        .fill 2048
stack:  .fill 1024
        .fill 2048
kernel_stack:
        .fill 64
        .align 4096
idt:    .set n, 0
        .rept 256                       # 32-bit interrupt gates, DPL 3
        .quad 0x0000ee0000080000 + ((STUBS + n * 16) & 0xffff) + ((STUBS + n * 16) >> 16 << 48)
        .set n, n + 1
        .endr
slots:  .rept SLOTS
        .ascii "<SLOT_OF_16_B>.."
        .endr
        .fill 32, 1, 0xcc
