"""Instructions whose bytes lie on two pages, and what happens to either of them."""

from twins import Same

CROSSING = """
        lea rsi, [rip + code]
        mov edi, 0x40000ffd
        mov ecx, 7
        rep movsb
        mov ebx, 0x40000ffd
        xor ebp, ebp
        jmp start
code:   mov eax, 0x11223344             # B8 and two bytes of the number on the first page
        inc ebp
        ret
start:
"""
CROSSING = CROSSING.replace("mov ecx, 7", "mov ecx, offset start - code")
LOOP = """
        mov r12d, 100
again:  call rbx
        add r13, rax
        dec r12
        jnz again
"""


def test_it_runs_as_often_as_any_other(same: Same) -> None:
    registers = same(CROSSING + LOOP).registers
    assert (registers["r13"], registers["rbp"]) == (100 * 0x11223344, 100)


def test_code_that_falls_into_it_goes_on_there(same: Same) -> None:
    registers = same("""
        lea rsi, [rip + code]
        mov edi, 0x40000ff6
        mov ecx, offset start - code
        rep movsb
        mov ebx, 0x40000ff6
        jmp start
code:   mov ebp, 50                     # 5 bytes, then 2, then the crossing one
        inc r13d
        add rdx, 0x01010101
        dec ebp
        .byte 0x75, 0xf2                # jnz to the inc
        ret
start:  call rbx
    """).registers
    assert (registers["r13"], registers["rdx"]) == (50, 50 * 0x01010101)


def test_a_store_to_its_second_page_changes_it(same: Same) -> None:
    registers = same(CROSSING + """
        mov r12d, 20
again:  call rbx
        add r13, rax
        inc byte ptr [0x40001000]       # the third byte of the number
        dec r12
        jnz again
    """).registers  # fmt: skip
    assert registers["r13"] == sum(0x11223344 + (n << 16) for n in range(20))


def test_a_store_to_its_first_page_changes_it(same: Same) -> None:
    registers = same(CROSSING + """
        mov r12d, 20
again:  call rbx
        add r13, rax
        inc byte ptr [0x40000ffe]
        dec r12
        jnz again
    """).registers  # fmt: skip
    assert registers["r13"] == sum(0x11223344 + n for n in range(20))


def test_another_second_page_makes_another_instruction(same: Same) -> None:
    registers = same(CROSSING + """
        mov rsi, 0x40001000             # a second copy of that page, with another number
        mov edi, 0x40002000
        mov ecx, 64
        rep movsb
        mov byte ptr [0x40002000], 0x99
        mov r12d, 20
        mov r8, [0x301008]
        mov r9, [0x301010]
again:  call rbx
        add r13, rax
        xchg r8, r9
        mov [0x301008], r8
        invlpg [0x40001000]
        dec r12
        jnz again
    """).registers  # fmt: skip
    assert registers["r13"] == 10 * 0x11223344 + 10 * 0x11993344


def test_a_missing_second_page_faults_at_its_address_until_it_is_there(same: Same) -> None:
    outcome = same(CROSSING + """
        call rbx
        mov rcx, [0x301008]
        mov qword ptr [0x301008], 0
        invlpg [0x40001000]
        mov r12, rsp
        call rbx
after_fault:
        mov rsp, r12
        mov [0x301008], rcx
        call rbx
    """)  # fmt: skip
    assert outcome.faults == ((14, 0, 0x4000_1000, 0x4000_0FFD),)
    assert outcome.registers["rbp"] == 2


def test_a_jump_to_it_from_the_same_page_goes_where_the_page_lies_now(same: Same) -> None:
    registers = same(CROSSING + """
        mov byte ptr [0x40000f00], 0xe9 # jmp to the crossing instruction
        mov dword ptr [0x40000f01], 0xf8
        mov rsi, 0x40001000
        mov edi, 0x40002000
        mov ecx, 64
        rep movsb
        mov byte ptr [0x40002000], 0x99
        mov ebx, 0x40000f00
        mov r12d, 20
        mov r8, [0x301008]
        mov r9, [0x301010]
again:  call rbx
        call rbx
        add r13, rax
        xchg r8, r9
        mov [0x301008], r8
        invlpg [0x40001000]
        dec r12
        jnz again
    """).registers  # fmt: skip
    assert (registers["r13"], registers["rbp"]) == (10 * 0x11223344 + 10 * 0x11993344, 40)
