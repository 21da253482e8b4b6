"""Native code stops exactly where it is told to, one instruction at a time if need be."""

from itertools import cycle

import pytest
from twins import Launch, Same, state_of

from vtx.isa.layout import SLOTS
from vtx.vmm.launch import drive

MIXED = """
        mov r12d, 40
again:  mov ecx, 5
        lea rsi, [rip + idt]
        mov edi, 0x320000
        rep movsw
        rdtsc
        add r13, rax
        xor eax, eax
        cpuid
        add r13, rbx
        in al, 0x61
        mov ecx, 0x10
        rdmsr
        add r13, rax
        push r13
        popfq
        pushfq
        pop rbx
        cli
        call twice
        dec r12
        jnz again
        jmp finish
twice:  lea rax, [rax + rax * 2]
        ret
"""


@pytest.mark.parametrize("slices", [(1,), (2,), (3, 1, 7), (29, 2)])
def test_every_slice_ends_behind_the_same_instruction(
    launched: Launch, slices: tuple[int, ...]
) -> None:
    sessions = [launched(MIXED, engine) for engine in ("reference", "native")]
    target = 0
    for count in cycle(slices):
        target += count
        endings = [session.run(target) for session in sessions]
        states = [session.registers() | {"retired": session.retired} for session in sessions]
        assert states[0] == states[1], f"at {target} instructions"
        assert endings[0] == endings[1]
        if endings[0] is not None or target > 2500:
            break
        assert states[0]["retired"] == target
    assert state_of(sessions[0]) == state_of(sessions[1])


def test_time_read_by_an_instruction_is_exact(same: Same) -> None:
    registers = same("""
        rdtsc
        mov ebx, eax
        nop
        nop
        mov edx, 1
        rdtsc
        sub eax, ebx
        mov r12d, eax
    """).registers
    assert registers["r12"] == 5


def test_a_stepped_program_traps_behind_each_instruction(same: Same) -> None:
    registers = same("""
        xor r14d, r14d
        mov edi, 0x320000
        mov ecx, 4
        pushfq
        or qword ptr [rsp], 0x100
        popfq                           # no trap behind this one
        nop                             # 1
        rep stosb                       # 4: one behind each iteration
        rdtsc                           # 1
        pushfq                          # 1
        and qword ptr [rsp], ~0x100     # 1
        popfq                           # 1: TF was set when it began
        mov r12, r14
    """).registers
    assert registers["r12"] == 9


def test_an_error_in_a_device_comes_out_as_it_is(launched: Launch) -> None:
    class DeviceError(Exception):
        pass

    def port_out(*_: int) -> None:
        raise DeviceError("broken")

    for engine in ("reference", "native"):
        session = launched("mov ecx, 100\nmore: loop more\nout 0x80, al\n", engine)
        session.computer.platform.bus.port_out = port_out  # type: ignore[attr-defined]
        with pytest.raises(DeviceError, match="broken"):
            drive(session, 10_000)


def test_what_happens_around_an_instruction_is_told_of_repetition(launched: Launch) -> None:
    body = "mov ecx, 3\nmov edi, 0x320000\nrep stosb\nnop\n"
    seen = []
    for engine in ("reference", "native"):
        session = launched(body, engine)
        executor, words = session.engine, session.computer.cpu.words  # type: ignore[attr-defined]
        while words[SLOTS["rcx"]] != 3 or words[SLOTS["rdi"]] != 0x320000:
            executor.run_block(1)
        told = []
        for _ in range(4):
            executor.run_block(1)
            told.append((executor.repeats, words[SLOTS["rcx"]]))
        seen.append(told)
    assert seen[0] == seen[1] == [(True, 2), (True, 1), (True, 0), (False, 0)]


@pytest.mark.parametrize("slices", [(1,), (3, 2)])
def test_nothing_is_fetched_before_its_time(launched: Launch, slices: tuple[int, ...]) -> None:
    body = """
        mov dword ptr [0x40000ffb], 0x44b89090   # nop; nop; mov eax, number over two pages
        mov dword ptr [0x40000fff], 0xc3112233
        mov ebx, 0x40000ffb
        mov r12d, 6
again:  mov qword ptr [0x301008], 0x311003       # accessed and dirty are clear again
        invlpg [0x40001000]
        call rbx
        add r13, rax
        mov qword ptr [0x301008], 0
        invlpg [0x40001000]
        call rbx
after_fault:
        lea rsp, [rip + stack_top]
        dec r12
        jnz again
    """
    sessions = [launched(body, engine) for engine in ("reference", "native")]
    target = 0
    for count in cycle(slices):
        target += count
        endings = [session.run(target) for session in sessions]
        states = [(s.registers(), s.memory(0x30_0000, 0x1_0000)) for s in sessions]
        assert states[0] == states[1], f"at {target} instructions"
        if endings[0] is not None:
            break
    assert endings[0] == endings[1]
    assert states[0][0]["r13"] == 6 * 0x11223344
