# syscall: a program in ring 3 that asks its kernel for something all the time.
#
# What you learn: SYSCALL changes neither stack nor GS. The kernel finds its own data by SWAPGS
# and its own stack in that data, dispatches over a table, and goes back by SYSRET.

.set SETUP, 1
        .include "start.inc"

.equ PER_CPU, OWN_TABLES        # what GS points at inside the kernel
.equ KERNEL_RSP, 0
.equ USER_RSP, 8
.equ COUNTER, 16

.equ SYS_COUNT, 0               # (): how many calls there were
.equ SYS_MIX, 1                 # (a, b): a * 31 + b
.equ SYS_EXIT, 2                # (checksum)
.equ SYSCALLS, 3

setup:
        mov eax, PER_CPU
        write_msr MSR_KERNEL_GS_BASE
        lea rax, [rip + syscall_entry]
        write_msr MSR_LSTAR
        mov eax, FLAG_IF | FLAG_DF | FLAG_TF
        write_msr MSR_SFMASK
        mov rax, (0x18 | 3) << 48 | KERNEL_CS << 32
        write_msr MSR_STAR
        read_msr MSR_EFER
        or eax, EFER_SCE
        write_msr MSR_EFER
        ret

kernel_main:
        push rbx
        push rbp
        mov [PER_CPU + KERNEL_RSP], rsp
        push USER_DS
        push USER_STACK_TOP
        push 2                          # RFLAGS: interrupts off
        push USER_CS
        lea rax, [rip + program]
        push rax
        iretq

syscall_entry:
        swapgs
        mov gs:[USER_RSP], rsp
        mov rsp, gs:[KERNEL_RSP]
        push rcx                        # SYSRET wants RIP here and RFLAGS in R11
        push r11
        inc qword ptr gs:[COUNTER]
        cmp eax, SYSCALLS
        jae 1f
        lea rcx, [rip + calls]
        movsxd rax, dword ptr [rcx + rax * 4]
        add rax, rcx
        call rax
1:      pop r11
        pop rcx
        mov rsp, gs:[USER_RSP]
        swapgs
        sysretq

        .align 4
calls:  .long sys_count - calls, sys_mix - calls, sys_exit - calls

sys_count:
        mov rax, gs:[COUNTER]
        ret
sys_mix:
        imul rax, rdi, 31
        add rax, rsi
        ret
# Not back to the program, but to who called kernel_main.
sys_exit:
        mov rsp, gs:[KERNEL_RSP]
        swapgs
        mov rax, rdi
        pop rbp
        pop rbx
        ret

# Ring 3 from here on. RDI: how often.
program:
        mov rbx, rdi
        xor ebp, ebp                    # checksum
1:      .rept 4
        mov eax, SYS_COUNT
        syscall
        mov rdi, rbp
        mov rsi, rax
        mov eax, SYS_MIX
        syscall
        mov rbp, rax
        .endr
        dec rbx
        jnz 1b
        mov rdi, rbp
        mov eax, SYS_EXIT
        syscall
image_end:
