# code32: 32-bit code, as a C compiler for the 386 would have written it.
#
# What you learn: arguments on the stack and a frame pointer, 64-bit numbers in pairs of registers
# (ADD and ADC, MUL), and one-byte INC and DEC that became prefixes in 64-bit mode.

        .include "start32.inc"

.equ COUNT, 256

kernel_main:
        push ebx
        push ebp
        mov dword ptr [esi], 0x12345678         # the state: a 64-bit number
        mov dword ptr [esi + 4], 0x9abcdef0
        xor ebx, ebx                            # checksum
1:      mov ecx, COUNT
2:      push ecx                                # random(state) keeps only EBX, ESI, EDI and EBP
        push esi
        call random
        add esp, 4
        pop ecx
        rol ebx, 5
        xor ebx, eax
        mov edx, eax
        shr edx, 20
        and edx, 0xffc                          # histogram[12 bits of it]++
        inc dword ptr [esi + edx + 16]
        add ebx, [esi + edx + 16]
        dec ecx
        jnz 2b
        dec edi
        jnz 1b
        mov eax, ebx
        pop ebp
        pop ebx
        ret

# random(state): state = state * 6364136223846793005 + 1442695040888963407; its upper half.
random:
        push ebp
        mov ebp, esp
        push ebx
        push esi
        mov esi, [ebp + 8]
        mov eax, [esi]
        mov ecx, 0x4c957f2d
        mul ecx                                 # low by low: EDX:EAX
        mov ebx, edx
        mov edx, [esi]
        imul edx, edx, 0x5851f42d               # low by high: only the low half counts
        add ebx, edx
        mov edx, [esi + 4]
        imul edx, ecx                           # high by low
        add ebx, edx
        add eax, 0xf767814f
        adc ebx, 0x14057b7e
        mov [esi], eax
        mov [esi + 4], ebx
        mov eax, ebx
        pop esi
        pop ebx
        pop ebp
        ret
image_end:
