"""What generated programs have found, each shrunk to the least that shows it."""

import pytest
from fidelity_outcome import require_equal_engines, require_fidelity
from fidelity_program import Program

from tests.vtx.engines import NATIVE, QUICK_ENGINES
from vtx.vmm import Ept, Shadow, Vmm

FOUND = {
    "a fault whose delivery exits for a missing translation pushes RF": Program(
        "long", ("mov eax, [TEST + 0x3000]", "ud2")
    ),
    "a single-step trap ends HLT": Program("long", ("push 0x302; popf; sti; hlt",)),
    "a double fault behind an injected page fault pushes RF clear": Program(
        "paged", ("mov word ptr [IDT + 14 * 8 + 2], 0x40; mov eax, [ABSENT]",)
    ),
    "a single-step trap behind a general-detect fault pushes RF clear": Program(
        "paged",
        (
            "mov eax, 0x2400; mov dr7, eax; mov ebx, dr0",
            "push USER_DS; push USER_STACK; push 0x302; push USER_CS32; push PAYLOAD + 128; iretd",
        ),
    ),
    "a local APIC moved onto RAM hides it": Program(
        "unpaged", ("mov ecx, 0x1b; mov eax, 0x100900; xor edx, edx; wrmsr",)
    ),
    "RAM shows again where the local APIC was": Program(
        "long",
        (
            "mov ecx, 0x1b; mov eax, 0x10c900; xor edx, edx; wrmsr",
            "mov eax, [0x10c020]",
            "mov ecx, 0x1b; mov eax, 0xfee00900; xor edx, edx; wrmsr",
            "mov eax, [0x10c020]",
        ),
    ),
}


@QUICK_ENGINES
@pytest.mark.parametrize("vmm", [Ept, Shadow])
@pytest.mark.parametrize("program", FOUND.values(), ids=FOUND.keys())
def test_a_program_that_once_told_a_vmm_from_the_bare_machine_no_longer_does(
    vmm: type[Vmm], program: Program, engine: str
) -> None:
    require_fidelity(vmm, program, engine)


@pytest.mark.parametrize("engine", ["evaluate", NATIVE])
@pytest.mark.parametrize("program", FOUND.values(), ids=FOUND.keys())
def test_every_engine_runs_what_was_found_alike(program: Program, engine: str) -> None:
    require_equal_engines(engine, program)
