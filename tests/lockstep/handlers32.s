# Handlers of the lock-step machine in 32-bit code, for programs of legacy modes. A fault inside
# the handlers' own privilege level gets a good stack by building a new frame on it.
        .intel_syntax noprefix
        .code32
        .globl _start
_start:
        .set vector, 0
        .rept 256
        .align 16
        .if vector != 8 && (vector < 10 || vector > 14) && vector != 17
        push 0
        .endif
        push vector
        jmp common
        .set vector, vector + 1
        .endr
        .org COMMON - HANDLERS
common: push eax
        mov eax, ss
        lar eax, eax
        test eax, 0x400000
        jnz wide
        movzx esp, sp                   # a 16-bit stack: what is above SP is not an address
wide:   push ecx
        push edx
        push ds
        mov eax, KERNEL_DATA
        mov ds, eax
        # ds edx ecx eax vector error eip cs eflags [esp ss]
        movzx eax, byte ptr [esp + 16]
        cmp al, 0x20
        jae asked
        mov ecx, [LOG_POINTER]
        mov eax, [esp + 16]
        mov [ecx], eax
        mov eax, [esp + 20]
        mov [ecx + 4], eax
        mov eax, [esp + 24]
        mov [ecx + 8], eax
        mov eax, [esp + 32]
        mov [ecx + 24], eax
        mov eax, cr2
        mov [ecx + 16], eax
        lea ecx, [ecx + 32]
        and ecx, 0xfff
        or ecx, LOG
        mov [LOG_POINTER], ecx
        movzx eax, byte ptr [esp + 16]
        cmp al, 1
        je debug
        cmp al, 4
        jbe trap
fault:  sub dword ptr [FAULTS_LEFT], 1
        js end
        mov eax, [CODE_SELECTOR]
        mov [esp + 28], eax
        mov eax, [esp + 24]
        mov ecx, eax
        add eax, [CODE_BASE]
        sub eax, CODE
        cmp eax, CODE_SIZE
        jae escape
        movzx eax, byte ptr [eax + SKIPS]
        test eax, eax
        jz escape
        add ecx, eax
        jmp moved
escape: mov ecx, [ESCAPE]
moved:  mov [esp + 24], ecx
        cmp dword ptr [SHARED_STACK], 0
        jne rebuild
        mov eax, [GOOD_SP]
        mov [esp + 36], eax
        mov eax, [STACK_SELECTOR]
        mov [esp + 40], eax
        jmp out
rebuild:
        mov eax, [esp + 12]
        mov [SAVED], eax
        mov eax, [esp + 8]
        mov [SAVED + 4], eax
        mov edx, [esp + 4]
        mov [SAVED + 8], edx
        mov edx, [esp + 32]
        mov eax, [esp + 28]
        pop ds
        mov esp, cs:[GOOD_SP]
        push edx
        push eax
        push ecx
        mov eax, cs:[SAVED]
        mov ecx, cs:[SAVED + 4]
        mov edx, cs:[SAVED + 8]
        iretd
trap:   test al, al                     # 0 is a fault, 2 to 4 are not
        jz fault
        jmp out
debug:  mov edx, dr6
        mov eax, 0xffff0ff0
        mov dr6, eax
        or dword ptr [esp + 32], 0x10000
        sub dword ptr [TRAPS_LEFT], 1
        jns out
        and dword ptr [esp + 32], ~0x100
        mov eax, 0x400
        mov dr7, eax
        jmp out
asked:  cmp al, REMAP_VECTOR
        je remap
        cmp al, END_VECTOR
        jne out
end:    cli
        hlt
        jmp end
remap:  mov eax, [PTE_PLACE]
        xor dword ptr [eax], 0x1000
        mov eax, cr3
        mov cr3, eax
out:    pop ds
        pop edx
        pop ecx
        pop eax
        add esp, 8
        iretd
