"""Code that changes: a store takes effect at the next instruction, wherever the code is."""

from twins import MEMORY, Launch, Same, state_of

from vtx.vmm.launch import drive
from vtx.vmm.session import BareSession


def test_a_store_into_the_next_instruction_is_seen_by_it(same: Same) -> None:
    registers = same("""
        mov ecx, 50
again:  mov [rip + number + 1], cl
number: mov al, 0
        movzx eax, al
        add r13, rax
        dec ecx
        jnz again
    """).registers
    assert registers["r13"] == sum(range(51))


def test_a_store_into_an_earlier_instruction_of_the_block_is_seen_on_the_next_round(
    same: Same,
) -> None:
    registers = same("""
        mov ecx, 50
again:  mov edx, 0
        add r13, rdx
        mov [rip + again + 1], ecx
        dec ecx
        jnz again
    """).registers
    assert registers["r13"] == sum(range(2, 51))


def test_a_store_that_makes_the_running_instruction_another_one_is_seen_when_it_runs_again(
    same: Same,
) -> None:
    outcome = same("""
        xor ecx, ecx
again:  inc ecx
self:   mov byte ptr [rip + self], 0x0f # 0F 05 ... is SYSCALL: #UD while EFER.SCE is clear
        jmp again
after_fault:
    """)
    assert [fault[0] for fault in outcome.faults] == [6]
    assert outcome.registers["rcx"] == 2


def test_data_beside_code_on_one_page_does_not_disturb_it(same: Same) -> None:
    registers = same("""
        mov ecx, 2000
        jmp again
        .align 64
number: .quad 0
        .align 64
again:  add qword ptr [rip + number], 3
        inc qword ptr [rip + close]
        mov r13, [rip + number]
        loop again
        add r13, [rip + close]
        jmp finish
        .align 8
close:  .quad 0
    """).registers
    assert registers["r13"] == 8000


def test_repeated_stores_over_code_stop_where_they_change_themselves(same: Same) -> None:
    outcome = same("""
        lea rdi, [rip + target]
        mov eax, 0x90
        mov ecx, 200
        call target
        cld
        lea rdi, [rip + target]
        rep stosb                       # NOPs over the routine, and over what follows here
        jmp after_fault
        .align 64
target: inc ebp
        ret
        .skip 400, 0x90
after_fault:
        mov r12, rcx
    """)
    assert (outcome.registers["rbp"], outcome.registers["r12"]) == (1, 0)


def test_a_repeated_store_over_its_own_bytes_ends_with_the_byte_it_destroys(same: Same) -> None:
    outcome = same("""
        lea rdi, [rip + before]
        mov eax, 0x90
        mov ecx, 200
        jmp store
        .align 64
before: .skip 10, 0x90
store:  rep stosb                       # F3 AA: gone after the eleventh byte
        jmp finish
        .skip 200, 0x90
    """)
    assert outcome.registers["rcx"] == 200 - 11


def test_code_at_two_addresses_changes_at_both(same: Same) -> None:
    registers = same("""
        mov rax, [0x301000]
        mov [0x301008], rax             # 0x40001000 is the page of 0x40000000 now
        invlpg [0x40001000]
        mov dword ptr [0x40000100], 0xc300b0    # mov al, 0; ret
        mov ebx, 0x40000100
        mov ebp, 0x40001100
        mov ecx, 30
again:  call rbx
        movzx eax, al
        add r13, rax
        mov [0x40001101], cl
        call rbp
        movzx eax, al
        add r13, rax
        loop again
    """).registers
    assert registers["r13"] == 2 * sum(range(1, 31)) - 1


def test_a_loop_whose_body_is_rewritten_thousands_of_times_goes_on(same: Same) -> None:
    registers = same("""
        mov ecx, 3000
        mov dword ptr [0x40000100], 0x90909090
        mov word ptr [0x40000104], 0xc390
        mov ebx, 0x40000100
again:  mov byte ptr [0x40000100], 0xb0
        mov [0x40000101], cl
        call rbx
        add r13b, al
        loop again
    """).registers
    assert registers["r13"] == sum(range(3001)) & 0xFF


def test_another_master_of_memory_changes_code(launched: Launch) -> None:
    ends = []
    for engine in ("reference", "native"):
        session = launched("again: mov eax, 1\nadd r13, rax\njmp again", engine)
        drive(session, 20_000)
        assert isinstance(session, BareSession)
        memory = session.memory(0, MEMORY)
        place = memory.index(bytes.fromhex("b801000000") + b"\x49\x01\xc5")
        session.computer.cpu.store_physical(place + 1, 7, 8)
        drive(session, 40_000)
        ends.append(state_of(session))
    assert ends[0] == ends[1]
    assert ends[0][0]["rax"] == 7


def test_a_store_right_beside_an_instruction_is_none_into_it(same: Same) -> None:
    registers = same("""
        mov ecx, 300
        jmp again
before: .byte 0
again:  inc byte ptr [rip + before]
        add r13d, [rip + behind]
        inc dword ptr [rip + behind]
        loop again
        jmp finish
behind: .long 0
    """).registers
    assert registers["r13"] == sum(range(300))


def test_a_byte_that_makes_an_undefined_instruction_a_defined_one_is_noticed(same: Same) -> None:
    outcome = same("""
        mov dword ptr [0x40000100], 0xc3ff0f    # 0F FF: none; ret
        mov ebx, 0x40000100
        mov r12, rsp
        call rbx
after_fault:
        mov rsp, r12
        mov byte ptr [0x40000101], 0xc9         # bswap ecx
        mov ecx, 1
        call rbx
    """)
    assert [fault[0] for fault in outcome.faults] == [6]
    assert outcome.registers["rcx"] == 0x0100_0000
