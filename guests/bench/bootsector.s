# bootsector: from a BIOS to a kernel of `vtx bench`, for a machine without a Multiboot loader.
#
# What you learn: the way a PC starts. The BIOS puts the first sector of the disk at 0x7c00 and
# jumps there in real mode; one call of it reads the kernel, which lies behind this sector, below
# 1 MiB. Then into protected mode, the kernel up to its place, and on as a Multiboot loader
# would: EAX the magic number, EBX the boot information.
#
# What changes from run to run stands at 0x1e0: the entry point, the kernel's sectors and the
# command line.

        .intel_syntax noprefix
        .include "../include/x86.inc"
        .include "../include/multiboot.inc"

.equ ORIGIN, 0x7c00
.equ BUFFER, 0x10000
.equ KERNEL, 0x100000
.equ SECTOR_SIZE, 512
.equ INFORMATION, 0x600         # free memory
.equ PARAMETERS, ORIGIN + 0x1e0
.equ ENTRY, PARAMETERS
.equ SECTORS, PARAMETERS + 4
.equ COMMAND_LINE, PARAMETERS + 6

        .text
        .code16
        .globl _start
_start:
        jmp 0:1f - _start + ORIGIN      # some BIOSes enter at 0x7c0:0
1:      cli
        xor ax, ax
        mov ds, ax
        mov ss, ax
        mov sp, ORIGIN
        mov ax, [SECTORS]
        mov [packet - _start + ORIGIN + 2], ax
        mov si, packet - _start + ORIGIN
        mov ah, 0x42                    # extended read, drive in DL
        int 0x13
        jc failed
        in al, 0x92                     # address line 20
        or al, 2
        and al, 0xfe
        out 0x92, al
        lgdt [gdt_pointer - _start + ORIGIN]
        mov eax, cr0
        or al, CR0_PE
        mov cr0, eax
        jmp 8:protected - _start + ORIGIN
failed: hlt
        jmp failed

        .code32
protected:
        mov eax, 0x10
        mov ds, eax
        mov es, eax
        mov ss, eax
        mov esi, BUFFER
        mov edi, KERNEL
        movzx ecx, word ptr [SECTORS]
        shl ecx, 9 - 2                  # sectors in double words
        cld
        rep movsd
        mov dword ptr [INFORMATION + BOOT_FLAGS], BOOT_HAS_COMMAND_LINE
        mov dword ptr [INFORMATION + BOOT_COMMAND_LINE], COMMAND_LINE
        mov eax, MULTIBOOT_BOOTED
        mov ebx, INFORMATION
        jmp dword ptr [ENTRY]

        .align 8
gdt:    .quad 0
        .quad DESCRIPTOR_CODE32
        .quad DESCRIPTOR_DATA
gdt_pointer:
        .word 3 * 8 - 1
        .long gdt - _start + ORIGIN
        .align 4
packet: .byte 16, 0                     # its own size
        .word 0                         # sectors
        .word 0, BUFFER >> 4            # to
        .quad 1                         # from: the sector behind this one

        .org 0x1e0
        .skip 30
        .byte 0x55, 0xaa
