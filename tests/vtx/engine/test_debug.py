"""Debug exceptions: every kind of breakpoint gives the same under each style and engine.

A test is a few instructions between a prologue that takes #DB and an epilogue that ends the
machine. The handler logs where each #DB came, what DR6 said, and the RF that was pushed.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.vtx.engines import NEEDS_NATIVE
from vtx.machine.loader.symbols import read_symbols
from vtx.vmm.launch import RunOptions, drive, launch

LOG, MEMORY = 0x300000, 4 << 20
DR6_CLEAR, BS, BD = 0xFFFF_0FF0, 1 << 14, 1 << 13
RUNS = [
    pytest.param((style, engine), id=f"{style}-{engine}", marks=marks)
    for style in ("bare", "ept", "shadow")
    for engine, marks in (("reference", ()), ("evaluate", ()), ("native", NEEDS_NATIVE))
]

SOURCE = """
        .intel_syntax noprefix
        .code64
        .globl _start
_start: lea rsp, [rip + stack_top]
        lea rax, [rip + handler]
        lea rdi, [rip + idt + 16]
        mov [rdi], ax
        mov word ptr [rdi + 2], cs
        mov word ptr [rdi + 4], 0x8e00
        shr rax, 16
        mov [rdi + 6], ax
        lea rax, [rip + idt]
        mov [rip + pointer + 2], rax
        lidt [rip + pointer]
        mov r15d, {log}
        lea rbx, [rip + watched]
        xor r14, r14
        jmp body
        .align 64
body:   {body}
        mov eax, 0x400
        mov dr7, rax
finish: mov al, 0x10
        out 0xf4, al
        jmp finish
handler:
        push rax
        mov rax, [rsp + 8]
        mov [r15], rax
        mov rax, dr6
        mov [r15 + 8], rax
        mov rax, [rsp + 24]
        shr eax, 16
        and eax, 1
        mov [r15 + 16], rax
        add r15, 24
        mov eax, {clear}
        mov dr6, rax
        or [rsp + 24], r14              # RF, for tests of instruction breakpoints
        pop rax
        iretq
        .data
        .align 64
        .quad 0
watched: .quad 0x1122334455667788, 0, 0, 0
pointer: .word 0xfff
        .quad 0
        .bss
        .align 4096
idt:    .skip 4096
        .skip 4096
stack_top:
"""


@dataclass(frozen=True)
class Debugged:
    """What the handler saw: for each #DB a label or RIP, the bits of DR6, and RF."""

    hits: list[tuple[str, int]]
    resume: list[int]


Debug = Callable[[str], Debugged]


@pytest.fixture(params=RUNS)
def debug(request: pytest.FixtureRequest, assemble_source: Callable[[str], bytes]) -> Debug:
    """Run a body and read the log."""
    style, engine = request.param

    def run(body: str) -> Debugged:
        image = assemble_source(SOURCE.format(body=body, log=LOG, clear=DR6_CLEAR))
        options = RunOptions(image, "debug", style=style, engine=engine, memory=MEMORY)
        session = launch(options).session
        ending = drive(session, 2000)
        assert (ending.how, ending.exit_status) == ("debug_exit", 0x21), ending
        count, left = divmod(session.registers()["r15"] - LOG, 24)
        assert left == 0
        log = session.memory(LOG, 24 * count)
        words = [int.from_bytes(log[n : n + 8], "little") for n in range(0, len(log), 8)]
        symbols = {symbol.address: symbol.name for symbol in read_symbols(image)}
        hits = [
            (symbols.get(rip, hex(rip)), dr6 ^ DR6_CLEAR)
            for rip, dr6 in zip(words[::3], words[1::3], strict=True)
        ]
        return Debugged(hits, words[2::3])

    return run


def watch(*conditions: tuple[str, int, int], at: int = 0) -> str:
    """Set DR0.. to the places given and enable them with (R/W, LEN) each."""
    dr7 = 0x400
    lines = []
    for n, (place, kind, length) in enumerate(conditions, at):
        lines += [f"lea rax, [{place}]", f"mov dr{n}, rax"]
        dr7 |= 2 << 2 * n | (kind | length << 2) << (16 + 4 * n)
    return "\n".join([*lines, f"mov eax, {dr7}", "mov dr7, rax\n"])


INT3_GATE = """
        lea rax, [rip + three]
        lea rdi, [rip + idt + 3 * 16]
        mov [rdi], ax
        mov word ptr [rdi + 2], cs
        mov word ptr [rdi + 4], 0x8e00
        shr rax, 16
        mov [rdi + 6], ax
"""
WRITE, IO, ACCESS = 1, 2, 3
BYTE, WORD, QUAD, LONG = range(4)


def test_a_write_traps_behind_the_instruction_and_a_read_does_not(debug: Debug) -> None:
    found = debug(watch(("rbx", WRITE, LONG)) + "mov eax, [rbx]\nmov [rbx], eax\nbehind: nop")
    assert (found.hits, found.resume) == ([("behind", 1)], [0])


def test_an_access_breakpoint_takes_loads_and_stores(debug: Debug) -> None:
    found = debug(
        watch(("rbx", ACCESS, LONG))
        + "mov eax, [rbx]\none: mov [rbx], eax\ntwo: push [rbx]\nthree:"
    )
    assert found.hits == [("one", 1), ("two", 1), ("three", 1)]


@pytest.mark.parametrize(
    ("length", "first", "last"), [(BYTE, 0, 0), (WORD, 0, 1), (LONG, 0, 3), (QUAD, 0, 7)]
)
def test_the_length_says_which_bytes_are_watched(
    debug: Debug, length: int, first: int, last: int
) -> None:
    outside = f"mov byte ptr [rbx + {first - 1}], 1\nmov byte ptr [rbx + {last + 1}], 1\n"
    inside = f"mov byte ptr [rbx + {first}], 1\na: mov byte ptr [rbx + {last}], 1\nb: nop"
    found = debug(watch(("rbx", WRITE, length)) + outside + inside)
    assert found.hits == [("a", 1), ("b", 1)]


def test_a_wide_access_that_only_overlaps_is_met(debug: Debug) -> None:
    found = debug(watch(("rbx + 3", WRITE, BYTE)) + "mov qword ptr [rbx - 4], 0\nbehind: nop")
    assert found.hits == [("behind", 1)]


def test_a_watched_place_counts_as_aligned_to_its_length(debug: Debug) -> None:
    found = debug(watch(("rbx + 3", WRITE, LONG)) + "mov byte ptr [rbx], 0\nbehind: nop")
    assert found.hits == [("behind", 1)]


def test_all_conditions_that_are_met_show_in_dr6(debug: Debug) -> None:
    conditions = (("rbx", WRITE, LONG), ("rbx + 8", WRITE, LONG), ("rbx", ACCESS, BYTE))
    found = debug(watch(*conditions) + "add byte ptr [rbx], 1\nbehind: nop")
    assert found.hits == [("behind", 5)]


def test_each_iteration_of_a_repeated_instruction_traps(debug: Debug) -> None:
    body = watch(("rbx + 8", WRITE, LONG)) + (
        "lea rdi, [rbx]\nmov ecx, 6\nxor eax, eax\nagain: rep stosd\nbehind: nop"
    )
    assert debug(body).hits == [("again", 1)]
    assert debug(body.replace("ecx, 6", "ecx, 3")).hits == [("behind", 1)]


def test_a_push_is_a_data_access(debug: Debug) -> None:
    body = watch(("rsp - 8", WRITE, QUAD)) + "push 5\na: nop"
    assert debug(body).hits == [("a", 1)]


def test_an_instruction_that_faults_has_met_nothing(debug: Debug) -> None:
    body = (
        "lea rax, [rip + gp]\nlea rdi, [rip + idt + 13 * 16]\nmov [rdi], ax\n"
        "mov word ptr [rdi + 2], cs\nmov word ptr [rdi + 4], 0x8e00\nshr rax, 16\n"
        "mov [rdi + 6], ax\nmov rsi, rbx\nmov rdi, 0x8000000000000000\n"
        + watch(("rbx", ACCESS, QUAD))
        + "movsq\njmp behind\ngp: mov rax, rsp\nadd rsp, 48\nbehind: nop"
    )
    assert debug(body).hits == []


def test_port_breakpoints_need_cr4_de(debug: Debug) -> None:
    access = "mov dx, 0x80\nout dx, al\na: in al, 0x81\nb: in eax, 0x7e\nc: nop"
    body = watch(("0x80", IO, BYTE)) + access
    assert debug(body).hits == []
    enabled = "mov rax, cr4\nor eax, 8\nmov cr4, rax\n" + body
    assert debug(enabled).hits == [("a", 1), ("c", 1)]


def test_a_string_instruction_meets_port_and_data_conditions_together(debug: Debug) -> None:
    body = (
        "mov rax, cr4\nor eax, 8\nmov cr4, rax\n"
        + watch(("0x80", IO, BYTE), ("rbx", ACCESS, BYTE))
        + "mov edx, 0x80\nmov rsi, rbx\noutsb\nbehind: nop"
    )
    assert debug(body).hits == [("behind", 3)]


def test_an_instruction_breakpoint_faults_until_rf_lets_it_pass(debug: Debug) -> None:
    body = "mov r14d, 0x10000\n" + watch(("rip + here", 0, BYTE)) + "here: nop\nnop"
    found = debug(body)
    assert (found.hits, found.resume) == ([("here", 1)], [0])


def test_a_breakpoint_on_a_repeated_instruction_is_met_once(debug: Debug) -> None:
    body = "mov r14d, 0x10000\nmov rdi, rbx\nmov ecx, 4\n" + watch(("rip + here", 0, BYTE))
    found = debug(body + "here: rep stosb\nnop\nnop")
    assert (found.hits, found.resume) == ([("here", 1)], [0])


def test_single_step_and_a_data_breakpoint_are_one_exception(debug: Debug) -> None:
    body = watch(("rbx", WRITE, BYTE)) + (
        "pushfq\nor dword ptr [rsp], 0x100\npopfq\n"
        "mov byte ptr [rbx], 1\na: pushfq\nb: and dword ptr [rsp], ~0x100\nc: popfq\nd: nop"
    )
    found = debug(body)
    assert found.hits == [("a", BS | 1), ("b", BS), ("c", BS), ("d", BS)]


def test_loading_ss_holds_a_data_breakpoint_back_for_one_instruction(debug: Debug) -> None:
    body = (
        "mov eax, ss\nmov [rbx], eax\n"
        + watch(("rbx", ACCESS, WORD))
        + ("mov ss, [rbx]\na: nop\nb: nop")
    )
    assert debug(body).hits == [("b", 1)]


def test_loading_ss_suppresses_an_instruction_breakpoint(debug: Debug) -> None:
    body = watch(("rip + here", 0, BYTE)) + "mov eax, ss\nmov ss, eax\nhere: nop\nnop"
    assert debug(body).hits == []


def test_a_held_back_trap_outlives_a_vm_exit(debug: Debug) -> None:
    prologue = "mov eax, ss\nmov [rbx], eax\npush rbx\n" + watch(("rbx", ACCESS, WORD))
    found = debug(prologue + "xor eax, eax\nmov ss, [rbx]\na: cpuid\nb: pop rbx\nnop")
    assert found.hits == [("b", 1)]


def test_a_held_back_trap_comes_in_the_handler_of_a_software_interrupt(debug: Debug) -> None:
    body = (
        INT3_GATE
        + "mov eax, ss\nmov [rbx], eax\n"
        + watch(("rbx", ACCESS, WORD))
        + "mov ss, [rbx]\nint3\nthree: add rsp, 40"
    )
    assert debug(body).hits == [("three", 1)]


def test_a_breakpoint_that_is_not_enabled_is_not_met(debug: Debug) -> None:
    body = watch(("rbx", WRITE, BYTE)) + "mov eax, 0x10400\nmov dr7, rax\nmov [rbx], eax\nnop"
    assert debug(body).hits == []


def test_a_write_in_device_space_is_met_too(debug: Debug) -> None:
    prologue = "mov esi, 0xfee00080\n" + watch(("rsi", ACCESS, LONG))
    assert debug(prologue + "mov [rsi], eax\na: mov eax, [rsi]\nb: nop").hits == [
        ("a", 1), ("b", 1),
    ]  # fmt: skip


def test_general_detect_faults_and_is_cleared_for_the_handler(debug: Debug) -> None:
    body = "mov eax, 0x2400\nmov dr7, rax\nhere: mov rcx, dr7\nmov [rbx], rcx"
    found = debug(body)
    assert (found.hits, found.resume) == ([("here", BD)], [1])


def test_a_frame_pushed_over_a_watched_place_traps_in_the_handler(debug: Debug) -> None:
    body = (
        INT3_GATE
        + "and rsp, -16\n"
        + watch(("rsp - 24", WRITE, QUAD))
        + "int3\nthree: add rsp, 40\nmov eax, 0x400\nmov dr7, rax"
    )
    assert debug(body).hits[0] == ("three", 1)
