# pae: a 32-bit guest that changes a PAE page-directory-pointer entry and reloads CR3.

        .intel_syntax noprefix
        .code32
        .include "x86.inc"
        .include "ports.inc"
        .include "multiboot.inc"

        .text
        multiboot_header
        .globl _start
_start:
        mov esp, offset stack_top
        mov dword ptr [pdpt], offset pd_low + PTE_P
        mov dword ptr [pdpt + 8], offset pd_a + PTE_P
        mov dword ptr [pd_low], PTE_P + PTE_RW + PTE_PS
        mov dword ptr [pd_a], 0x400000 + PTE_P + PTE_RW + PTE_PS
        mov dword ptr [pd_b], 0x600000 + PTE_P + PTE_RW + PTE_PS
        mov dword ptr [0x400000], 0x1111
        mov dword ptr [0x600000], 0x2222
        mov eax, cr4
        or eax, CR4_PAE
        mov cr4, eax
        mov eax, offset pdpt
        mov cr3, eax
        mov eax, cr0
        or eax, CR0_PG
        mov cr0, eax
        mov eax, [0x40000000]
        mov [results], eax
        # Nothing is seen of this until CR3 is loaded, with the very same value.
        mov dword ptr [pdpt + 8], offset pd_b + PTE_P
        mov eax, [0x40000000]
        mov [results + 4], eax
        mov eax, cr3
        mov cr3, eax
        mov eax, [0x40000000]
        mov [results + 8], eax
        mov dword ptr [0x40000004], 0x3333
        # And back, by a write of CR4 that loads them as well.
        mov dword ptr [pdpt + 8], offset pd_a + PTE_P
        mov eax, cr4
        xor eax, CR4_PGE
        mov cr4, eax
        mov eax, [0x40000000]
        mov [results + 12], eax
        mov dword ptr [0x40000004], 0x4444
        power_off

        .bss
        .align 4096
pdpt:   .skip 4096
pd_low: .skip 4096
pd_a:   .skip 4096
pd_b:   .skip 4096
results: .skip 64
stack:  .skip 1024
stack_top:
