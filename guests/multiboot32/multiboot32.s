# multiboot32: a 32-bit kernel with 32-bit paging, a ring-3 task and timer interrupts.
#
# What it is for: 32-bit guests are half of what a VMM meets. Their page tables have two levels
# and 4-byte entries, their large pages are 4 MiB, and under shadow paging they have to be
# translated into tables of quite another shape.
#
# What you learn: the Multiboot 1 protocol (header, memory map, command line); two-level paging
# with both page sizes; how the TSS's ESP0 brings the processor from ring 3 to a kernel stack;
# the 8259 and the 8254 (include/kernel32.inc has the parts that unpaged32 uses as well).
#
# The kernel lives in the first 4 MiB, one large page. The task has its code at TASK_BASE, read
# only, and 16 pages above it that appear when they are touched.

        .intel_syntax noprefix
        .code32
        .include "../include/x86.inc"
        .include "../include/ports.inc"
        .include "../include/multiboot.inc"

.equ USER_SEGMENT_BASE, 0               # flat: paging protects the kernel
.equ USER_SEGMENT_LIMIT, 0xfffff
.equ TASK_BASE, 0x40000000
.equ HEAP, TASK_BASE + 0x10000
.equ HEAP_PAGES, 16
.equ FRAMES, 0x400000                   # frames for the task's pages, one after the other

        .text
        multiboot_header
        .include "../include/serial32.inc"
        .include "../include/kernel32.inc"

        .globl _start
_start:
        mov esp, offset stack_top
        mov ebp, eax
        call serial_init
        cmp ebp, MULTIBOOT_BOOTED
        jne not_multiboot
        print "multiboot32: entered in protected mode\n"
        call show_boot_information
        call tables_init
        call paging_init
        call timer_init
        mov eax, TASK_BASE + task_entry - task_start
        mov edx, HEAP + HEAP_PAGES * PAGE_SIZE          # the stack is the heap's last page
        jmp enter_task

not_multiboot:
        print "multiboot32: not booted by a Multiboot loader\n"
        mov al, 1
        out DEBUG_EXIT, al

# EBX: the boot information.
show_boot_information:
        test dword ptr [ebx + BOOT_FLAGS], BOOT_HAS_COMMAND_LINE
        jz 1f
        print "command line: "
        mov esi, [ebx + BOOT_COMMAND_LINE]
        call print_string
        call print_newline
1:      test dword ptr [ebx + BOOT_FLAGS], BOOT_HAS_MMAP
        jz 5f
        mov esi, [ebx + BOOT_MMAP]
        mov edi, esi
        add edi, [ebx + BOOT_MMAP_LENGTH]
        xor edx, edx                    # KiB that are usable
2:      cmp dword ptr [esi + MMAP_TYPE], MMAP_USABLE
        jne 3f
        mov eax, [esi + MMAP_LENGTH]    # the guest has less than 4 GiB
        shr eax, 10
        add edx, eax
        # Is the kernel's image inside this range?
        mov eax, offset _start
        sub eax, [esi + MMAP_BASE]
        jb 3f
        cmp eax, [esi + MMAP_LENGTH]
        jae 3f
        print "memory map: the kernel is in usable memory\n"
3:      add esi, [esi + MMAP_SIZE]
        add esi, 4
        cmp esi, edi
        jb 2b
        print_decimal_line "usable KiB", edx
5:      ret

# Build the page directory and turn paging on.
paging_init:
        mov dword ptr [page_directory], PTE_PS | PTE_P | PTE_RW | PTE_G
        mov eax, offset task_table
        or eax, PTE_P | PTE_RW | PTE_US
        mov [page_directory + (TASK_BASE >> 22) * 4], eax
        mov eax, offset task_start
        or eax, PTE_P | PTE_US          # code: not writable
        mov [task_table], eax
        mov eax, cr4
        or eax, CR4_PSE | CR4_PGE       # 4 MiB pages, and the kernel's stay in the TLB
        mov cr4, eax
        mov eax, offset page_directory
        mov cr3, eax
        mov eax, cr0
        or eax, CR0_PG | CR0_WP
        mov cr0, eax
        print "multiboot32: paging is on\n"
        ret

# EBX: the trap frame of an exception. A fault on an absent heap page is repaired, what else
# the task does ends it.
exception:
        mov edx, cr2
        cmp dword ptr [ebx + FRAME_VECTOR], VECTOR_PF
        jne 1f
        test dword ptr [ebx + FRAME_ERROR], PF_PRESENT
        jnz 1f
        mov eax, edx
        sub eax, HEAP
        cmp eax, HEAP_PAGES * PAGE_SIZE
        jae 1f
        shr edx, 12
        and edx, 1023
        mov eax, [next_frame]
        add dword ptr [next_frame], PAGE_SIZE
        or eax, PTE_P | PTE_RW | PTE_US
        mov [task_table + edx * 4], eax
        # The frame is not mapped for the kernel: fill it through the task's own page.
        mov edi, cr2
        and edi, -PAGE_SIZE
        xor eax, eax
        mov ecx, PAGE_SIZE / 4
        rep stosd
        inc dword ptr [demand_faults]
        ret
1:      print "multiboot32: exception "
        mov eax, [ebx + FRAME_VECTOR]
        call print_decimal
        print " error "
        mov eax, [ebx + FRAME_ERROR]
        call print_decimal
        print " at "
        mov eax, edx
        call print_hex
        test dword ptr [ebx + FRAME_CS], 3
        jz 2f
        print " in the task\n"
        mov ebx, -1
        jmp task_ended
2:      print " in the kernel\n"
        mov al, 1
        out DEBUG_EXIT, al

# Ring 0 again, with an empty stack. EBX: the status. Wait for three more ticks in HLT.
task_ended:
        mov esp, offset stack_top
        print_hex_line "task status", ebx
        print_decimal_line "demand faults", [demand_faults]
        # The task wrote to its heap and not to its code. The processor noted both.
        mov eax, [task_table]
        and eax, PTE_A | PTE_D
        print_hex_line "code page accessed and dirty", eax
        mov eax, [task_table + ((HEAP >> 12) & 1023) * 4]
        and eax, PTE_A | PTE_D
        print_hex_line "heap page accessed and dirty", eax
        mov ebx, [ticks]
        add ebx, 3
1:      sti
        hlt
        cli
        cmp [ticks], ebx
        jb 1b
        print "multiboot32: done\n"
        power_off

# The task. It runs at TASK_BASE, not where it is linked.
        .align 4096, 0xcc
task_start:
task_greeting:
        .ascii "task: hello from ring 3\n"
task_greeting_end:
task_waited:
        .ascii "task: the clock ticks\n"
task_waited_end:
task_sums:
        .ascii "task: the heap keeps what is written\n"
task_sums_end:

.macro task_say label
        mov ebx, TASK_BASE + \label - task_start
        mov ecx, \label\()_end - \label
        mov eax, SYS_WRITE
        int SYSCALL_VECTOR
.endm

task_entry:
        task_say task_greeting
        mov edi, HEAP
        mov ecx, HEAP_PAGES - 1
1:      mov [edi], ecx                  # first touch
        mov [edi + 4], edi
        add edi, PAGE_SIZE
        dec ecx
        jnz 1b
        mov eax, SYS_TICKS
        int SYSCALL_VECTOR
        lea esi, [eax + 5]
2:      mov eax, SYS_TICKS
        int SYSCALL_VECTOR
        push 200                        # something to do between two questions
3:      dec dword ptr [esp]
        jnz 3b
        add esp, 4
        cmp eax, esi
        jb 2b
        task_say task_waited
        mov edi, HEAP
        mov ecx, HEAP_PAGES - 1
4:      cmp [edi], ecx
        jne 5f
        cmp [edi + 4], edi
        jne 5f
        add edi, PAGE_SIZE
        dec ecx
        jnz 4b
        task_say task_sums
5:      mov dword ptr ds:[0x100000], 0  # kernel memory: this ends the task
        mov ebx, 1
        mov eax, SYS_EXIT
        int SYSCALL_VECTOR
        .align 4096, 0xcc

        .data
        .align 4
next_frame:     .long FRAMES
demand_faults:  .long 0

        .bss
        .align 4096
page_directory: .skip 4096
task_table:     .skip 4096
        .skip 4096
stack_top:
