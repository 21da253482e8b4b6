# primes: a sieve, as work without exits.
#
# What it is for: a guest that computes and hardly ever leaves VMX non-root operation. What a
# VMM costs here is what its page tables cost, and the checksum shows that it computed right.
#
# What you learn: the sieve of Eratosthenes over a bitmap, with BTS and BT on memory: their bit
# offset may lie far outside the word that the operand names.

        .intel_syntax noprefix
        .include "../include/ports.inc"

.equ LIMIT, 24000

        .text
        .include "../include/serial.inc"

        .globl _start
_start:
        lea rsp, [rip + stack_top]
        call serial_init

        # A set bit in the bitmap says that the number is composite. Even numbers are left out.
        lea rdi, [rip + composite]
        mov ebx, 3
next_candidate:
        mov eax, ebx
        imul eax, ebx                   # smaller multiples have a smaller factor
        cmp eax, LIMIT
        jae sieved
        bt [rdi], ebx
        jc composite_candidate
        lea ecx, [rbx + rbx]            # odd multiples only
strike:
        bts [rdi], eax
        add eax, ecx
        cmp eax, LIMIT
        jb strike
composite_candidate:
        add ebx, 2
        jmp next_candidate

sieved:
        # Count the primes, the pairs that are two apart, and a checksum over all of them.
        mov r8d, 1                      # 2 is prime
        xor r9d, r9d                    # pairs
        mov r10d, 2                     # checksum
        mov r11d, 2                     # the prime before
        mov ebx, 3
next_number:
        bt [rdi], ebx
        jc not_prime
        inc r8d
        imul r10, r10, 31
        add r10, rbx
        mov eax, ebx
        sub eax, r11d
        cmp eax, 2
        jne no_pair
        inc r9d
no_pair:
        mov r11d, ebx
not_prime:
        add ebx, 2
        cmp ebx, LIMIT
        jb next_number

        print_decimal_line "primes below 24000", r8
        print_decimal_line "twin primes", r9
        print_decimal_line "largest", r11
        print_hex_line "checksum", r10
        power_off

        .bss
        .align 16
composite:
        .skip LIMIT / 8 + 8
        .align 16
        .skip 4096
stack_top:
