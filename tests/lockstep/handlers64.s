# Handlers of the lock-step machine in 64-bit code. A stub per vector, 16 bytes each, pushes an
# error code where the CPU does not, and the vector.
        .intel_syntax noprefix
        .code64
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
common: push rax
        push rcx
        push rdx
        # rdx rcx rax vector error rip cs rflags rsp ss
        movzx eax, byte ptr [rsp + 24]
        cmp al, 0x20
        jae asked
        mov ecx, [LOG_POINTER]
        mov rax, [rsp + 24]
        mov [rcx], eax
        mov rax, [rsp + 32]
        mov [rcx + 4], eax
        mov rax, [rsp + 40]
        mov [rcx + 8], rax
        mov rax, [rsp + 56]
        mov [rcx + 24], rax
        mov rax, cr2
        mov [rcx + 16], rax
        lea ecx, [rcx + 32]
        and ecx, 0xfff
        or ecx, LOG
        mov [LOG_POINTER], ecx
        movzx eax, byte ptr [rsp + 24]
        cmp al, 1
        je debug
        cmp al, 4
        jbe trap
fault:  sub dword ptr [FAULTS_LEFT], 1
        js end
        mov rax, [GOOD_SP]
        mov [rsp + 64], rax
        mov rax, [STACK_SELECTOR]
        mov [rsp + 72], rax
        mov rax, [CODE_SELECTOR]
        mov [rsp + 48], rax
        mov rax, [rsp + 40]
        sub rax, CODE
        cmp rax, CODE_SIZE
        jae escape
        movzx eax, byte ptr [rax + SKIPS]
        test eax, eax
        jz escape
        add [rsp + 40], rax
        jmp out
escape: mov rax, [ESCAPE]
        mov [rsp + 40], rax
        jmp out
trap:   test al, al                     # 0 is a fault, 2 to 4 are not
        jz fault
        jmp out
debug:  mov rdx, dr6
        mov eax, 0xffff0ff0
        mov dr6, rax
        or dword ptr [rsp + 56], 0x10000
        sub dword ptr [TRAPS_LEFT], 1
        jns out
        and dword ptr [rsp + 56], ~0x100
        mov eax, 0x400
        mov dr7, rax
        jmp out
asked:  cmp al, REMAP_VECTOR
        je remap
        cmp al, END_VECTOR
        jne out
end:    cli
        hlt
        jmp end
remap:  mov eax, [PTE_PLACE]
        xor dword ptr [rax], 0x1000
        mov rax, cr3
        mov cr3, rax
out:    pop rdx
        pop rcx
        pop rax
        add rsp, 16
        iretq
