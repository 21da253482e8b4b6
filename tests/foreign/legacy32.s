# 32-bit protected mode without paging: rings, gates, segments, virtual-8086 mode, and the
# devices of the PC that such kernels drive.

.intel_syntax noprefix
.code32
.equ COM, 0x3f8
.equ KCS, 0x08
.equ KDS, 0x10
.equ R1CS, 0x18 | 1
.equ R1DS, 0x20 | 1
.equ R2CS, 0x28 | 2
.equ R2DS, 0x30 | 2
.equ SMALL, 0x38                # data, limit 0xff
.equ DOWN, 0x40                 # expand-down, above 0xfff
.equ RODATA, 0x48
.equ GATE, 0x50                 # call gate to KCS, two parameters, DPL 3
.equ TSSSEL, 0x58
.equ LDTSEL, 0x60
.equ SYSCS, 0x68                # SYSENTER: 68 70 kernel, 78 80 user
.equ UCS, 0x78 | 3
.equ UDS, 0x80 | 3
.equ SMALLCODE, 0x88            # code, limit one page
.equ ABSENT, 0x90
.equ CONFORMING, 0x98
.equ V86_BASE, 0x9000
.equ scratch_page, 0x500000

.text
.align 4
mbhdr:  .long 0x1badb002, 0, -0x1badb002
.globl _start
_start:
        cli
        cld
        mov esp, offset stack
        mov eax, offset tss
        mov [gdt + TSSSEL + 2], ax
        shr eax, 16
        mov [gdt + TSSSEL + 4], al
        mov eax, offset ldt
        mov [gdt + LDTSEL + 2], ax
        shr eax, 16
        mov [gdt + LDTSEL + 4], al
        mov eax, offset gate_entry
        mov [gdt + GATE], ax
        shr eax, 16
        mov [gdt + GATE + 6], ax
        lgdt [gdtr]
        push KCS
        push offset 1f
        retf
1:      mov eax, KDS
        mov ds, eax
        mov es, eax
        mov fs, eax
        mov gs, eax
        mov ss, eax
        mov dword ptr [tss + 4], offset stack0
        mov dword ptr [tss + 8], KDS
        mov dword ptr [tss + 12], offset stack1
        mov dword ptr [tss + 16], R1DS
        mov dword ptr [tss + 20], offset stack2
        mov dword ptr [tss + 24], R2DS
        mov word ptr [tss + 102], 104
        mov eax, TSSSEL
        ltr ax
        mov eax, LDTSEL
        lldt ax
        mov edi, offset idt
        mov eax, offset stubs
        mov ecx, 256
2:      mov [edi], ax
        mov word ptr [edi + 2], KCS
        mov word ptr [edi + 4], 0xee00
        mov edx, eax
        shr edx, 16
        mov [edi + 6], dx
        add edi, 8
        add eax, 16
        loop 2b
        lidt [idtr]

        call segments
        call rings
        call fast_calls
        call virtual86
        call pic_pit
        call uart
        call cmos
        cmp dword ptr [bad], 0
        mov eax, 0
        setne al
        out 0xf4, al
        hlt

.align 16
stubs:
.set v, 0
.rept 256
.if v == 8 || (v >= 10 && v <= 14) || v == 17
.else
        push 0
.endif
        push v
        jmp trap
        .align 16
.set v, v + 1
.endr

# Counts the vector, notes error code, CS and EIP. Exceptions go on at [fixup] in ring 0.
trap:   pushad
        mov ax, ds
        mov ss:[trap_ds], ax
        mov ax, KDS
        mov ds, ax
        mov es, ax
        movzx ecx, byte ptr [esp + 32]
        inc dword ptr [hits + ecx * 4]
        mov eax, [esp + 44]
        mov [trap_cs], eax
        mov eax, [esp + 48]
        mov [trap_flags], eax
        cmp ecx, 32
        jae 1f
        mov eax, [esp + 36]
        mov [err], eax
        mov eax, [esp + 40]
        mov [trap_eip], eax
        cmp dword ptr [fixup], 0
        je lost
        mov ax, KDS
        mov ss, ax
        mov esp, [fixup_sp]
        jmp [fixup]
1:      cmp ecx, 0x80                   # a way back to ring 0 for whoever asks
        jne 2f
        mov esp, [fixup_sp]
        jmp [fixup]
2:      mov al, 0x20
        cmp ecx, 0x48
        jb 3f
        out 0xa0, al
3:      out 0x20, al
        popad
        add esp, 8
        iretd
lost:   mov esi, offset lost_text
        call puts
        mov eax, [esp + 32]
        call hex
        mov eax, [esp + 36]
        call hex
        mov eax, [esp + 40]
        call hex
        mov al, 0x7f
        out 0xf4, al

report_: test al, al
        jnz 1f
        inc dword ptr [bad]
        push esi
        mov esi, offset fail_text
        call puts
        pop esi
        call puts
        mov eax, edx
        jmp hex
1:      push esi
        mov esi, offset pass_text
        call puts
        pop esi
        call puts
        mov esi, offset newline
puts:   push edx
        mov edx, COM
1:      lodsb
        test al, al
        jz 2f
        out dx, al
        jmp 1b
2:      pop edx
        ret
hex:    push ecx
        push edx
        mov edx, eax
        mov ecx, 8
1:      rol edx, 4
        mov eax, edx
        and eax, 15
        mov al, [digits + eax]
        push edx
        mov edx, COM
        out dx, al
        pop edx
        loop 1b
        mov edx, COM
        mov al, 10
        out dx, al
        pop edx
        pop ecx
        ret

.macro REPORT text, cc
        set\cc al
        mov esi, offset 9f
        call report_
        .section .rodata
9:      .asciz "\text"
        .text
.endm

.macro TRY code
        mov [fixup_sp], esp
        mov dword ptr [fixup], offset 7f
        \code
7:      mov dword ptr [fixup], 0
        mov eax, KDS
        mov ds, eax
        mov es, eax
.endm

.macro RAISES text, vector, error, code
        mov dword ptr [hits + (\vector) * 4], 0
        mov dword ptr [err], -1
        TRY "\code"
        mov edx, [hits + (\vector) * 4]
        shl edx, 16
        or dx, [err]
        cmp edx, 0x10000 | (\error)
        REPORT "\text", e
.endm

# --------------------------------------------------------------------------------------------
segments:
        mov eax, SMALL
        mov fs, eax
        mov al, fs:[0xff]
        mov eax, fs:[0xfc]
        cmp eax, eax
        REPORT "last bytes of a small segment", e
        RAISES "one byte beyond", 13, 0, "mov al, fs:[0x100]"
        RAISES "four bytes over the limit", 13, 0, "mov eax, fs:[0xfd]"
        RAISES "offset wraps", 13, 0, "mov eax, fs:[0xffffffff]"
        RAISES "write over the limit", 13, 0, "mov fs:[0xff], ax"
        mov eax, DOWN
        mov fs, eax
        mov dword ptr fs:[0x1000], 0x1234
        mov edx, [scratch_page + 0x1000]
        cmp edx, 0x1234
        REPORT "expand-down above its limit", e
        RAISES "expand-down at its limit", 13, 0, "mov al, fs:[0xfff]"
        RAISES "expand-down across its limit", 13, 0, "mov eax, fs:[0xffe]"
        mov eax, RODATA
        mov fs, eax
        mov eax, fs:[0]
        RAISES "read-only data", 13, 0, "mov fs:[0], eax"
        RAISES "execute-only cannot be written", 13, 0, "mov cs:[scratch], eax"
        xor eax, eax
        mov fs, eax
        RAISES "null selector used", 13, 0, "mov al, fs:[0]"
        RAISES "null selector into ss", 13, 0, "xor eax, eax; mov ss, eax"
        RAISES "read-only data into ss", 13, RODATA, "mov eax, RODATA; mov ss, eax"
        RAISES "code into ss", 13, KCS, "mov eax, KCS; mov ss, eax"
        RAISES "selector beyond the table", 13, 0x7f8, "mov eax, 0x7f8; mov fs, eax"
        RAISES "absent data segment", 11, ABSENT, "mov eax, ABSENT; mov fs, eax"
        RAISES "absent stack segment", 12, ABSENT, "mov eax, ABSENT; mov ss, eax"
        RAISES "tss selector into ds", 13, TSSSEL, "mov eax, TSSSEL; mov ds, eax"
        RAISES "stack segment of another ring", 13, SMALL, "mov eax, SMALL; mov ss, eax"
        # The local descriptor table.
        mov eax, 4 | 0
        mov fs, eax
        mov edx, fs:[0]
        cmp edx, [scratch_page]
        REPORT "segment of the ldt", e
        RAISES "beyond the ldt", 13, 0x14, "mov eax, 0x14; mov fs, eax"
        sldt dx
        cmp dx, LDTSEL
        REPORT "sldt", e
        xor eax, eax
        lldt ax
        RAISES "no ldt", 13, 4, "mov eax, 4; mov fs, eax"
        mov eax, LDTSEL
        lldt ax
        # VERR, VERW, LAR, LSL, ARPL
        mov eax, RODATA
        verr ax
        REPORT "verr of read-only data", z
        mov eax, RODATA
        verw ax
        REPORT "verw of it", nz
        mov eax, SMALL
        lsl edx, eax
        cmp edx, 0xff
        REPORT "lsl in bytes", e
        mov eax, KDS
        lsl edx, eax
        cmp edx, -1
        REPORT "lsl in pages", e
        mov eax, GATE
        lar edx, eax
        shr edx, 8
        and edx, 0xff
        cmp edx, 0xec
        REPORT "lar of a call gate", e
        mov edx, 0x10
        mov eax, 3
        arpl dx, ax
        REPORT "arpl raises", z
        cmp edx, 0x13
        REPORT "arpl to 3", e
        # Accessed bits.
        mov byte ptr [gdt + SMALL + 5], 0xf2
        mov eax, SMALL
        mov fs, eax
        movzx edx, byte ptr [gdt + SMALL + 5]
        cmp edx, 0xf3
        REPORT "loading sets accessed", e
        # Code limit.
        RAISES "far jump over the limit", 13, 0, "jmp SMALLCODE:0x1000"
        RAISES "far jump to data", 13, KDS, "jmp KDS:0"
        RAISES "far return to data, absent or not", 13, ABSENT, "push ABSENT; push 0; retf"
        ret

# --------------------------------------------------------------------------------------------
# Ring \cs at \to, on its own stack; comes back by INT 0x80 or an exception.
.macro INTO_RING cs, ds, sp, to
        TRY "push \ds; push offset \sp; push 2; push \cs; push offset \to; iretd"
.endm

rings:
        mov dword ptr [hits + 0x80 * 4], 0
        INTO_RING R1CS, R1DS, stack1, ring_int
        mov edx, [trap_cs]
        cmp edx, R1CS
        REPORT "ring 1 and back", e
        INTO_RING R2CS, R2DS, stack2, ring_int
        mov edx, [trap_cs]
        cmp edx, R2CS
        REPORT "ring 2 and back", e
        INTO_RING UCS, UDS, stack3, ring_int
        mov edx, [trap_cs]
        cmp edx, UCS
        REPORT "ring 3 and back", e
        mov edx, [hits + 0x80 * 4]
        cmp edx, 3
        REPORT "three interrupts", e
        mov dword ptr [hits + 13 * 4], 0
        INTO_RING R1CS, R1DS, stack1, ring_cli
        mov edx, [hits + 13 * 4]
        cmp edx, 1
        REPORT "cli in ring 1", e
        INTO_RING R1CS, R1DS, stack1, ring_hlt
        mov edx, [hits + 13 * 4]
        cmp edx, 2
        REPORT "hlt in ring 1", e
        INTO_RING UCS, UDS, stack3, ring_out
        mov edx, [hits + 13 * 4]
        cmp edx, 3
        REPORT "out in ring 3", e
        INTO_RING R2CS, R2DS, stack2, ring_load_r1
        mov edx, [hits + 13 * 4]
        cmp edx, 4
        REPORT "ring 2 loads a segment of ring 1", e
        mov edx, [err]
        cmp edx, 0x20
        REPORT "its error code", e
        INTO_RING UCS, UDS, stack3, ring_ss_read
        mov edx, [hits + 12 * 4]
        cmp edx, 2                              # one was the absent segment
        REPORT "stack segment limit, by ebp", e
        INTO_RING UCS, UDS, stack3, ring_ss_push
        mov edx, [hits + 12 * 4]
        cmp edx, 3
        REPORT "stack segment limit, by push", e
        mov edx, [err]
        test edx, edx
        REPORT "their error code", z
        # Call gates, with parameters copied to the inner stack.
        mov dword ptr [gate_sum], 0
        INTO_RING UCS, UDS, stack3, ring_gate
        mov edx, [gate_sum]
        cmp edx, 0x1234 + 0x4321
        REPORT "call gate copies parameters", e
        mov edx, [gate_cs]
        cmp edx, UCS
        REPORT "call gate from ring 3", e
        mov edx, [gate_back]
        cmp edx, offset stack3
        REPORT "retf n restores the outer stack", e
        mov dword ptr [gate_sum], 0
        INTO_RING R1CS, R1DS, stack1, ring_gate
        mov edx, [gate_sum]
        cmp edx, 0x1234 + 0x4321
        REPORT "call gate from ring 1", e
        mov dword ptr [gate_sum], 0
        push 0x1234
        push 0x4321
        call GATE:0
        mov edx, [gate_sum]
        cmp edx, 0x1234 + 0x4321
        REPORT "call gate without a change of ring", e
        # Conforming code runs with the caller's privilege.
        INTO_RING UCS, UDS, stack3, ring_conforming
        mov edx, [trap_cs]
        cmp edx, CONFORMING | 3
        REPORT "conforming code in ring 3", e
        # IRET to an outer ring takes away segments it may not have.
        INTO_RING UCS, UDS, stack3, ring_ds
        movzx edx, word ptr [trap_ds]
        test edx, edx
        REPORT "iret to ring 3 empties ds", z
        ret

ring_int: int 0x80
ring_cli: cli
        int 0x80
ring_hlt: hlt
        int 0x80
ring_out: out 0x80, al
        int 0x80
ring_load_r1: mov eax, R1DS & ~3
        mov fs, eax
        int 0x80
ring_ss_read:
        mov eax, SMALL | 3
        mov ss, eax
        mov ebp, 0xfc
        mov al, [ebp + 3]
        mov al, [ebp + 4]
        int 0x80
ring_ss_push:
        mov eax, SMALL | 3
        mov ss, eax
        mov esp, 0x102
        push eax
        int 0x80
ring_gate:
        mov eax, ss                     # RPL and all
        mov ds, eax
        push 0x1234
        push 0x4321
        call GATE:0
        mov ss:[gate_back], esp
        int 0x80
ring_conforming:
        jmp CONFORMING:conforming
conforming:
        int 0x80
ring_ds: int 0x80

gate_entry:
        mov eax, ss:[esp + 4]
        mov ss:[gate_cs], eax
        mov eax, ss:[esp + 8]
        add eax, ss:[esp + 12]
        mov ss:[gate_sum], eax
        retf 8

# --------------------------------------------------------------------------------------------
fast_calls:
        RAISES "sysenter without a segment", 13, 0, "xor eax, eax; xor edx, edx; mov ecx, 0x174; wrmsr; sysenter"
        mov ecx, 0x174
        mov eax, SYSCS
        xor edx, edx
        wrmsr
        inc ecx
        mov eax, offset stack0
        wrmsr
        inc ecx
        mov eax, offset sysenter_entry
        wrmsr
        mov dword ptr [sysenters], 0
        INTO_RING UCS, UDS, stack3, fast_user
        mov edx, [sysenters]
        cmp edx, 0x0068 << 16 | 2
        REPORT "sysenter twice and sysexit", e
        mov edx, [trap_cs]
        cmp edx, UCS
        REPORT "sysexit to ring 3", e
        mov dword ptr [hits + 13 * 4], 0
        INTO_RING UCS, UDS, stack3, fast_exit
        mov edx, [hits + 13 * 4]
        cmp edx, 1
        REPORT "sysexit in ring 3", e
        ret

fast_user:
        mov ecx, esp
        mov edx, offset 1f
        sysenter
1:      mov ecx, esp
        mov edx, offset 2f
        sysenter
2:      int 0x80
fast_exit: sysexit
sysenter_entry:
        mov ax, KDS
        mov ds, ax
        inc word ptr [sysenters]
        mov word ptr [sysenters + 2], cs
        sysexit

# --------------------------------------------------------------------------------------------
# Virtual-8086 mode: 16-bit code at V86_BASE, entered by IRETD with VM = 1.
.macro INTO_V86 from, flags
        mov esi, offset \from
        mov edi, V86_BASE
        mov ecx, 64
        rep movsb
        TRY "push 0; push 0; push V86_BASE >> 4; push 0; push V86_BASE >> 4; push 0x800; push 0x20002 | (\flags); push V86_BASE >> 4; push 0; iretd"
.endm

virtual86:
        mov dword ptr [hits + 0x80 * 4], 0
        mov dword ptr [hits + 13 * 4], 0
        INTO_V86 v86_int, 0x3000
        mov edx, [hits + 0x80 * 4]
        cmp edx, 1
        REPORT "v86 and back by int", e
        mov edx, [trap_flags]
        and edx, 0x20000
        REPORT "its flags have vm", nz
        mov edx, [trap_cs]
        cmp edx, V86_BASE >> 4
        REPORT "its cs is a paragraph", e
        movzx edx, word ptr ds:[V86_BASE + 0x102]
        cmp edx, 0x5a5a
        REPORT "v86 writes by segment", e
        INTO_V86 v86_int, 0
        mov edx, [hits + 13 * 4]
        cmp edx, 1
        REPORT "int in v86 with iopl 0", e
        INTO_V86 v86_cli, 0
        mov edx, [hits + 13 * 4]
        cmp edx, 2
        REPORT "cli in v86 with iopl 0", e
        mov edx, [trap_eip]
        test edx, edx
        REPORT "eip of the cli", z
        INTO_V86 v86_limit, 0x3000
        mov edx, [hits + 13 * 4]
        cmp edx, 3
        REPORT "word at offset ffff in v86", e
        INTO_V86 v86_ud, 0x3000
        mov edx, [hits + 6 * 4]
        cmp edx, 1
        REPORT "no lldt in v86", e
        ret

.code16
v86_int:
        mov word ptr ds:[0x102], 0x5a5a
        int 0x80
v86_cli: cli
        int 0x80
v86_limit:
        mov ax, word ptr ds:[0xffff]
        int 0x80
v86_ud: lldt ax
        int 0x80
.code32

# --------------------------------------------------------------------------------------------
pic_pit:
        mov al, 0x11
        out 0x20, al
        out 0xa0, al
        mov al, 0x40
        out 0x21, al
        mov al, 0x48
        out 0xa1, al
        mov al, 4
        out 0x21, al
        mov al, 2
        out 0xa1, al
        mov al, 1
        out 0x21, al
        out 0xa1, al
        mov al, 0xfe
        out 0x21, al
        mov al, 0xff
        out 0xa1, al
        in al, 0x21
        movzx edx, al
        cmp edx, 0xfe
        REPORT "pic mask reads back", e
        mov al, 0x34
        out 0x43, al
        mov al, 100
        out 0x40, al
        xor eax, eax
        out 0x40, al
        sti
1:      hlt
        cmp dword ptr [hits + 0x40 * 4], 4
        jb 1b
        cli
        mov edx, [hits + 0x40 * 4]
        cmp edx, 4
        REPORT "pit through the pic", e
        mov al, 0xff
        out 0x21, al
        sti
        mov ecx, 20000
2:      loop 2b
        cli
        mov edx, [hits + 0x40 * 4]
        cmp edx, 4
        REPORT "masked at the pic", e
        mov al, 0x0a
        out 0x20, al
        in al, 0x20
        movzx edx, al
        and edx, 1
        cmp edx, 1
        REPORT "irr keeps the masked request", e
        mov al, 0xfe
        out 0x21, al
        sti
        nop
        nop
        cli
        mov edx, [hits + 0x40 * 4]
        cmp edx, 5
        REPORT "and gives it when unmasked", e
        mov al, 0x30                    # stop: count down once, far away
        out 0x43, al
        mov al, 0xff
        out 0x40, al
        out 0x40, al
        mov al, 0xe2                    # counter latch: read-back of channel 0's status
        out 0x43, al
        in al, 0x40
        movzx edx, al
        and edx, 0x3f
        cmp edx, 0x30
        REPORT "pit read-back of the mode", e
        mov al, 0
        out 0x43, al
        in al, 0x40
        mov dl, al
        in al, 0x40
        mov dh, al
        movzx edx, dx
        cmp edx, 0xff00
        REPORT "pit latch counts down", a
        mov al, 0xff
        out 0x21, al
        ret

# --------------------------------------------------------------------------------------------
.macro OUTB port, value
        mov edx, \port
        mov al, \value
        out dx, al
.endm
.macro INB port
        mov edx, \port
        in al, dx
        movzx edx, al
.endm

uart:
        OUTB (COM + 7), 0x5a
        INB (COM + 7)
        cmp edx, 0x5a
        REPORT "uart scratch register", e
        OUTB (COM + 3), 0x83
        OUTB COM, 0x0c
        OUTB (COM + 1), 0
        INB COM
        mov ebx, edx
        INB (COM + 3)
        push edx
        OUTB (COM + 3), 3
        pop edx
        shl ebx, 8
        or edx, ebx
        cmp edx, 0x0c83
        REPORT "uart divisor behind dlab", e
        OUTB (COM + 2), 0xc7
        INB (COM + 2)
        and edx, 0xc0
        cmp edx, 0xc0
        REPORT "uart has fifos", e
        OUTB (COM + 4), 0x1a                    # loopback with RTS and OUT2
        INB (COM + 6)
        and edx, 0xf0
        mov ebx, edx
        OUTB COM, 0x77
        INB (COM + 5)
        mov ecx, edx
        INB COM
        mov edi, edx
        OUTB (COM + 4), 0x0b
        mov edx, ebx
        cmp edx, 0x90
        REPORT "uart loopback modem lines", e
        mov edx, ecx
        and edx, 1
        REPORT "uart loopback data is ready", nz
        mov edx, edi
        cmp edx, 0x77
        REPORT "uart loopback data", e
        # The interrupt of an empty transmitter, IRQ 4.
        mov al, 0xef
        out 0x21, al
        OUTB (COM + 1), 2
        sti
        nop
        nop
        cli
        INB (COM + 2)
        OUTB (COM + 1), 0
        mov edx, [hits + 0x44 * 4]
        test edx, edx
        REPORT "uart interrupt", nz
        mov al, 0xff
        out 0x21, al
        ret

# --------------------------------------------------------------------------------------------
.macro CMOS number
        mov al, \number
        out 0x70, al
        in al, 0x71
        movzx edx, al
.endm

cmos:
1:      CMOS 0x0a
        test edx, 0x80                          # update in progress
        jnz 1b
        CMOS 0
        mov ebx, edx
        CMOS 2
        mov ecx, edx
        CMOS 7
        mov edi, edx
        CMOS 9
        cmp edx, 0
        REPORT "cmos year 2000", e
        mov edx, edi
        cmp edx, 1
        REPORT "cmos first day", e
        mov edx, ebx
        cmp edx, 0x60
        REPORT "cmos seconds", b
        CMOS 0x0d
        and edx, 0x80
        REPORT "cmos has power", nz
        CMOS 0x0b
        and edx, 6
        cmp edx, 2
        REPORT "cmos bcd and 24 hours", e
        CMOS 0x35
        mov ebx, edx
        CMOS 0x34
        shl ebx, 8
        or edx, ebx
        cmp edx, 0                              # 64 KiB units above 16 MiB: there are none
        REPORT "cmos memory above 16 MiB", e
        # The periodic interrupt, IRQ 8 through both controllers.
        mov al, 0xfb
        out 0x21, al
        mov al, 0xfe
        out 0xa1, al
        mov al, 0x0a
        out 0x70, al
        mov al, 0x23                            # 8192 Hz
        out 0x71, al
        mov al, 0x0b
        out 0x70, al
        mov al, 0x42
        out 0x71, al
        sti
2:      hlt
        cli
        CMOS 0x0c
        mov ebx, edx
        sti
        cmp dword ptr [hits + 0x48 * 4], 3
        jb 2b
        cli
        mov edx, ebx
        and edx, 0xc0
        cmp edx, 0xc0
        REPORT "cmos periodic interrupt", e
        mov al, 0x0b
        out 0x70, al
        mov al, 2
        out 0x71, al
        ret

.section .rodata
digits: .ascii "0123456789abcdef"
lost_text: .asciz "lost "
fail_text: .asciz "FAIL "
pass_text: .asciz "PASS "
newline: .asciz "\n"

.data
.align 16
gdt:    .quad 0
        .quad 0x00cf9b000000ffff                # 08
        .quad 0x00cf93000000ffff                # 10
        .quad 0x00cfbb000000ffff                # 18 ring 1
        .quad 0x00cfb3000000ffff                # 20
        .quad 0x00cfdb000000ffff                # 28 ring 2
        .quad 0x00cfd3000000ffff                # 30
        .word 0xff, 0, 0xf250, 0x0040           # 38, base scratch_page
        .word 0x0fff, 0, 0xf650, 0x0040         # 40
        .quad 0x00cff1000000ffff                # 48
        .word 0, KCS, 0xec02, 0                 # 50
        .quad 0x0000890000000067                # 58
        .quad 0x0000820000000017                # 60
        .quad 0x00cf9b000000ffff                # 68
        .quad 0x00cf93000000ffff                # 70
        .quad 0x00cffb000000ffff                # 78
        .quad 0x00cff3000000ffff                # 80
        .quad 0x00409b0000000fff                # 88
        .quad 0x00cf13000000ffff                # 90 absent
        .quad 0x00cf9f000000ffff                # 98 conforming
gdt_end:
gdtr:   .word gdt_end - gdt - 1
        .long gdt
idtr:   .word 2047
        .long idt
.align 8
ldt:    .word 0xffff, 0, 0x9350, 0x0040, 0, 0, 0, 0
        .quad 0
fixup:  .long 0
fixup_sp: .long 0
err:    .long 0
trap_cs: .long 0
trap_eip: .long 0
trap_flags: .long 0
trap_ds: .long 0
bad:    .long 0
scratch: .long 0
gate_sum: .long 0
gate_cs: .long 0
gate_back: .long 0
sysenters: .long 0

.bss
.align 16
idt:    .skip 2048
tss:    .skip 112
hits:   .skip 1024
.align 4096
        .skip 8192
stack:  .skip 4096
stack0: .skip 4096
stack1: .skip 4096
stack2: .skip 4096
stack3: .skip 4096
.text
