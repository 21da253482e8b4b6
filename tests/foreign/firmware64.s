# What a kernel asks before it trusts the machine: boot information, memory map, ACPI, fw_cfg,
# CPUID, and the MSRs that Linux and xv6 read.

.include "long64.inc"

.macro RDMSR64 number
        mov ecx, \number
        rdmsr
        shl rdx, 32
        or rax, rdx
.endm

# Read ECX bytes of fw_cfg item AX to RDI.
fwcfg:
        mov edx, 0x510
        out dx, ax
        inc edx
1:      in al, dx
        stosb
        loop 1b
        ret

# Sum of ECX bytes at RSI: ZF if 0 modulo 256.
checksum:
        xor eax, eax
1:      add al, [rsi]
        inc rsi
        loop 1b
        test al, al
        ret

kmain:
        # --- Multiboot
        mov edx, [mb_magic]
        cmp edx, 0x2badb002
        REPORT "multiboot magic", e
        mov ebx, [mb_info]
        mov edx, [rbx]
        and edx, 0x45
        cmp edx, 0x45
        REPORT "memory, command line and map are given", e
        mov ebp, [rbx + 8]                      # KiB above 1 MiB
        mov edx, [rbx + 4]
        lea eax, [rdx - 512]
        cmp eax, 128
        REPORT "lower memory", be
        mov esi, [rbx + 48]
        mov edi, esi
        add edi, [rbx + 44]
        xor r10d, r10d                          # end of usable memory above 1 MiB
        xor r11d, r11d                          # entries
        xor r12, r12                            # end of the last one: they are sorted
        xor r13d, r13d                          # disorder
1:      mov rax, [rsi + 4]
        cmp rax, r12
        adc r13d, 0
        mov r12, [rsi + 12]
        add r12, rax
        cmp dword ptr [rsi + 20], 1
        jne 2f
        cmp rax, 0x100000
        cmove r10, r12
2:      inc r11d
        mov eax, [rsi]
        lea esi, [rsi + rax + 4]
        cmp esi, edi
        jb 1b
        cmp esi, edi
        REPORT "map ends where it says", e
        mov edx, r11d
        cmp edx, 3
        REPORT "map has entries", ae
        mov edx, r13d
        test edx, edx
        REPORT "map is in order", z
        mov rdx, r10
        shr rdx, 10
        sub edx, 1024
        cmp edx, ebp
        REPORT "map and memory size agree", e

        # --- fw_cfg
        xor eax, eax
        mov ecx, 4
        mov edi, offset buffer
        call fwcfg
        mov edx, [buffer]
        cmp edx, 0x554d4551
        REPORT "fw_cfg signature", e
        mov eax, 5
        mov ecx, 2
        mov edi, offset buffer
        call fwcfg
        movzx edx, word ptr [buffer]
        cmp edx, 1
        REPORT "fw_cfg cpus", e
        mov eax, 3
        mov ecx, 8
        mov edi, offset buffer
        call fwcfg
        mov rdx, [buffer]
        cmp rdx, 16 << 20
        REPORT "fw_cfg ram size", e
        mov eax, 0x3fff
        mov ecx, 4
        mov edi, offset buffer
        call fwcfg
        mov edx, [buffer]
        test edx, edx
        REPORT "fw_cfg no such item", z

        # --- ACPI: EBDA first, then the BIOS area
        movzx esi, word ptr ds:[0x40e]
        shl esi, 4
        mov rax, 0x2052545020445352             # "RSD PTR "
        mov ecx, 64
3:      cmp [rsi], rax
        je 4f
        add esi, 16
        loop 3b
        mov esi, 0xe0000
5:      cmp [rsi], rax
        je 4f
        add esi, 16
        cmp esi, 0x100000
        jb 5b
4:      mov ebx, esi
        cmp esi, 0x100000
        REPORT "rsdp found", b
        mov esi, ebx
        mov ecx, 20
        call checksum
        REPORT "rsdp checksum", z
        mov ebx, [rbx + 16]                     # RSDT
        mov edx, [rbx]
        cmp edx, 0x54445352
        REPORT "rsdt", e
        mov esi, ebx
        mov ecx, [rbx + 4]
        call checksum
        REPORT "rsdt checksum", z
        mov ecx, [rbx + 4]
        sub ecx, 36
        shr ecx, 2
        lea esi, [rbx + 36]
        xor r12d, r12d                          # MADT
        xor r13d, r13d                          # FADT
6:      mov eax, [rsi]
        cmp dword ptr [rax], 0x43495041
        cmove r12d, eax
        cmp dword ptr [rax], 0x50434146
        cmove r13d, eax
        add esi, 4
        loop 6b
        test r12d, r12d
        REPORT "madt", nz
        mov esi, r12d
        mov ecx, [r12 + 4]
        call checksum
        REPORT "madt checksum", z
        mov edx, [r12 + 36]
        cmp edx, 0xfee00000
        REPORT "madt local apic", e
        lea esi, [r12 + 44]
        mov edi, [r12 + 4]
        add edi, r12d
        xor r14d, r14d                          # processors
        xor r15d, r15d                          # IOAPICs at FEC00000
        xor ebp, ebp                            # override IRQ 0 to 2
7:      mov al, [rsi]
        cmp al, 0
        jne 8f
        add r14d, [rsi + 4]
8:      cmp al, 1
        jne 9f
        cmp dword ptr [rsi + 4], 0xfec00000
        jne 9f
        inc r15d
9:      cmp al, 2
        jne 10f
        cmp byte ptr [rsi + 3], 0
        jne 10f
        mov ebp, [rsi + 4]
10:     movzx eax, byte ptr [rsi + 1]
        add esi, eax
        cmp esi, edi
        jb 7b
        mov edx, r14d
        cmp edx, 1
        REPORT "madt processors", e
        mov edx, r15d
        cmp edx, 1
        REPORT "madt ioapic", e
        mov edx, ebp
        cmp edx, 2
        REPORT "madt irq 0 is pin 2", e
        test r13d, r13d
        REPORT "fadt", nz
        mov esi, r13d
        mov ecx, [r13 + 4]
        call checksum
        REPORT "fadt checksum", z
        mov edx, [r13 + 64]
        cmp edx, 0x604
        REPORT "fadt pm1a control block", e
        mov ebp, [r13 + 76]
        test ebp, ebp
        REPORT "fadt pm timer block", nz
        mov edx, ebp
        in eax, dx
        mov ebx, eax
        mov ecx, 20000
11:     loop 11b
        in eax, dx
        sub eax, ebx
        and eax, 0xffffff
        mov edx, eax
        sub eax, 716                            # 20000 ticks of the TSC at 3579545 Hz
        cmp eax, 2
        REPORT "pm timer", be

        # --- CPUID
        xor eax, eax
        cpuid
        mov ebp, eax
        cmp ebx, 0x756e6547
        REPORT "vendor", e
        cmp ebp, 0xd
        REPORT "leaves", ae
        mov eax, 1
        cpuid
        mov edi, edx
        mov ebp, ecx
        and edx, 0x0000a178                     # what 64-bit kernels demand, but for FPU and SSE
        cmp edx, 0x0000a178
        REPORT "pse tsc msr pae cx8 pge cmov", e
        bt ebp, 31
        REPORT "not under a hypervisor", nc
        bt ebp, 5
        REPORT "vmx hidden", nc
        shr ebx, 8
        mov edx, ebx
        and edx, 0xff
        cmp edx, 8
        REPORT "clflush line of 64 bytes", e
        mov eax, 0x80000000
        cpuid
        mov edx, eax
        cmp eax, 0x80000008
        REPORT "extended leaves", ae
        mov eax, 0x80000001
        cpuid
        mov edi, edx
        and edx, 1 << 29 | 1 << 20 | 1 << 11 | 1 << 27 | 1 << 26
        cmp edx, 1 << 29 | 1 << 20 | 1 << 11 | 1 << 27 | 1 << 26
        REPORT "lm nx syscall rdtscp 1g", e
        mov eax, 0x80000008
        cpuid
        mov edx, eax
        cmp ax, 0x3027
        REPORT "39 physical and 48 linear bits", e
        mov eax, 0x80000007
        cpuid
        bt edx, 8
        REPORT "invariant tsc", c
        xor r14d, r14d
        xor r15d, r15d
12:     mov eax, 4                              # caches, until a type of 0
        mov ecx, r14d
        cpuid
        inc r14d
        and eax, 0x1f
        jz 13f
        inc r15d
        cmp r14d, 16
        jb 12b
13:     mov edx, r15d
        lea eax, [rdx - 1]
        cmp eax, 5
        REPORT "leaf 4 ends", b
        xor r14d, r14d
14:     mov eax, 0xb
        mov ecx, r14d
        cpuid
        mov edi, ecx
        inc r14d
        shr ecx, 8
        and ecx, 0xff
        jz 15f
        cmp r14d, 8
        jb 14b
15:     mov edx, r14d
        cmp edx, 8
        REPORT "leaf 0xb ends", b
        mov eax, 0x40000000                     # beyond the last leaf: as the highest basic one
        cpuid
        cmp ebx, 0x4b4d564b
        REPORT "no kvm", ne

        # --- MSRs
        RDMSR64 0xfe
        mov rdx, rax
        movzx ebp, al
        cmp ebp, 8
        REPORT "mtrrcap: eight variable ranges", e
        RDMSR64 0x2ff
        mov rdx, rax
        and eax, 0xc00
        cmp eax, 0xc00
        REPORT "mtrrs and fixed ranges enabled", e
        RDMSR64 0x250
        mov rdx, rax
        mov rbx, 0x0606060606060606
        cmp rax, rbx
        REPORT "low memory is write-back", e
        RDMSR64 0x277
        mov rdx, rax
        mov rbx, 0x0007040600070406
        cmp rax, rbx
        REPORT "pat", e
        mov edx, 0x00070106                     # Linux: WC in entry 1
        mov eax, 0x00070106
        mov ecx, 0x277
        wrmsr
        RDMSR64 0x277
        mov rdx, rax
        cmp eax, 0x00070106
        REPORT "pat written", e
        RAISES "pat type 2", 13, 0, "mov ecx, 0x277; mov eax, 2; mov edx, 0; wrmsr"
        RDMSR64 0x1a0
        mov rdx, rax
        test al, 1
        REPORT "misc_enable: fast strings", nz
        RDMSR64 0x8b
        mov rdx, rax
        shr rax, 32
        REPORT "microcode revision", nz
        RDMSR64 0xce
        shr eax, 8
        and eax, 0xff
        mov edx, eax
        test eax, eax
        REPORT "platform info ratio", nz
        RDMSR64 0x179
        RDMSR64 0x3b
        mov rdx, rax
        test rax, rax
        REPORT "tsc_adjust", z
        mov ecx, 0x3b
        mov edx, 1
        xor eax, eax
        wrmsr
        rdtsc
        cmp edx, 1
        REPORT "tsc_adjust moves the tsc", e
        RAISES "no such msr", 13, 0, "RDMSR64 0x12345"
        RAISES "no amd msr", 13, 0, "RDMSR64 0xc0010015"
        RAISES "reserved bits of efer", 13, 0, "mov ecx, 0xc0000080; rdmsr; or eax, 2; wrmsr"
        RAISES "efer.lme with paging", 13, 0, "mov ecx, 0xc0000080; rdmsr; btr eax, 8; wrmsr"
        ret

.bss
.align 16
buffer: .skip 64
.text
