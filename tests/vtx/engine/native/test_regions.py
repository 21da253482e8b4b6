"""Hot regions leave the state of the reference behind every instruction, however they are left."""

import random
from collections.abc import Iterator
from itertools import cycle
from typing import Any

import pytest
from twins import Launch, Same, state_of

from vtx.engine.native import region_compile, regions
from vtx.engine.native.compiler import CompileError
from vtx.engine.native.kept import Kept
from vtx.engine.native.region_pool import pool
from vtx.engine.native.regions import make_regions
from vtx.engine.native.store import Store
from vtx.vmm.launch import drive
from vtx.vmm.session import Session

KERNEL = """
        lea rsi, [rip + idt]
        mov ebp, 0x1234567
again:  mov ecx, 9
inner:  mov eax, ecx
        imul eax, ebp, 77
        add [rsi + rcx * 8], rax
        inc edx
        adc r13, [rsi + rcx * 8]
        mov ebx, eax
        shl ebx, cl
        ja over
        sbb r8, rbx
        bt ebx, 3
        rcl r9, 1
over:   push rbx
        call twice
        pop rdx
        cmp al, bl
        setl r10b
        cmovs r11, rdx
        xchg ah, bh
        dec ecx
        jnz inner
        lea rdi, [rip + idt + 1024]
        mov ecx, 5
        rep stosb
        lea ebp, [rbp + rbp * 2 + 1]
        dec r12
        jnz again
        jmp finish
twice:  lea rax, [rax + rax * 2]
        ret
"""


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VTX_REGIONS", "eager")


def regions_of(session: Session) -> Any:
    return session.engine._regions  # type: ignore[attr-defined]


@pytest.mark.parametrize("slices", [(1,), (40,), (97, 1), (33, 2, 61), (400,)])
def test_a_budget_ends_behind_the_same_instruction(
    launched: Launch, slices: tuple[int, ...]
) -> None:
    sessions = [launched("mov r12d, 60\n" + KERNEL, engine) for engine in ("reference", "native")]
    for session in sessions:
        session.run(3000)
    target = 3000
    for count in cycle(slices):
        target += count
        endings = [session.run(target) for session in sessions]
        states = [session.registers() | {"retired": session.retired} for session in sessions]
        assert states[0] == states[1], f"at {target} instructions"
        if endings[0] is not None or target > 3000 + 80 * sum(slices):
            break
    assert endings[0] == endings[1]
    assert state_of(sessions[0]) == state_of(sessions[1])
    assert regions_of(sessions[1]).installed >= 2
    assert regions_of(sessions[1]).problem is None


REGISTERS = ("rax", "rbx", "rdx", "rsi", "rbp", "r8", "r9", "r10")
NARROW = {"rax": "al", "rbx": "bl", "rdx": "dl", "rsi": "sil", "rbp": "bpl"}


def random_instruction(rng: random.Random, number: int) -> str:
    """One or two lines that may fault, or change flags, or look at them."""
    a, b = rng.sample(REGISTERS, 2)
    memory = f"[r13 + r11 + {rng.choice((0, 1, 8, 0x7F9))}]"
    low, condition = NARROW[rng.choice([*NARROW])], rng.choice(("b", "l", "le", "o", "p", "s", "e"))
    return rng.choice((
        f"{rng.choice(('add', 'sub', 'xor', 'and', 'adc', 'sbb', 'cmp'))} {a}, {b}",
        f"{rng.choice(('add', 'sub', 'or', 'adc'))} {a}, {memory}",
        f"{rng.choice(('add', 'sbb', 'xor'))} qword ptr {memory}, {rng.randrange(-99, 99)}",
        f"{rng.choice(('inc', 'dec', 'neg', 'not'))} {a}",
        f"{rng.choice(('inc', 'dec'))} byte ptr {memory}",
        f"mov {memory}, {a}", f"mov {a}, {memory}", f"mov {low}, byte ptr {memory}",
        f"imul {a}, {b}", f"shl {a}, {rng.randrange(1, 63)}", f"sar {a}, cl", f"rol {low}, cl",
        f"set{condition} {low}", f"cmovn{condition} {a}, {memory}", f"bt {a}, {b}",
        f"push {a}\npop {b}", f"j{condition} 9{number}f\nlea {a}, [{a} + {b} + 5]\n9{number}:",
        "mov r11, rax\nand r11d, 0x9fff", "mov r11, rbx\nand r11d, 0x9fff",
    ))  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_a_fault_anywhere_in_a_region_finds_the_state_of_the_reference(
    launched: Launch, seed: int
) -> None:
    rng = random.Random(seed)
    lines = "\n".join(random_instruction(rng, n) for n in range(28))
    body = f"""
        mov r13d, 0x40000000            # eight pages; what is behind them faults
        mov r14d, 60
        mov ecx, {rng.randrange(1, 64)}
round:  mov r11d, 0x6f00
        mov r12d, 40
again:  lea r11, [r11 + r12 * 4]
        {lines}
        imul edx, r14d, 0x1e3779b1
        imul edi, r12d, 0x25ebca6b
        xor edx, edi
        test edx, 0x38000
        jnz 1f
        add [0x40008000], edx           # one time in eight, and never allowed
1:      dec r12d
        jnz again
        jmp over
after_fault:
        mov rax, [rsp + 16]             # RFLAGS of the fault
        lea rcx, [rcx + rcx * 4]
        add rcx, rax
        add rcx, rbx
        lea rsp, [rip + stack_top]
over:   dec r14d
        jnz round
    """
    sessions = [launched(body, engine) for engine in ("reference", "native")]
    for session in sessions:
        ending = drive(session, 500_000)
        assert ending.how == "debug_exit"
    assert state_of(sessions[0]) == state_of(sessions[1])
    assert sessions[0].retired == sessions[1].retired
    assert regions_of(sessions[1]).installed >= 1
    assert sessions[0].registers()["r15"] > 0x308000, "nothing faulted"


def test_a_region_that_is_changed_while_it_runs_goes_on_with_the_new_code(same: Same) -> None:
    registers = same("""
        mov ecx, 300
        lea rdi, [rip + number + 1]
again:  mov eax, ecx
        and eax, 63
        cmp eax, 17
        jne number
        mov [rdi], cl                   # every 64th round, in the middle of the loop
number: mov ebx, 1
        add r13, rbx
        dec ecx
        jnz again
    """).registers
    rounds = range(300, 0, -1)
    expected, number = 0, 1
    for ecx in rounds:
        number = ecx & 0xFF if ecx & 63 == 17 else number
        expected += number
    assert registers["r13"] == expected


def test_a_page_that_goes_away_is_missed_by_a_running_region(same: Same) -> None:
    outcome = same("""
        mov ebp, 3
round:  mov ecx, 200
again:  mov [0x40001000 + rcx * 8], rcx
        add r13, [0x40001000 + rcx * 8]
        dec ecx
        jnz again
        xor dword ptr [0x301008], 1
        invlpg [0x40001000]
        dec ebp
        jnz round
        jmp finish
after_fault:
        mov r12, rcx
    """)
    assert [(fault[0], fault[2]) for fault in outcome.faults] == [(14, 0x40001640)]
    assert outcome.registers["r12"] == 200


@pytest.fixture
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    empty = Kept(Store(None, "regions", "", 1 << 20))
    monkeypatch.setattr(regions, "kept", lambda: empty)


@pytest.mark.usefixtures("nothing_kept")
def test_a_region_that_cannot_be_compiled_costs_speed_and_one_remark(
    launched: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise CompileError("refused")

    monkeypatch.setattr(region_compile, "compile_region", refuse)
    sessions = [launched("mov r12d, 9\n" + KERNEL, engine) for engine in ("reference", "native")]
    for session in sessions:
        drive(session, 100_000)
    assert state_of(sessions[0]) == state_of(sessions[1])
    tried = regions_of(sessions[1])
    assert (tried.installed, tried.problem) == (0, "refused")


@pytest.mark.usefixtures("nothing_kept")
def test_what_was_compiled_once_is_there_at_once(
    launched: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = launched("mov r12d, 9\n" + KERNEL, "native")
    drive(first, 100_000)

    def refuse(_: object) -> None:
        raise AssertionError("compiled again")

    monkeypatch.setattr(region_compile, "compile_region", refuse)
    second = launched("mov r12d, 9\n" + KERNEL, "native")
    drive(second, 100_000)
    assert regions_of(second).installed == regions_of(first).installed > 0
    assert state_of(first) == state_of(second)


@pytest.fixture
def workers() -> Iterator[None]:
    yield
    pool().close()


@pytest.mark.usefixtures("nothing_kept", "workers")
def test_a_region_that_another_process_compiled_changes_nothing_but_speed(
    launched: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = "mov r12, -1\n" + KERNEL
    monkeypatch.setenv("VTX_REGIONS", "background")
    hot = launched(body, "native")
    target = 0
    while regions_of(hot).installed == 0:
        target += 5_000_000
        hot.run(target)
        assert target < 100_000_000_000 and regions_of(hot).problem is None
    hot.run(target + 10_000_000)
    monkeypatch.setenv("VTX_REGIONS", "off")
    cold = launched(body, "native")
    cold.run(target + 10_000_000)
    assert hot.retired == cold.retired == target + 10_000_000
    assert state_of(hot) == state_of(cold)


def test_an_unknown_mode_is_refused() -> None:
    nothing: Any = None
    with pytest.raises(ValueError, match="perhaps"):
        make_regions("perhaps", nothing, nothing, nothing)
