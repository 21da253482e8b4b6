# Runs SLOTS pieces of unknown 64-bit code; see random_guests.py.
        .intel_syntax noprefix
        .equ BASE, 0x100000
        .equ STUBS, BASE + 0x1000
        .equ TSS, BASE + 0x2000
        .equ TABLES, 0x400000           # page tables, which they do not map themselves
        .equ KERNEL_CODE, 0x08
        .equ KERNEL_DATA, 0x10
        .equ USER_DATA, 0x23
        .equ USER_CODE, 0x2b

        .text
        .globl _start
_start: mov edi, TABLES
        mov dword ptr [rdi], TABLES + 0x1027
        mov dword ptr [rdi + 0x1000], TABLES + 0x2027
        mov dword ptr [rdi + 0x1018], TABLES + 0x3027
        mov dword ptr [rdi + 0x2000], 0xa7
        mov dword ptr [rdi + 0x2008], 0x2000a7
        mov dword ptr [rdi + 0x3fb0], 0xfec000f7
        mov dword ptr [rdi + 0x3fb8], 0xfee000f7
        mov cr3, rdi
        lgdt [gdtr]
        lidt [idtr]
        mov eax, 0x30
        ltr ax
        mov eax, KERNEL_DATA
        mov ss, eax
        mov eax, USER_DATA
        mov ds, eax
        mov es, eax
        mov fs, eax
        mov gs, eax
        mov ecx, 0xc0000080             # EFER.SCE, STAR, LSTAR: SYSCALL arrives at the handler
        rdmsr
        or eax, 1
        wrmsr
        mov ecx, 0xc0000081
        xor eax, eax
        mov edx, 0x00180008
        wrmsr
        inc ecx
        mov eax, offset system_call
        xor edx, edx
        wrmsr
next:   mov rsp, offset kernel_stack
        mov eax, [count]
        cmp eax, SLOTS
        jae done
        shl eax, 4
        add rax, offset slots
        cmp dword ptr [user], 0
        je 1f
        push USER_DATA
        push offset stack
        push 0x3202                     # IOPL 3
        push USER_CODE
        jmp 2f
1:      push KERNEL_DATA
        push offset stack
        push 2
        push KERNEL_CODE
2:      push rax
        mov rax, [registers]
        mov rcx, [registers + 8]
        mov rdx, [registers + 16]
        mov rbx, [registers + 24]
        mov rbp, [registers + 32]
        mov rsi, [registers + 40]
        mov rdi, [registers + 48]
        mov r8, [registers + 56]
        mov r9, [registers + 64]
        mov r10, [registers + 72]
        mov r11, [registers + 80]
        mov r12, [registers + 88]
        mov r13, [registers + 96]
        mov r14, [registers + 104]
        mov r15, [registers + 112]
        iretq
done:   cli
        hlt
        jmp done

system_call:
        mov rsp, offset kernel_stack
        push 0
        push 0
        push r11
        push 0
        push rcx
        push 0
        push 0x1000
handle: mov [registers], rax
        mov [registers + 8], rcx
        mov [registers + 16], rdx
        mov [registers + 24], rbx
        mov [registers + 32], rbp
        mov [registers + 40], rsi
        mov [registers + 48], rdi
        mov [registers + 56], r8
        mov [registers + 64], r9
        mov [registers + 72], r10
        mov [registers + 80], r11
        mov [registers + 88], r12
        mov [registers + 96], r13
        mov [registers + 104], r14
        mov [registers + 112], r15
        mov edi, [count]
        inc dword ptr [count]
        and edi, 31
        shl edi, 6
        add rdi, offset log
        .set n, 0
        .rept 7                         # vector, error code, RIP, CS, RFLAGS, RSP, SS
        pop qword ptr [rdi + n]
        .set n, n + 8
        .endr
        mov rax, cr2
        mov [rdi + 56], rax
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
        .long 0
        .quad kernel_stack, kernel_stack, kernel_stack, 0
        .quad kernel_stack              # IST1: used by every gate
        .fill 12, 4, 0
gdt:    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x00cffb000000ffff, 0x00cff3000000ffff
        .quad 0x00affb000000ffff
        .quad 0x0000890000000067 + (TSS & 0xffff) * 0x10000 + (TSS >> 16) * 0x100000000, 0
gdtr:   .word . - gdt - 1
        .quad gdt
idtr:   .word 4095
        .quad idt
        .align 16
count:  .long 0
user:   .ascii "<CPL>"
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
        .rept 256                       # interrupt gates, DPL 3
        .quad 0x0000ee0100080000 + ((STUBS + n * 16) & 0xffff) + ((STUBS + n * 16) >> 16 << 48), 0
        .set n, n + 1
        .endr
slots:  .rept SLOTS
        .ascii "<SLOT_OF_16_B>.."
        .endr
        .fill 32, 1, 0xcc
