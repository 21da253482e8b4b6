# kit: VM entries by the table, from VMX root mode.
#
# What it is for: hundreds of VMCSs, each one edit away from a legal one, entered as software
# enters them. It knows no rule: the table behind it (cases.bin, made by tests/kit from vtx's
# predicates) says what to write, and what came of it goes to COM1 for whoever compares.
#
# What you learn: how little a hypervisor needs to try out VM entry. Write every field, change
# some, VMLAUNCH; either the next instruction runs, and VM_INSTRUCTION_ERROR says why, or the
# processor is at HOST_RIP, and EXIT_REASON says why.
#
# For each case a line: its number, how VMLAUNCH reported (0 succeeded, 1 VMfailInvalid,
# 2 VMfailValid), then VM_INSTRUCTION_ERROR, or the fields of the VM exit.
#
# The table, byte by byte: the number of fields of the legal VMCS (2 bytes) and the fields; of
# stores into memory (1 byte) and the stores; of cases (2 bytes) and the cases. A field is its
# encoding (2 bytes) and its value (8); a store is an address (4) and a value (8). A case is a
# number of fields (1) and the fields, one of stores and the stores, one of stores that undo
# them and those, and the length of the guest's code (1) and the code.

.set SETUP, 1
        .include "../bench/start.inc"
        .include "../vmx/names.inc"

.equ VMXON_REGION, OWN_TABLES
.equ VMCS, OWN_TABLES + PAGE_SIZE
.equ GUEST_CODE, 0x30000
.equ GUEST_CODE_SIZE, 0x180
.equ EPT_PML4, 0x40000
.equ EPT_PDPT, 0x41000
.equ EPT_DIRECTORY, 0x42000
.equ EPT_RIGHTS, 7
.equ EPT_WRITE_BACK, 6 << 3

# Bring CR\number into what the fixed-bit MSRs from \msr on demand.
.macro fix_control_register number, msr
        read_msr \msr
        mov rsi, cr\number
        or rsi, rax
        read_msr \msr + 1
        and rsi, rax
        mov cr\number, rsi
.endm

.macro write_field field, value
        mov edx, \field
        mov rax, \value
        vmwrite rdx, rax
.endm

# VMX operation, and extended page tables that map the first GiB to itself in 2 MiB pages.
setup:  mov edi, GDT + TSS_SELECTOR
        mov esi, TSS
        write_tss_descriptor
        mov eax, TSS_SELECTOR
        ltr ax
        mov rax, cr4
        or eax, CR4_VMXE
        mov cr4, rax
        fix_control_register 0, MSR_VMX_CR0_FIXED0
        fix_control_register 4, MSR_VMX_CR4_FIXED0
        read_msr MSR_FEATURE_CONTROL
        test al, 1                      # locked, as firmware should leave it
        jnz 1f
        or al, 5                        # lock, VMX outside SMX
        write_msr MSR_FEATURE_CONTROL
1:      read_msr MSR_VMX_BASIC
        mov [VMXON_REGION], eax
        mov [VMCS], eax
        push VMXON_REGION
        vmxon [rsp]
        pop rax
        mov eax, EPT_PDPT | EPT_RIGHTS
        mov [EPT_PML4], rax
        mov eax, EPT_DIRECTORY | EPT_RIGHTS
        mov [EPT_PDPT], rax
        mov edi, EPT_DIRECTORY
        mov eax, PTE_PS | EPT_WRITE_BACK | EPT_RIGHTS
1:      mov [rdi], rax
        add rdi, 8
        add rax, LARGE_PAGE_SIZE
        cmp edi, EPT_DIRECTORY + PAGE_SIZE
        jb 1b
        jmp serial_init

# RAX: how many cases there were.
kernel_main:
        push rbx
        push rbp
        push r12
        push r13
        lea rsi, [rip + table]
        xor eax, eax
        lodsw
        mov r12, rsi                    # the fields of the legal VMCS
        mov r13d, eax
        lea rcx, [rax + rax * 4]
        lea rsi, [rsi + rcx * 2]
        xor eax, eax
        lodsb
        call store_all
        xor eax, eax
        lodsw
        mov ebp, eax
        xor ebx, ebx
1:      call run_case
        inc ebx
        cmp ebx, ebp
        jne 1b
        mov eax, ebx
        pop r13
        pop r12
        pop rbp
        pop rbx
        ret

# Case RBX of the table at RSI, which moves behind it.
run_case:
        push VMCS
        vmclear [rsp]
        vmptrld [rsp]
        pop rax
        push rsi
        mov rsi, r12
        mov eax, r13d
        call write_fields
        pop rsi
        lea rax, [rip + host_entry]
        mov edx, HOST_RIP
        vmwrite rdx, rax
        xor eax, eax
        lodsb
        call write_fields
        xor eax, eax
        lodsb
        call store_all
        mov [rip + undo], rsi
        xor eax, eax
        lodsb
        lea rax, [rax + rax * 2]
        lea rsi, [rsi + rax * 4]
        call place_code
        push rsi
        push rbx
        push rbp
        push r12
        push r13
        write_field HOST_RSP, rsp
        xor eax, eax
        xor ebx, ebx
        xor ecx, ecx
        xor edx, edx
        xor esi, esi
        xor edi, edi
        xor ebp, ebp
        vmlaunch
        pushfq                          # it comes back only if it fails
        pop rax
        mov r14d, eax
        and r14d, 1                     # CF: VMfailInvalid
        shr eax, 5
        and eax, 2                      # ZF: VMfailValid
        or r14d, eax
        jmp 1f
host_entry:
        xor r14d, r14d
1:      pop r13
        pop r12
        pop rbp
        pop rbx
        mov rax, rbx
        call print_number
        mov rax, r14
        call print_number
        lea rdi, [rip + told_of_failure]
        test r14d, r14d
        jnz 2f
        lea rdi, [rip + told_of_exit]
2:      mov eax, [rdi]
        add rdi, 4
        test eax, eax
        js 3f
        vmread rax, rax
        call print_number
        jmp 2b
3:      call print_newline
        mov rsi, [rip + undo]
        xor eax, eax
        lodsb
        call store_all
        pop rsi
        ret

# RAX fields at RSI, which moves behind them. What the processor does not have, it does not get.
write_fields:
        mov ecx, eax
        jecxz 2f
1:      xor eax, eax
        lodsw
        mov edx, eax
        lodsq
        vmwrite rdx, rax
        dec ecx
        jnz 1b
2:      ret

# RAX stores at RSI, which moves behind them.
store_all:
        mov ecx, eax
        jecxz 2f
1:      lodsd
        mov edi, eax
        lodsq
        mov [rdi], rax
        dec ecx
        jnz 1b
2:      ret

# The guest's code at RSI, with its length before it, to its place; behind it VMCALLs.
place_code:
        mov edi, GUEST_CODE
        xor eax, eax
        lodsb
        mov ecx, eax
        rep movsb
1:      mov byte ptr [rdi], 0x0f        # vmcall
        mov word ptr [rdi + 1], 0xc101
        add edi, 3
        cmp edi, GUEST_CODE + GUEST_CODE_SIZE
        jb 1b
        ret

# Print RAX in hexadecimal without leading zeros, and a blank. Changes RAX, RCX and RDX.
print_number:
        push rsi
        push rdi
        push rbx
        mov rdi, rax
        mov ecx, 60
1:      mov rax, rdi                    # skip zeros, but not the last digit
        shr rax, cl
        jnz 2f
        sub ecx, 4
        jg 1b
        xor ecx, ecx
2:      mov rax, rdi
        shr rax, cl
        and eax, 15
        lea edx, [rip + digits]
        mov al, [rdx + rax]
        push rcx
        call print_char
        pop rcx
        sub ecx, 4
        jns 2b
        mov al, ' '
        call print_char
        pop rbx
        pop rdi
        pop rsi
        ret

digits: .ascii "0123456789abcdef"
        .align 8
undo:   .quad 0
told_of_failure:
        .long VM_INSTRUCTION_ERROR, -1
told_of_exit:
        .long EXIT_REASON, EXIT_QUALIFICATION, GUEST_RIP, EXIT_INSTRUCTION_LENGTH
        .long EXIT_INTERRUPTION_INFO, IDT_VECTORING_INFO, -1

table:  .incbin "cases.bin"
image_end:
