"""Code in a segment whose base is not zero or whose limit is not 4 GiB."""

from twins import Same

ENTER = """
        lea rax, [rip + table]
        mov [rip + gdtr + 2], rax
        lgdt [rip + gdtr]
        mov rax, cs
        mov [rip + back + 4], ax
        lea rax, [rip + finish32]
        mov edx, {base}
        sub eax, edx
        mov r8d, eax
        lea rsi, [rip + code]
        mov edi, {base} + {ip}
        mov ecx, offset code_end - code
        rep movsb
        mov eax, 8
        mov ds, eax
        mov es, eax
        mov ss, eax
        push {selector}
        push {ip}
        .byte 0x48
        retf
gdtr:   .word 0x2f
        .quad 0
        .align 8
table:  .quad 0
        .quad 0x00cf92000000ffff                # 8: flat data
        .quad 0x00409a0000000000 | ({base} & 0xffffff) << 16 | {limit}     # 16: 32-bit code
        .quad 0x00af9a000000ffff                # 24: 64-bit code
        .quad 0x00409a0000000000 | ({base} + 0x1000) << 16 | {limit}       # 32
        .quad 0x00009a0000000000 | ({base} & 0xffffff) << 16 | {limit}     # 40: 16-bit code
        .code32
code:   {code}
code_end:
        .code64
after_fault:
        mov r12, [r15 - 8]
        jmp finish
back:   .long 0
        .word 0
finish32:
"""
LEAVE = ".byte 0xea\n.long 0x310800\n.word 24\n"
TO_FINISH = """
        mov byte ptr [0x310800], 0xe9   # jmp finish, at a place that every segment can name
        lea rax, [rip + finish]
        sub rax, 0x310805
        mov [0x310801], eax
"""


def program(code: str, *, base: int, ip: int, limit: int, selector: int = 16) -> str:
    return TO_FINISH + ENTER.format(code=code, base=base, ip=ip, limit=limit, selector=selector)


def test_a_base_is_added_to_every_instruction_pointer(same: Same) -> None:
    code = f"""
        mov ebx, 100
        xor ebp, ebp
again32: add ebp, ebx
        call routine32
        dec ebx
        jnz again32
        {LEAVE}
routine32: inc edx
        ret
    """
    for base in (0x320000, 0x31FFF1):
        registers = same(program(code, base=base, ip=0x40, limit=0xFFFF)).registers
        assert registers["rbp"] == 5050


def test_a_loop_over_two_pages_of_a_segment_at_an_odd_place(same: Same) -> None:
    code = f"""
        mov ebx, 200
        xor ebp, ebp
again32: add ebp, ebx
        jmp over32
        .skip 100, 0xcc
over32: dec ebx
        jnz again32
        {LEAVE}
    """
    registers = same(program(code, base=0x31FFA7, ip=0x40, limit=0xFFFF)).registers
    assert registers["rbp"] == 200 * 201 // 2


def test_the_instruction_behind_the_limit_faults(same: Same) -> None:
    # 5 + 3 * 1 bytes; the limit is the offset of the second NOP.
    outcome = same(program("mov eax, 7\nnop\nnop\nnop\nnop", base=0x320000, ip=0x40, limit=0x46))
    assert [(vector, error) for vector, error, *_ in outcome.faults] == [(13, 0)]
    assert outcome.registers["r12"] == 0x47


def test_the_same_bytes_under_a_smaller_limit_fault_earlier(same: Same) -> None:
    code = f"""
        mov ebx, 2
again32: mov eax, 7
        nop
        nop
        dec ebx
        jnz again32
        {LEAVE}
    """
    assert same(program(code, base=0x320000, ip=0x40, limit=0xFFFF)).faults == ()
    short = same(program(code, base=0x320000, ip=0x40, limit=0x4A))
    assert [fault[3] for fault in short.faults] == [0x4B]


def test_a_loop_whose_last_instruction_the_limit_cuts_faults_at_its_start(same: Same) -> None:
    code = f"""
        mov ebx, 3
again32: inc ebp
        dec ebx
        jnz again32
        mov eax, 7
        {LEAVE}
    """
    whole = same(program(code, base=0x320000, ip=0xFF2, limit=0xFFFF))
    assert (whole.faults, whole.registers["rbp"]) == ((), 3)
    for limit in range(0xFFB, 0xFFF):  # MOV EAX has the offsets 0xffb to 0xfff
        cut = same(program(code, base=0x320000, ip=0xFF2, limit=limit))
        assert [(fault[0], fault[1], fault[3]) for fault in cut.faults] == [(13, 0, 0xFFB)]


def test_one_page_of_code_runs_in_two_segments(same: Same) -> None:
    code = """
        mov ebx, 10
        xor ebp, ebp
here:   call 1f
1:      pop eax                 # where the segment says that this is
        add ebp, eax
        lea edx, [eax + 3f - 1b]
        call edx
        dec ebx
        jz 2f
        .byte 0xea
        .long 0x40 + (here - code)
        .word 32
3:      inc esi
        ret
2:      """
    registers = same(program(code + LEAVE, base=0x320000, ip=0x1040, limit=0xFFFF)).registers
    assert registers["rbp"] == 0x104C + 9 * 0x4C


def test_16_bit_code_wraps_where_the_reference_wraps(same: Same) -> None:
    code = """
        .code16
        mov bx, 300
        xor bp, bp
again16: add bp, bx
        dec bx
        jnz again16
        .byte 0x66, 0xea
        .long 0x310800
        .word 24
    """
    registers = same(program(code, base=0x320000, ip=0x40, limit=0xFFFF, selector=40)).registers
    assert registers["rbp"] & 0xFFFF == 300 * 301 // 2 & 0xFFFF
