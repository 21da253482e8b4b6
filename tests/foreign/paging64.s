# Pages of every size, rights, PCIDs and the TLB, and code that changes under the processor.

.include "long64.inc"

.equ P, 1
.equ W, 2
.equ U, 4
.equ A, 0x20
.equ D, 0x40
.equ PS, 0x80
.equ G, 0x100

.equ PT, 0x210000                       # 4 KiB pages at VA 4 GiB + ...
.equ NPD, 0x211000
.equ NPDPT, 0x212000
.equ PML4B, 0x213000
.equ PDPTB, 0x214000
.equ PDB, 0x215000
.equ PTB, 0x216000
.equ FRAME1, 0x400000
.equ FRAME2, 0x401000
.equ FRAME3, 0x402000
.equ VA, 0x8000000000                   # 512 GiB: the second entry of the PML4

# Entry \n of PT becomes \value.
.macro PTE n, value
        mov rax, \value
        mov [PT + \n * 8], rax
.endm

kmain:
        mov r15, VA
        mov edi, PT
        mov ecx, 0x7000 / 4
        xor eax, eax
        rep stosd
        mov qword ptr [PML4 + 8], NPDPT + P + W + U
        mov qword ptr [NPDPT], NPD + P + W + U
        mov qword ptr [NPD], PT + P + W + U
        mov dword ptr [FRAME1], 0x11111111
        mov dword ptr [FRAME2], 0x22222222
        mov dword ptr [FRAME3], 0x33333333

        # --- rights
        PTE 0, FRAME1 + P + W
        mov edx, [r15]
        cmp edx, 0x11111111
        REPORT "4 KiB page", e
        mov edx, [PT]
        and edx, A + D
        cmp edx, A
        REPORT "accessed, not dirty", e
        mov [r15 + 4], edx
        mov edx, [PT]
        and edx, A + D
        cmp edx, A + D
        REPORT "dirty", e
        RAISES "not present, read", 14, 0, "mov eax, [r15 + 0x1000]"
        mov rdx, [fault_addr]
        lea rax, [r15 + 0x1000]
        cmp rdx, rax
        REPORT "cr2", e
        RAISES "not present, write", 14, 2, "mov [r15 + 0x1000], eax"
        PTE 1, FRAME2 + P
        RAISES "read-only with wp", 14, 3, "mov [r15 + 0x1000], eax"
        mov rax, cr0
        btr eax, 16
        mov cr0, rax
        mov dword ptr [r15 + 0x1000], 0x22220000
        mov edx, [FRAME2]
        cmp edx, 0x22220000
        REPORT "read-only without wp", e
        bts eax, 16
        mov cr0, rax
        PTE 2, FRAME3 + P + W
        bts qword ptr [PT + 16], 63
        mov byte ptr [FRAME3], 0xc3
        RAISES "no execute", 14, 0x11, "lea rax, [r15 + 0x2000]; call rax"
        btr qword ptr [PT + 16], 63
        invlpg [r15 + 0x2000]
        TRY "lea rax, [r15 + 0x2000]; call rax"
        mov edx, [hits + 14 * 4]
        cmp edx, 1
        REPORT "execute", e
        PTE 3, 1 << 45 | FRAME3 + P + W
        RAISES "reserved bit", 14, 9, "mov eax, [r15 + 0x3000]"
        mov qword ptr [NPD + 8], 0x400000 + 0x2000 + P + W + PS
        RAISES "reserved bit of a large page", 14, 9, "mov eax, [r15 + 0x200000]"

        # --- user and supervisor
        mov eax, 7
        xor ecx, ecx
        cpuid
        bt ebx, 7
        REPORT "cpuid smep", c
        PTE 4, FRAME3 + P + W + U
        TRY "lea rax, [r15 + 0x4000]; call rax"
        mov rax, cr4
        bts rax, 20
        mov cr4, rax
        RAISES "smep", 14, 0x11, "lea rax, [r15 + 0x4000]; call rax"
        mov rax, cr4
        btr rax, 20
        mov cr4, rax
        # Ring 3 at the user page: read a supervisor page.
        mov dword ptr [FRAME3], 0x90078b41      # mov eax, [r15]; nop
        mov dword ptr [hits + 14 * 4], 0
        mov [fixup_sp], rsp
        mov qword ptr [fixup], offset 1f
        push UDS
        push 0
        push 2
        push UCS
        lea rax, [r15 + 0x4000]
        push rax
        iretq
1:      mov qword ptr [fixup], 0
        mov edx, [err]
        cmp edx, 5
        REPORT "user reads supervisor page", e
        mov rdx, [fault_addr]
        cmp rdx, r15
        REPORT "its cr2", e

        # --- large pages
        mov qword ptr [NPD + 16], 0x400000 + P + W + PS
        mov edx, [r15 + 0x401000]
        cmp edx, 0x22220000
        REPORT "2 MiB page", e
        mov eax, 0x80000001
        cpuid
        bt edx, 26
        REPORT "cpuid 1 GiB pages", c
        mov qword ptr [NPDPT + 8], P + W + PS
        mov rbx, r15
        bts rbx, 30
        mov edx, [rbx + FRAME2]
        cmp edx, 0x22220000
        REPORT "1 GiB page", e
        mov [rbx + FRAME2 + 8], edx
        mov edx, [NPDPT + 8]
        and edx, A + D
        cmp edx, A + D
        REPORT "1 GiB page dirty", e
        # A large page becomes a table of small ones.
        mov qword ptr [NPD + 16], PT + P + W
        invlpg [r15 + 0x400000]
        mov edx, [r15 + 0x401000]
        cmp edx, 0x22220000
        REPORT "large page split", e
        mov edx, [r15 + 0x400004]
        mov edx, [r15 + 0x400000]
        cmp edx, 0x11111111
        REPORT "its first page", e

        # --- INVLPG
        PTE 5, FRAME1 + P + W
        mov eax, [r15 + 0x5000]
        PTE 5, FRAME2 + P + W
        invlpg [r15 + 0x5123]
        mov edx, [r15 + 0x5000]
        cmp edx, 0x22220000
        REPORT "invlpg anywhere in the page", e
        PTE 5, 0
        invlpg [r15 + 0x5000]
        RAISES "unmapped", 14, 0, "mov eax, [r15 + 0x5000]"
        PTE 5, FRAME1 + P + W                   # not present to present: nothing to invalidate
        mov edx, [r15 + 0x5000]
        cmp edx, 0x11111111
        REPORT "mapped again", e
        mov rax, 0x123456789abcdef0
        invlpg [rax]
        cmp eax, eax
        REPORT "invlpg not canonical is nothing", e

        # --- global pages survive MOV CR3
        mov rax, cr4
        bts rax, 7
        mov cr4, rax
        PTE 6, FRAME1 + P + W
        or dword ptr [PT + 48], G
        mov eax, [r15 + 0x6000]
        PTE 6, FRAME2 + P + W
        or dword ptr [PT + 48], G
        invlpg [r15 + 0x6000]
        mov edx, [r15 + 0x6000]
        cmp edx, 0x22220000
        REPORT "invlpg takes global pages too", e
        PTE 6, FRAME3 + P + W
        mov rax, cr4
        btr rax, 7
        mov cr4, rax
        mov edx, [r15 + 0x6000]
        cmp edx, 0x90078b41
        REPORT "so does a change of cr4.pge", e

        # --- PCID: two address spaces that differ at VA
        mov eax, 1
        cpuid
        bt ecx, 17
        REPORT "cpuid pcid", c
        mov rax, [PML4]
        mov [PML4B], rax
        mov qword ptr [PML4B + 8], PDPTB + P + W
        mov qword ptr [PDPTB], PDB + P + W
        mov qword ptr [PDB], PTB + P + W
        mov qword ptr [PTB], FRAME2 + P + W
        mov rax, cr4
        bts rax, 17
        mov cr4, rax
        mov eax, PML4B + 5
        mov cr3, rax
        mov edx, [r15]
        cmp edx, 0x22220000
        REPORT "pcid 5", e
        mov rax, 1 << 63 | PML4 + 0
        mov cr3, rax
        mov rdx, cr3
        cmp rdx, PML4
        REPORT "bit 63 is not kept", e
        mov edx, [r15]
        cmp edx, 0x11111111
        REPORT "pcid 0", e
        mov rax, 1 << 63 | PML4B + 5
        mov cr3, rax
        mov edx, [r15]
        cmp edx, 0x22220000
        REPORT "pcid 5 without a flush", e
        mov qword ptr [PTB], FRAME3 + P + W
        mov eax, PML4B + 5
        mov cr3, rax
        mov edx, [r15]
        cmp edx, 0x90078b41
        REPORT "pcid 5 with a flush", e
        mov qword ptr [PTB], FRAME1 + P + W
        mov eax, PML4
        mov cr3, rax
        mov qword ptr [descr], 5
        mov [descr + 8], r15
        xor eax, eax
        invpcid rax, [descr]
        mov rax, 1 << 63 | PML4B + 5
        mov cr3, rax
        mov edx, [r15]
        cmp edx, 0x11111111
        REPORT "invpcid of one address of another", e
        mov rax, 1 << 63 | PML4
        mov cr3, rax
        RAISES "cr4.pcide off and cr3 without pcide: bit 63", 13, 0, "mov rax, cr4; btr rax, 17; mov cr4, rax; mov rax, 1 << 63 | PML4; mov cr3, rax"
        RAISES "pcide on with a pcid in cr3", 13, 0, "mov eax, PML4 + 8; mov cr3, rax; mov rax, cr4; bts rax, 17; mov cr4, rax"
        mov eax, PML4
        mov cr3, rax

        # --- code that changes
        mov ecx, 5
        xor ebx, ebx
2:      call patched
        inc byte ptr [patched + 1]
        dec ecx
        jnz 2b
        mov edx, ebx
        cmp edx, 1 + 2 + 3 + 4 + 5
        REPORT "self-modifying code", e
        mov byte ptr [3f + 1], 7                # the next instruction
3:      mov al, 0
        movzx edx, al
        cmp edx, 7
        REPORT "the very next instruction", e
        # The same frame through two addresses: write one, execute the other.
        PTE 7, FRAME3 + P + W
        mov dword ptr [FRAME3], 0x000001b8
        mov word ptr [FRAME3 + 4], 0xc300
        lea rsi, [r15 + 0x7000]
        call rsi
        mov byte ptr [FRAME3 + 1], 9
        call rsi
        mov edx, eax
        cmp edx, 9
        REPORT "through an alias", e

        # --- an instruction over a page boundary
        PTE 8, FRAME1 + P + W
        PTE 9, FRAME3 + P + W
        mov byte ptr [FRAME1 + 0xffe], 0xb8     # mov eax, 0x44332211; ret
        mov byte ptr [FRAME1 + 0xfff], 0x11
        mov dword ptr [FRAME3], 0xc3443322
        lea rbp, [r15 + 0x8ffe]
        call rbp
        mov edx, eax
        cmp edx, 0x44332211
        REPORT "instruction over two pages", e
        mov byte ptr [FRAME3], 0x66
        call rbp
        mov edx, eax
        cmp edx, 0x44336611
        REPORT "its second half changes", e
        PTE 9, 0
        invlpg [r15 + 0x9000]
        RAISES "its second page is gone", 14, 0x10, "call rbp"
        mov rdx, [fault_addr]
        lea rax, [r15 + 0x9000]
        cmp rdx, rax
        REPORT "cr2 is the second page", e
        mov rdx, [fault_rip]
        cmp rdx, rbp
        REPORT "rip is the instruction", e
        # Data over two pages, the second missing: nothing is written.
        mov dword ptr [FRAME1 + 0xffc], 0x55555555
        RAISES "store over two pages", 14, 2, "mov qword ptr [r15 + 0x8ffc], -1"
        mov edx, [FRAME1 + 0xffc]
        cmp edx, 0x55555555
        REPORT "nothing of it was written", e
        PTE 9, FRAME3 + P + W
        mov qword ptr [r15 + 0x8ffc], -1
        mov edx, [FRAME3]
        and edx, [FRAME1 + 0xffc]
        cmp edx, -1
        REPORT "store over two pages, mapped", e
        ret

.align 64
patched:
        mov al, 1
        movzx eax, al
        add ebx, eax
        ret

.data
.align 16
descr:  .quad 0, 0
.text
