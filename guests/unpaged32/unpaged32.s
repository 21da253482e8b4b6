# unpaged32: a 32-bit kernel that never turns paging on and protects itself by segmentation.
#
# What it is for: with CR0.PG = 0 linear addresses are physical, and only segment bases, limits
# and rights keep a task away from the kernel. Under EPT this needs the "unrestricted guest"
# control; under shadow paging the VMM maps guest-physical memory one to one behind its back.
#
# What you learn: that protection does not need paging. The task's segments begin at TASK_BASE
# and are 64 KiB long: it sees addresses from 0 to 0xffff and can name no others.

        .intel_syntax noprefix
        .code32
        .include "../include/x86.inc"
        .include "../include/ports.inc"
        .include "../include/multiboot.inc"

.equ TASK_BASE, 0x200000                # where the task's memory is
.equ USER_SEGMENT_BASE, TASK_BASE
.equ USER_SEGMENT_LIMIT, 15             # 16 pages
.equ TASK_SIZE, 0x10000

        .text
        multiboot_header
        .include "../include/serial32.inc"
        .include "../include/kernel32.inc"

        .globl _start
_start:
        mov esp, offset stack_top
        call serial_init
        call tables_init
        call timer_init
        mov eax, cr0
        and eax, CR0_PG | CR0_PE
        print_hex_line "cr0.pg and cr0.pe", eax

        # Copy the task to the beginning of its segments, once for each way to end it.
        mov ebp, offset endings
next_ending:
        mov esi, offset task_start
        mov edi, TASK_BASE
        mov ecx, (task_end - task_start) / 4
        rep movsd
        mov eax, [ebp]
        add ebp, 4
        cmp eax, -1
        je all_ended
        mov [TASK_BASE + task_ending - task_start], eax
        mov [ending], ebp
        mov eax, task_entry - task_start
        mov edx, TASK_SIZE
        jmp enter_task

# EBX: the trap frame of an exception.
exception:
        print "exception "
        mov eax, [ebx + FRAME_VECTOR]
        call print_decimal
        print " error "
        mov eax, [ebx + FRAME_ERROR]
        call print_decimal
        test dword ptr [ebx + FRAME_CS], 3
        jz 1f
        print " in the task\n"
        mov ebx, -1
        jmp task_ended
1:      print " in the kernel\n"
        mov al, 1
        out DEBUG_EXIT, al

# Ring 0 again, with an empty stack. EBX: the status.
task_ended:
        mov eax, KERNEL_DS
        mov fs, eax
        mov gs, eax
        mov esp, offset stack_top
        print_hex_line "task status", ebx
        mov ebp, [ending]
        jmp next_ending

all_ended:
        mov ebx, [ticks]
        add ebx, 3
1:      sti
        hlt
        cli
        cmp [ticks], ebx
        jb 1b
        print "unpaged32: done\n"
        power_off

        .section .rodata
        .align 4
endings:
        .long 0, 1, 2, 3, 4, 5, -1

# The task, at offset 0 of its own segments.
        .align 16
task_start:
task_ending:
        .long 0
task_greeting:
        .ascii "task: hello from a segment\n"
task_greeting_end:
        .align 4
task_entry:
        mov ebx, task_greeting - task_start
        mov ecx, task_greeting_end - task_greeting
        mov eax, SYS_WRITE
        int SYSCALL_VECTOR
        mov eax, SYS_TICKS
        int SYSCALL_VECTOR
        lea esi, [eax + 2]
1:      mov eax, SYS_TICKS              # two ticks, so that the timer interrupts ring 3
        int SYSCALL_VECTOR
        mov ecx, 300
2:      dec ecx
        jnz 2b
        cmp eax, esi
        jb 1b
        mov eax, ds:[0]
        cmp eax, 1
        je task_reads_past_limit
        cmp eax, 2
        je task_writes_code_segment
        cmp eax, 3
        je task_jumps_past_limit
        cmp eax, 4
        je task_loads_kernel_segment
        cmp eax, 5
        je task_pushes_past_limit
        mov dword ptr ds:[TASK_SIZE - 4], 77    # the last word it has
        mov ebx, ds:[TASK_SIZE - 4]
        mov eax, SYS_EXIT
        int SYSCALL_VECTOR
task_reads_past_limit:
        mov eax, ds:[TASK_SIZE - 2]     # two of the four bytes are too many
task_writes_code_segment:
        mov dword ptr cs:[0], 0
task_jumps_past_limit:
        mov eax, TASK_SIZE
        jmp eax
task_loads_kernel_segment:
        mov eax, KERNEL_DS
        mov es, eax
task_pushes_past_limit:
        mov esp, 0x100000
        push eax
        .align 4
task_end:

        .data
        .align 4
ending: .long 0

        .bss
        .align 16
        .skip 4096
stack_top:
