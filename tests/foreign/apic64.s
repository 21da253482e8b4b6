# Local APIC, IOAPIC, PIT and TSC the way a kernel brings them up and calibrates them.

.include "long64.inc"

.equ APIC, 0xfee00000
.equ IOAPIC, 0xfec00000

.macro RDMSR64 number
        mov ecx, \number
        rdmsr
        shl rdx, 32
        or rax, rdx
.endm

.macro WRMSR64 number, value
        mov ecx, \number
        mov rax, \value
        mov rdx, rax
        shr rdx, 32
        wrmsr
.endm

.macro TSC
        rdtsc
        shl rdx, 32
        or rax, rdx
.endm

eoi_xapic:
        mov dword ptr [r8 + 0xb0], 0
        ret
eoi_x2apic:
        push rdx
        xor eax, eax
        xor edx, edx
        mov ecx, 0x80b
        wrmsr
        pop rdx
        ret

# Write EBX to IOAPIC register EAX.
ioapic_write:
        mov [r9], eax
        mov [r9 + 16], ebx
        ret

# Busy-wait for the PIT's channel 2 to count EBX ticks, as Linux's calibration does.
pit_wait:
        in al, 0x61
        and al, 0xfd
        or al, 1
        out 0x61, al
        mov al, 0xb0
        out 0x43, al
        mov al, bl
        out 0x42, al
        mov al, bh
        out 0x42, al
1:      in al, 0x61
        test al, 0x20
        jz 1b
        ret

kmain:
        mov r8d, APIC
        mov r9d, IOAPIC
        # --- detection
        RDMSR64 0x1b
        mov rdx, rax
        mov ebx, 0xfee00900
        cmp rdx, rbx
        REPORT "apic base: enabled, bootstrap processor", e
        mov eax, 1
        cpuid
        mov edi, edx
        mov ebp, ecx
        bt edi, 9
        REPORT "cpuid apic", c
        bt ebp, 21
        REPORT "cpuid x2apic", c
        bt ebp, 24
        REPORT "cpuid tsc deadline", c
        mov edx, [r8 + 0x30]
        cmp dl, 0x14
        REPORT "xapic version", ae
        shr edx, 16
        cmp dl, 5
        REPORT "xapic max lvt", ae
        mov edx, [r8 + 0x20]
        shr edx, 24
        mov eax, 1
        cpuid
        shr ebx, 24
        mov edx, [r8 + 0x20]
        shr edx, 24
        cmp ebx, edx
        REPORT "xapic id is cpuid's", e

        # --- xAPIC
        mov qword ptr [eoi], offset eoi_xapic
        mov dword ptr [r8 + 0xf0], 0x1ff
        mov dword ptr [r8 + 0x80], 0
        mov dword ptr [r8 + 0x300], 0x40050
        sti
        nop
        nop
        cli
        mov edx, [hits + 0x50 * 4]
        cmp edx, 1
        REPORT "xapic self ipi", e
        mov dword ptr [r8 + 0x310], 0
        mov dword ptr [r8 + 0x300], 0x51
        sti
        nop
        nop
        cli
        mov edx, [hits + 0x51 * 4]
        cmp edx, 1
        REPORT "xapic ipi to physical id 0", e
        mov dword ptr [r8 + 0xd0], 0x01000000
        mov dword ptr [r8 + 0xe0], 0xffffffff
        mov dword ptr [r8 + 0x310], 0x01000000
        mov dword ptr [r8 + 0x300], 0x852
        sti
        nop
        nop
        cli
        mov edx, [hits + 0x52 * 4]
        cmp edx, 1
        REPORT "xapic ipi to logical id", e
        # Priorities: the task priority holds 0x53 back, and 0x63 goes first.
        mov dword ptr [r8 + 0x80], 0x70
        mov dword ptr [r8 + 0x300], 0x40053
        mov dword ptr [r8 + 0x300], 0x40063
        sti
        nop
        nop
        cli
        mov edx, [hits + 0x63 * 4]
        add edx, [hits + 0x53 * 4]
        cmp edx, 0
        REPORT "task priority masks", e
        mov edx, [r8 + 0x200 + 0x20]
        mov edx, [r8 + 0x200 + 0x30]
        cmp edx, 1 << 3
        REPORT "irr holds it", e
        mov eax, 5
        mov cr8, rax
        sti
        nop
        nop
        cli
        mov edx, [hits + 0x63 * 4]
        cmp edx, 1
        REPORT "cr8 of 5 lets 0x63 through", e
        mov edx, [hits + 0x53 * 4]
        cmp edx, 0
        REPORT "and not 0x53", e
        xor eax, eax
        mov cr8, rax
        sti
        nop
        nop
        cli
        mov edx, [hits + 0x53 * 4]
        cmp edx, 1
        REPORT "cr8 of 0 lets it through", e

        # --- calibration
        mov ebx, 12
        call pit_wait
        TSC
        mov r12, rax
        mov ebx, 119
        call pit_wait
        TSC
        sub rax, r12
        mov rdx, rax
        sub rax, 9973                           # 119 ticks of 11 / 13125000 s
        cmp rax, 84 + 40                        # a PIT tick to load, a few instructions
        REPORT "tsc ticks in 119 of the pit", be
        mov dword ptr [r8 + 0x3e0], 0xb
        mov dword ptr [r8 + 0x320], 0x10000
        mov dword ptr [r8 + 0x380], 0xffffffff
        TSC
        mov r12, rax
        mov r13d, [r8 + 0x390]
        mov ecx, 1000
1:      loop 1b
        TSC
        mov r14, rax
        mov r15d, [r8 + 0x390]
        sub r14, r12
        sub r13, r15
        mov rdx, r13
        cmp r13, r14
        REPORT "lapic timer at divide 1 is the tsc", e
        mov dword ptr [r8 + 0x3e0], 0x3    # divide by 16
        mov dword ptr [r8 + 0x380], 0x10000
        mov ecx, 15990
2:      loop 2b
        mov edx, [r8 + 0x390]
        sub edx, 0x10000
        neg edx
        lea eax, [rdx - 999]
        cmp eax, 1
        REPORT "lapic timer at divide 16", be

        # --- timer interrupts
        mov dword ptr [r8 + 0x3e0], 0xb
        mov dword ptr [r8 + 0x320], 0x60
        TSC
        mov r12, rax
        mov dword ptr [r8 + 0x380], 5000
        sti
        hlt
        cli
        TSC
        sub rax, r12
        mov rdx, rax
        sub rax, 5000
        cmp rax, 64
        REPORT "hlt until the one-shot timer", b
        mov edx, [r8 + 0x390]
        test edx, edx
        REPORT "one-shot timer has stopped", z
        mov dword ptr [r8 + 0x320], 0x20061
        mov dword ptr [r8 + 0x380], 2000
        sti
3:      hlt
        cmp dword ptr [hits + 0x61 * 4], 5
        jb 3b
        cli
        mov dword ptr [r8 + 0x380], 0
        mov edx, [hits + 0x61 * 4]
        cmp edx, 5
        REPORT "periodic timer", e

        # --- TSC deadline
        mov dword ptr [r8 + 0x320], 0x40062
        mfence
        TSC
        lea r12, [rax + 3000]
        WRMSR64 0x6e0, r12
        RDMSR64 0x6e0
        mov rdx, rax
        cmp rdx, r12
        REPORT "deadline reads back", e
        sti
        hlt
        cli
        TSC
        sub rax, r12
        mov rdx, rax
        cmp rax, 64
        REPORT "hlt until the deadline", b
        RDMSR64 0x6e0
        mov rdx, rax
        test rax, rax
        REPORT "deadline has gone", z
        mov dword ptr [r8 + 0x320], 0x10000

        # --- IOAPIC: the PIT is on pin 2
        mov dword ptr [r9], 1
        mov edx, [r9 + 16]
        shr edx, 16
        and edx, 0xff
        cmp edx, 23
        REPORT "ioapic has 24 pins", e
        mov eax, 0x15
        xor ebx, ebx
        call ioapic_write
        mov eax, 0x14
        mov ebx, 0x70
        call ioapic_write
        mov al, 0x34
        out 0x43, al
        mov al, 120
        out 0x40, al
        xor eax, eax
        out 0x40, al
        sti
4:      hlt
        cmp dword ptr [hits + 0x70 * 4], 3
        jb 4b
        TSC
        mov r12, rax
        hlt
        hlt
        hlt
        TSC
        cli
        sub rax, r12
        mov rdx, rax
        sub rax, 30000
        add rax, 500                            # 3 * 120 ticks: 30171
        cmp rax, 1000
        REPORT "pit through the ioapic", b
        mov eax, 0x14
        mov ebx, 0x10070
        call ioapic_write
        mov r12d, [hits + 0x70 * 4]
        sti
        mov ecx, 30000
5:      loop 5b
        cli
        mov edx, [hits + 0x70 * 4]
        cmp edx, r12d
        REPORT "masked at the ioapic", e

        # --- modes of the local APIC
        RAISES "x2apic from xapic and back: gp", 13, 0, "WRMSR64 0x1b, 0xfee00d00; WRMSR64 0x1b, 0xfee00900"
        RDMSR64 0x802
        mov rdx, rax
        test rax, rax
        REPORT "x2apic id", z
        RDMSR64 0x803
        mov rdx, rax
        cmp al, 0x14
        REPORT "x2apic version", ae
        mov qword ptr [eoi], offset eoi_x2apic
        WRMSR64 0x80f, 0x1ff
        WRMSR64 0x83f, 0x54
        sti
        nop
        nop
        cli
        mov edx, [hits + 0x54 * 4]
        cmp edx, 1
        REPORT "x2apic self ipi register", e
        WRMSR64 0x830, 0x55
        sti
        nop
        nop
        cli
        mov edx, [hits + 0x55 * 4]
        cmp edx, 1
        REPORT "x2apic icr to id 0", e
        RDMSR64 0x80d
        mov rdx, rax
        cmp rdx, 1
        REPORT "x2apic logical id is of the id", e
        RAISES "x2apic eoi of 1: gp", 13, 0, "WRMSR64 0x80b, 1"
        RAISES "x2apic has no icr2: gp", 13, 0, "RDMSR64 0x831"
        RAISES "x2apic reserved register: gp", 13, 0, "RDMSR64 0x80e"
        RAISES "x2apic eoi cannot be read: gp", 13, 0, "RDMSR64 0x80b"
        WRMSR64 0x832, 0x40064
        TSC
        lea r12, [rax + 2000]
        WRMSR64 0x6e0, r12
        sti
        hlt
        cli
        mov edx, [hits + 0x64 * 4]
        cmp edx, 1
        REPORT "deadline in x2apic mode", e

        WRMSR64 0x1b, 0xfee00100
        mov eax, 1
        cpuid
        bt edx, 9
        REPORT "disabled apic leaves cpuid", nc
        RAISES "disabled: no x2apic registers", 13, 0, "RDMSR64 0x802"
        RAISES "x2apic from disabled: gp", 13, 0, "WRMSR64 0x1b, 0xfee00d00"
        RAISES "x2apic without enable: gp", 13, 0, "WRMSR64 0x1b, 0xfee00500"
        WRMSR64 0x1b, 0xfee00900
        mov eax, 1
        cpuid
        bt edx, 9
        REPORT "enabled again", c
        mov qword ptr [eoi], offset eoi_xapic
        mov edx, [r8 + 0xf0]
        cmp edx, 0xff
        REPORT "its registers are reset", e
        mov dword ptr [r8 + 0xf0], 0x1ff
        mov dword ptr [r8 + 0x300], 0x40056
        sti
        nop
        nop
        cli
        mov edx, [hits + 0x56 * 4]
        cmp edx, 1
        REPORT "self ipi again", e
        ret
