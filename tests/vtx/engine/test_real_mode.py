"""Real-address mode: 16-bit programs as a start-up IPI begins them, on every engine.

What needs no interrupt and stays in real mode is run by Unicorn as well, which has to leave the
same registers and memory.
"""

from __future__ import annotations

import io

import pytest
from elftools.elf.elffile import ELFFile
from unicorn import UC_ARCH_X86, UC_MODE_16, Uc, x86_const

import asm
from tests.vtx.engines import EVERY_ENGINE
from vtx.engine.choice import make_engine
from vtx.engine.run import Ended, Runner
from vtx.machine.computer import Computer
from vtx.machine.cpu_model import cpu_model
from vtx.machine.reset import init_cpu, start_cpu
from vtx.machine.state import State

PAGE = 0x9A
CODE, RAM = PAGE << 12, 1 << 20
STACK = 0x7000
GPRS = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi")
SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs")


def assembled(program: str) -> bytes:
    """The program's code, with a HLT of ours behind it. Labels are offsets by `- begin`."""
    source = f".intel_syntax noprefix\n.code16\n.globl _start\n_start:\nbegin:\n{program}\nhlt\n"
    elf = ELFFile(io.BytesIO(asm.assemble(source, name="real").elf()))
    code: bytes = elf.get_section_by_name(".text").data()
    return code


def run(engine: str, program: str) -> tuple[State, bytes]:
    """State and memory when the program has reached its HLT with interrupts off."""
    machine = Computer(cpu=cpu_model("haswell"), ram_size=RAM)
    machine.platform.bus.write_bytes(CODE, assembled(program))
    init_cpu(machine.cpu)
    start_cpu(machine.cpu, PAGE)
    executor = make_engine(engine, machine.cpu, machine.features)
    assert Runner(executor, machine.platform).run(10_000) is Ended.HALTED
    return machine.cpu.state, bytes(machine.memory.buffer[:0xA0000])


def by_unicorn(program: str) -> tuple[Uc, bytes]:
    """What Unicorn makes of the same program."""
    uc = Uc(UC_ARCH_X86, UC_MODE_16)
    uc.mem_map(0, RAM)
    code = assembled(program)
    uc.mem_write(0, bytes(Computer(cpu=cpu_model("haswell"), ram_size=RAM).memory.buffer[:RAM]))
    uc.mem_write(CODE, code)
    for name in (*GPRS, *SEGMENTS):
        uc.reg_write(register(name), 0)
    uc.reg_write(register("rdx"), cpu_model("haswell").silicon.signature)
    uc.reg_write(register("cs"), PAGE << 8)
    uc.emu_start(CODE, CODE + len(code) - 1, count=10_000)
    return uc, bytes(uc.mem_read(0, 0xA0000))


def register(name: str) -> int:
    label = f"E{name[1:]}" if name in GPRS else name
    number: int = getattr(x86_const, f"UC_X86_REG_{label.upper()}")
    return number


PROGRAMS = {
    "segments have the base of their selector times 16": """
        mov ax, 0x1234; mov ds, ax; mov word ptr [0x10], 0xbeef
        mov ax, 0x2345; mov es, ax; mov byte ptr es:[0xffff], 0x5a
        mov bx, ds:[0x10]; mov cx, es:[0xfffe]
        mov ax, 0x3000; mov fs, ax; mov gs, ax; mov fs:[bx], cx; mov dx, gs:[0xbeef]
    """,
    "the stack is at SS": """
        mov ax, 0x4000; mov ss, ax; mov sp, 0x100
        push 0x1111; push cs; pushf; push eax; pop ecx; pop bx; pop dx; pop si
        mov bp, sp; push si; mov di, [bp - 2]
        mov sp, 0; push 0x7777
    """,
    "far calls, jumps and returns": """
        mov ax, 0x5000; mov ss, ax; mov sp, 0x200
        push cs; call near_far
        mov bx, 0x1111
        .byte 0x9a; .word one - begin, 0x9a00
        .byte 0xea; .word two - begin, 0x9a00
    near_far: mov cx, 5; retf
    one: inc cx; push cs; push offset three - begin; retf
    three: inc cx; retf 0
    two: mov si, sp
    """,
    "pointers loaded with their segment": """
        mov ax, cs; mov ds, ax
        les di, [pointer - begin]; lds si, [pointer - begin + 4]
        mov es:[di], si; mov ds:[si], di
        jmp end
    pointer: .word 0x10, 0x2000, 0x20, 0x3000
    end: nop
    """,
    "strings between segments": """
        mov ax, 0x2000; mov ds, ax; mov ax, 0x3000; mov es, ax
        xor di, di; mov al, 0x41; mov cx, 100; rep stosb
        push 0x3000; pop ds; push 0x2000; pop es
        xor si, si; mov di, 50; mov cx, 40; rep movsw
        mov si, 0; mov di, 50; mov cx, 200; repe cmpsb
        std; mov di, 0xfff; mov ax, 0x4242; mov cx, 8; rep stosw; cld
    """,
    "32-bit operands and addresses": """
        mov eax, 0x12345678; mov ebx, 0x1000; mov ecx, 4
        mov [ebx + ecx * 4 + 8], eax; add eax, [ebx + 0x18]; rol eax, 7
        imul edx, eax, 77; movzx esi, ax; movsx edi, al; bswap ebp
        push eax; push edx; pop ebp
    """,
    "loops and conditions": """
        xor ax, ax; mov cx, 300
    again: add ax, cx; jc over; inc dx
    over: loop again
        mov ecx, 0x10003; jcxz never
    never: mov bx, cx; cmp ax, bx; setb bl; sbb si, si; cmovs di, ax
    """,
    "arithmetic in BCD": """
        mov al, 0x79; add al, 0x35; daa; mov bl, al
        mov ax, 0x0905; aad; mov cx, ax; mov al, 77; aam; mov dx, ax
        mov ax, 9; add al, 8; aaa; mov si, ax
    """,
}


@EVERY_ENGINE
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_does_what_it_does_in_unicorn(name: str, engine: str) -> None:
    state, memory = run(engine, PROGRAMS[name])
    uc, expected = by_unicorn(PROGRAMS[name])

    for gpr in GPRS:
        assert state.read(gpr) & 0xFFFF_FFFF == uc.reg_read(register(gpr)), gpr
    for segment in SEGMENTS:
        assert state.read(f"{segment}_sel") == uc.reg_read(register(segment)), segment
        assert state.read(f"{segment}_base") == state.read(f"{segment}_sel") << 4
    assert memory == expected


@EVERY_ENGINE
def test_interrupts_go_through_the_vector_table(engine: str) -> None:
    state, memory = run(engine, f"""
        mov word ptr [0x21 * 4], offset handler - begin
        mov word ptr [0x21 * 4 + 2], cs
        mov sp, {STACK}; stc; sti
        int 0x21
        mov bx, 1
        jmp end
    handler: pushf; pop si; mov cx, [{STACK} - 6]; mov dx, [{STACK} - 4]; iret
    end: pushf; pop di; cli
    """)  # fmt: skip

    flags = int.from_bytes(memory[STACK - 2 : STACK], "little")
    assert state.read("rbx") == 1
    assert state.read("rdx") & 0xFFFF == PAGE << 8
    assert state.read("rcx") & 0xFFFF > 0
    assert state.read("rsi") & 0x200 == 0  # the handler is entered with IF clear
    assert state.read("rdi") & 0x201 == 0x201 == flags & 0x201  # and IRET brings it back


@EVERY_ENGINE
def test_exceptions_push_no_error_code_and_return_to_the_instruction(engine: str) -> None:
    state, _ = run(engine, f"""
        mov word ptr [13 * 4], offset handler - begin
        mov word ptr [13 * 4 + 2], cs
        mov sp, {STACK}
        mov ebx, 0x10000
    bad: mov al, [ebx]
        jmp end
    handler: mov bp, sp; mov cx, [bp]; mov dx, sp; sub cx, offset bad - begin; mov ebx, 0; iret
    end: nop
    """)  # fmt: skip

    assert state.read("rcx") & 0xFFFF == 0  # it points at the instruction beyond the limit
    assert state.read("rdx") & 0xFFFF == STACK - 6


@EVERY_ENGINE
def test_limits_loaded_in_protected_mode_stay_in_real_mode(engine: str) -> None:
    state, memory = run(engine, """
        mov ax, cs; mov ds, ax
        lgdt [pointer - begin]
        mov eax, cr0; or al, 1; mov cr0, eax
        mov cx, 8; mov fs, cx
        and al, 0xfe; mov cr0, eax
        mov ebx, 0x54321
        mov dword ptr fs:[ebx], 0xcafe
        mov ax, 0x1000; mov fs, ax
        mov dword ptr fs:[ebx], 0xf00d
        jmp end
        .balign 8, 0
    gdt: .quad 0, 0x00cf92000000ffff
    pointer: .word 15; .long gdt - begin + 0x9a000
    end: nop
    """)  # fmt: skip

    assert memory[0x54321:0x54325] == (0xCAFE).to_bytes(4, "little")
    assert memory[0x64321:0x64325] == (0xF00D).to_bytes(4, "little")
    assert (state.read("fs_base"), state.read("fs_limit")) == (0x10000, 0xFFFF_FFFF)


@EVERY_ENGINE
def test_a_far_jump_leads_to_32_bit_protected_mode_and_back(engine: str) -> None:
    state, _ = run(engine, """
        mov ax, cs; mov ds, ax
        lgdt [pointer - begin]
        mov eax, cr0; or al, 1; mov cr0, eax
        .byte 0x66, 0xea; .long wide - begin + 0x9a000; .word 8
        .code32
    wide: mov ebx, 0x12345678; mov ecx, cs
        .byte 0xea; .long narrow - begin; .word 16
        .code16
    narrow: mov eax, cr0; and al, 0xfe; mov cr0, eax
        .byte 0xea; .word real - begin, 0x9a00
        .balign 8, 0
    gdt: .quad 0, 0x00cf9b000000ffff, 0x00009b09a000ffff
    pointer: .word 23; .long gdt - begin + 0x9a000
    real: mov dx, cs
    """)  # fmt: skip

    assert (state.read("rbx"), state.read("rcx")) == (0x12345678, 8)
    assert (state.read("rdx") & 0xFFFF, state.read("cs_base")) == (PAGE << 8, CODE)
    assert state.read("cr0") & 1 == 0
