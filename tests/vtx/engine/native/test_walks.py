"""TLB misses that native code answers: what is found, what is counted, what is forgotten."""

import pytest
from twins import Launch, Same

from vtx.vmm.launch import drive

PAGES = """
        mov r8, [0x301000]              # PTEs of 0x40000000 and the page behind it
        mov r9, [0x301008]
        mov dword ptr [0x40000000], 0x111
        mov dword ptr [0x40001000], 0x222
"""
"""R8 and R9 are the entries of two pages that hold 0x111 and 0x222."""
TOUCH = """
        mov eax, 0x40000000
        mov ecx, 8
1:      add [rax + 8], rcx
        add eax, 0x1000
        dec ecx
        jnz 1b
        mov rdx, [0x40000ffd]           # these lie on two pages
        mov [0x40001ffe], edx
        mov eax, [0x40002fff]
"""


def counted(launched: Launch, body: str) -> list[dict[str, float]]:
    counts = []
    for engine in ("reference", "native"):
        session = launched(body, engine)
        drive(session, 100_000)
        counts.append(session.walks.summary())  # type: ignore[attr-defined]
    return counts


@pytest.mark.parametrize("body", [
    TOUCH, TOUCH * 3, TOUCH + "mov rax, cr3\nmov cr3, rax\n" + TOUCH,
    TOUCH + "invlpg [0x40001000]\n" + TOUCH, "mov rax, [0x50000000]\nafter_fault:\n" + TOUCH,
], ids=["once", "again", "flushed", "one page flushed", "behind a fault"])  # fmt: skip
def test_misses_and_their_references_are_the_reference_engines(launched: Launch, body: str) -> None:
    reference, native = counted(launched, body + "jmp finish\n")
    assert native == reference
    assert native["misses"] >= 8
    assert native["max"] == 4


def test_a_loop_over_pages_that_collide_in_the_first_level_misses_once_each(
    launched: Launch,
) -> None:
    alias = """
        mov rdi, cr3
        mov rdi, [rdi]
        and rdi, -4096
        mov rax, [rdi + 8]
        mov [rdi + 16], rax             # 0x80000000: the same pages again
        mov [rdi + 24], rax
        mov r10d, {count}
1:      mov rax, [0x40000000]
        mov edx, 0x80000000
        mov rax, [rdx]
        mov edx, 0xc0000000
        mov rax, [rdx]
        dec r10d
        jnz 1b
        jmp finish
    """
    few, many = (counted(launched, alias.format(count=n))[1] for n in (2, 200))
    assert few == many


def test_a_page_that_was_written_is_read_without_another_walk(launched: Launch) -> None:
    write = "mov dword ptr [0x40000000], 0x111\n"
    alone = counted(launched, write + "jmp finish\n")
    both = counted(launched, write + "mov eax, [0x40000000]\n" * 3 + "jmp finish\n")
    assert alone == both


def test_a_page_that_moved_is_read_where_it_was_written(same: Same) -> None:
    registers = same(PAGES + """
        mov r13d, [0x40000000]          # in the TLB for reading
        mov [0x301000], r9
        mov dword ptr [0x40000000], 0x333
        mov ebx, [0x40000000]
        mov ecx, [0x40001000]
    """).registers  # fmt: skip
    assert registers["rbx"] in (0x111, 0x333)
    assert registers["rcx"] in (0x222, 0x333)


def test_what_is_cached_stays_until_it_is_flushed(same: Same) -> None:
    registers = same(PAGES + """
        mov r13d, [0x40000000]
        mov [0x301000], r9              # not flushed yet
        mov ebx, [0x40000000]
        invlpg [0x40000000]
        mov ecx, [0x40000000]
        mov [0x301000], r8
        mov rdx, cr3
        mov cr3, rdx
        mov edx, [0x40000000]
    """).registers  # fmt: skip
    found = [registers[name] for name in ("r13", "rbx", "rcx", "rdx")]
    assert found == [0x111, 0x111, 0x222, 0x111]


GLOBAL = (
    PAGES
    + """
        or qword ptr [0x301000], 0x100
        mov rax, cr4
        or rax, {bits}
        mov cr4, rax
        mov rdx, cr3
        mov cr3, rdx
        mov r13d, [0x40000000]
        mov eax, [0x40001000]
        mov [0x301000], r9
        mov [0x301008], r8
        mov cr3, rdx
        mov ebx, [0x40000000]           # the old page where it was global
        mov ecx, [0x40001000]
"""
)


def test_a_global_page_outlives_mov_cr3(same: Same) -> None:
    registers = same(GLOBAL.format(bits=0x80)).registers
    assert (registers["rbx"], registers["rcx"]) == (0x111, 0x111)


def test_without_pge_no_page_is_global(same: Same) -> None:
    registers = same(GLOBAL.format(bits=0)).registers
    assert (registers["rbx"], registers["rcx"]) == (0x222, 0x111)


def test_invlpg_and_cr4_pge_forget_global_pages(same: Same) -> None:
    registers = same(GLOBAL.format(bits=0x80) + """
        invlpg [0x40000000]
        mov r10d, [0x40000000]
        mov [0x301000], r8
        or qword ptr [0x301000], 0x100
        invlpg [0x40000000]
        mov eax, [0x40000000]
        mov [0x301000], r9
        mov r11d, [0x40000000]
        mov rax, cr4
        xor rax, 0x80
        mov cr4, rax
        mov r12d, [0x40000000]
    """).registers  # fmt: skip
    found = [registers[name] for name in ("r10", "r11", "r12")]
    assert found == [0x222, 0x111, 0x222]


def test_each_pcid_has_translations_of_its_own(same: Same) -> None:
    registers = same(PAGES + """
        mov rax, cr4
        or rax, 1 << 17
        mov cr4, rax
        mov rsi, cr3
        lea rdi, [rsi + 5]
        mov r10, 1
        shl r10, 63
        mov cr3, rdi                    # PCID 5
        mov r13d, [0x40000000]
        mov [0x301000], r9
        mov cr3, rsi                    # PCID 0, which is flushed
        mov ebx, [0x40000000]
        mov [0x301000], r8
        or rdi, r10
        mov cr3, rdi                    # PCID 5, not flushed
        mov ecx, [0x40000000]
        or rsi, r10
        mov cr3, rsi                    # PCID 0, not flushed
        mov edx, [0x40000000]
        invlpg [0x40000000]
        mov r11d, [0x40000000]
        mov r12, cr3
    """).registers  # fmt: skip
    found = [registers[name] for name in ("r13", "rbx", "rcx", "rdx", "r11")]
    assert found == [0x111, 0x222, 0x111, 0x222, 0x111]


def test_accessed_and_dirty_are_set_when_they_are_due(same: Same) -> None:
    registers = same("""
        and qword ptr [0x301010], ~0x60
        invlpg [0x40002000]
        mov r8, [0x301010]
        mov eax, [0x40002000]
        mov r9, [0x301010]
        mov [0x40002000], eax
        mov r10, [0x301010]
        and qword ptr [0x301010], ~0x60
        mov [0x40002004], eax           # the TLB knows the page as dirty
        mov r11, [0x301010]
    """).registers
    flags = [registers[name] & 0x60 for name in ("r8", "r9", "r10", "r11")]
    assert flags == [0, 0x20, 0x60, 0]


def test_a_page_fault_in_the_second_page_changes_nothing(same: Same) -> None:
    outcome = same("""
        mov dword ptr [0x40000ffc], 0x11223344
        mov qword ptr [0x301008], 0
        invlpg [0x40001000]
        mov rdi, 0x40000ffe
        mov r12, rsp
        mov dword ptr [rdi], 0x55667788
after_fault:
        mov rsp, r12
        mov r13d, [0x40000ffc]
    """)
    ((vector, error, cr2, _),) = outcome.faults
    assert (vector, error, cr2) == (14, 2, 0x4000_1000)
    assert outcome.registers["r13"] == 0x1122_3344


def test_faults_in_a_loop_are_delivered_and_returned_from(same: Same) -> None:
    outcome = same("""
        mov r12, rsp
        mov ebx, 60
again:  mov rax, [0x7fff0000 + rbx * 8]
after_fault:
        mov rsp, r12
        dec ebx
        jns again
        cmp rax, rax
    """)
    assert [cr2 for _, _, cr2, _ in outcome.faults] == [
        0x7FFF0000 + 8 * n for n in range(60, -1, -1)
    ]
