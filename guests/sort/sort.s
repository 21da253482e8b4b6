# sort: two ways to sort the same numbers, as work without exits.
#
# What it is for: like primes, a guest that computes; but its loads, stores and branches depend
# on the data, and it recurses.
#
# What you learn: quicksort (Hoare's partition, recursion on the smaller part only, so that the
# stack stays shallow) and heapsort (a tree in an array: the children of i are 2i+1 and 2i+2).

        .intel_syntax noprefix
        .include "../include/ports.inc"

.equ COUNT, 700

        .text
        .include "../include/serial.inc"

        .globl _start
_start:
        lea rsp, [rip + stack_top]
        call serial_init

        # The same pseudo-random numbers in both arrays.
        mov eax, 2024
        xor ecx, ecx
        lea rsi, [rip + numbers]
        lea rdi, [rip + copies]
1:      imul eax, eax, 1664525
        add eax, 1013904223
        mov [rsi + rcx * 4], eax
        mov [rdi + rcx * 4], eax
        inc ecx
        cmp ecx, COUNT
        jb 1b
        call checksum
        print_hex_line "checksum before", rax

        lea rdi, [rip + numbers]
        lea rsi, [rip + numbers + COUNT * 4 - 4]
        call quicksort
        lea rsi, [rip + numbers]
        call check_order
        call checksum
        print_hex_line "checksum after quicksort", rax

        lea rdi, [rip + copies]
        mov ecx, COUNT
        call heapsort
        lea rsi, [rip + copies]
        call check_order
        call checksum
        print_hex_line "checksum after heapsort", rax
        power_off

# RSI: an array of COUNT numbers. RAX is a checksum in which the order counts.
checksum:
        xor eax, eax
        xor ecx, ecx
1:      mov edx, [rsi + rcx * 4]
        rol rax, 5
        xor rax, rdx
        inc ecx
        cmp ecx, COUNT
        jb 1b
        ret

# RSI: an array of COUNT numbers. Print whether they ascend.
check_order:
        mov ecx, 1
1:      mov eax, [rsi + rcx * 4]
        cmp eax, [rsi + rcx * 4 - 4]
        jb 2f
        inc ecx
        cmp ecx, COUNT
        jb 1b
        print "in order\n"
        ret
2:      print "NOT in order\n"
        ret

# Sort the numbers from [RDI] to [RSI], both included. Changes RAX, RCX, RDX, R8, R9.
quicksort:
        cmp rdi, rsi
        jae 6f
        # Split: up to R9 nothing is above the pivot, from R8 on nothing is below it.
        mov rax, rsi
        sub rax, rdi
        shr rax, 3
        mov eax, [rdi + rax * 4]        # the pivot: the number in the middle
        mov r8, rdi
        mov r9, rsi
1:      cmp [r8], eax
        jae 2f
        add r8, 4
        jmp 1b
2:      cmp [r9], eax
        jbe 3f
        sub r9, 4
        jmp 2b
3:      cmp r8, r9
        ja 4f
        mov ecx, [r8]
        xchg ecx, [r9]
        mov [r8], ecx
        add r8, 4
        sub r9, 4
        cmp r8, r9
        jbe 1b
4:      mov rcx, r9
        sub rcx, rdi
        mov rdx, rsi
        sub rdx, r8
        cmp rcx, rdx
        jg 5f
        push r8                         # the left part is smaller: recurse on it
        push rsi
        mov rsi, r9
        call quicksort
        pop rsi
        pop rdi
        jmp quicksort                   # and go on with the right part
5:      push rdi
        push r9
        mov rdi, r8
        call quicksort
        pop rsi
        pop rdi
        jmp quicksort
6:      ret

# Sort the ECX numbers at RDI. Changes RAX, RCX, RDX, R8 to R10.
heapsort:
        mov r9d, ecx
        shr r9d, 1
1:      dec r9d                         # make a heap of it, from the last parent down to 0
        js 2f
        mov edx, r9d
        call sift_down
        jmp 1b
2:      dec ecx                         # the largest number goes behind the heap
        jle 3f
        mov eax, [rdi]
        xchg eax, [rdi + rcx * 4]
        mov [rdi], eax
        xor edx, edx
        call sift_down
        jmp 2b
3:      ret

# Let number EDX of the heap of ECX numbers at RDI sink to its place. Changes RAX, RDX, R8, R10.
sift_down:
        mov eax, [rdi + rdx * 4]
1:      lea r8d, [rdx + rdx + 1]        # the left child
        cmp r8d, ecx
        jae 4f
        inc r8d                         # the right one, if there is one and it is larger
        cmp r8d, ecx
        jae 2f
        push rax
        mov eax, [rdi + r8 * 4]
        cmp eax, [rdi + r8 * 4 - 4]
        pop rax
        ja 3f
2:      dec r8d
3:      cmp [rdi + r8 * 4], eax
        jbe 4f
        mov r10d, [rdi + r8 * 4]
        mov [rdi + rdx * 4], r10d
        mov edx, r8d
        jmp 1b
4:      mov [rdi + rdx * 4], eax
        ret

        .bss
        .align 16
numbers:
        .skip COUNT * 4
copies:
        .skip COUNT * 4 + 4
        .align 16
        .skip 4096
stack_top:
