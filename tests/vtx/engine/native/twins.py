"""Programs that run on the reference engine and on the native one, which have to agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vtx.vmm.session import Session

MEMORY = 4 << 20
LOG = 0x30_8000
"""Where the exception handler writes {vector, error code, CR2, RIP}; R15 points behind it."""

PROLOGUE = """
        .intel_syntax noprefix
        .code64
        .globl _start
        .macro gate vector, handler
        lea rax, [rip + \\handler]
        lea rdi, [rip + idt + \\vector * 16]
        mov [rdi], ax
        mov word ptr [rdi + 2], cs
        mov word ptr [rdi + 4], 0x8e00
        shr rax, 16
        mov [rdi + 6], ax
        .endm
_start: lea rsp, [rip + stack_top]
        gate 1, debug
        gate 6, undefined
        gate 13, protection
        gate 14, page_fault
        lea rax, [rip + idt]
        mov [rip + idtr + 2], rax
        lidt [rip + idtr]
        mov r15d, 0x308000
        mov rdi, cr3
        mov rdi, [rdi]
        and rdi, -4096
        mov ebx, 0x300000               # PDPT[1] -> PD at 0x300000 -> PT at 0x301000
        lea rax, [rbx + 3]
        mov [rdi + 8], rax
        lea rax, [rbx + 0x1003]
        mov [rbx], rax
        lea rax, [rbx + 0x10003]        # 0x40000000 and the next pages: 0x310000 ...
        xor ecx, ecx
map:    mov [rbx + rcx * 8 + 0x1000], rax
        add rax, 0x1000
        inc ecx
        cmp ecx, 8
        jb map
        mov rax, cr3
        mov cr3, rax
        xor eax, eax
        jmp body
        .align 64
"""
EPILOGUE = """
        .code64
finish: mov al, 0x10
        out 0xf4, al
        jmp finish
undefined:
        push 0
        push 6
        jmp log
protection:
        push 13
        jmp log
page_fault:
        push 14
log:    push rax
        mov rax, [rsp + 8]
        mov [r15], rax
        mov rax, [rsp + 16]
        mov [r15 + 8], rax
        mov rax, cr2
        mov [r15 + 16], rax
        mov rax, [rsp + 24]
        mov [r15 + 24], rax
        add r15, 32
        pop rax
        add rsp, 16
        jmp after_fault
debug:  inc r14
        iretq
        .data
        .align 64
idtr:   .word 0xfff
        .quad 0
        .bss
        .align 4096
idt:    .skip 4096
        .skip 4096
stack_top:
"""


@dataclass(frozen=True)
class Outcome:
    """What is left of a run that ended itself."""

    registers: dict[str, int]
    retired: int
    faults: tuple[tuple[int, int, int, int], ...]


Launch = Callable[[str, str], Session]
Same = Callable[[str], Outcome]


def state_of(session: Session) -> tuple[dict[str, int], bytes]:
    """Everything that a guest could tell apart."""
    return session.registers(), session.memory(0, MEMORY)
