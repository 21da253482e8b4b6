# Multiboot start at the physical addresses; maps the first 2 MiB low and at the top.
.intel_syntax noprefix
.section .boot, "ax"
.code32
        .ascii "the entry is not at the beginning of the image"
        .align 4
        .long 0x1badb002, 0, -0x1badb002
        .fill 200, 1, 0xcc
.globl _start
_start:
        mov esp, offset boot_stack
        mov dword ptr [pml4], offset pdpt + 3
        mov dword ptr [pml4 + 511 * 8], offset pdpt + 3
        mov dword ptr [pdpt], offset pd + 3
        mov dword ptr [pdpt + 510 * 8], offset pd + 3
        mov dword ptr [pd], 0x83
        mov eax, cr4
        or eax, 0x20
        mov cr4, eax
        mov eax, offset pml4
        mov cr3, eax
        mov ecx, 0xc0000080
        rdmsr
        or eax, 0x100
        wrmsr
        mov eax, cr0
        or eax, 0x80000000
        mov cr0, eax
        lgdt [gdtr]
        push 8
        push offset in_long_mode
        retf
.code64
in_long_mode:
        movabs rax, offset kmain
        movabs rsp, offset stack_top
        call rax
1:      hlt
        jmp 1b
        .align 8
gdt:    .quad 0, 0x00af9b000000ffff
gdtr:   .word 15
        .quad gdt

.section .bootbss, "aw", @nobits
        .align 4096
pml4:   .skip 4096
pdpt:   .skip 4096
pd:     .skip 4096
        .skip 256
boot_stack:

.bss
        .align 16
        .skip 4096
stack_top:
