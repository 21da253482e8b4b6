"""How runs end: every ending has its name, its exit status and, if it is bad, one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from vtx.vmm import Action, Ept, Exit, Shadow, Stop
from vtx.vmm.ending import Ending
from vtx.vmm.launch import RunOptions, launch, run

STYLES = pytest.mark.parametrize("style", ["bare", "ept", "shadow"])
LONG = """
        .intel_syntax noprefix
        .include "x86.inc"
        .include "ports.inc"
        .text
        .globl _start
_start:
"""
PROTECTED = """
        .intel_syntax noprefix
        .code32
        .include "x86.inc"
        .include "ports.inc"
        .include "multiboot.inc"
        .text
        multiboot_header
        .globl _start
_start:
"""


@pytest.fixture
def end(assemble_source: Callable[[str], bytes], options: Callable[..., RunOptions]) -> Any:
    """Run source in a style to its end."""

    def call(source: str, style: str = "ept", **changes: Any) -> Any:
        return run(options(assemble_source(source), style, **changes))

    return call


@STYLES
@pytest.mark.parametrize("value", [0, 1, 5, 0x7F, 0x80, 0xFF])
def test_debug_exit_ends_as_qemu_s_isa_debug_exit_does(style: str, value: int, end: Any) -> None:
    found = end(f"{LONG} mov al, {value}\n out DEBUG_EXIT, al\n 1: jmp 1b\n", style)

    assert (found.ended, found.exit_status) == ("debug_exit", (value << 1 | 1) & 255)
    assert found.retired == 2


@STYLES
def test_halting_with_interrupts_off_ends_well(style: str, end: Any) -> None:
    found = end(f"{LONG} cli\n hlt\n nop\n", style)

    assert (found.ended, found.exit_status, found.retired) == ("halted", 0, 2)
    assert found.registers["activity"] == 1


@STYLES
def test_halting_with_no_event_to_come_ends_well(style: str, end: Any) -> None:
    found = end(f"{LONG} sti\n hlt\n nop\n", style)

    assert (found.ended, found.exit_status, found.retired) == ("halted", 0, 2)


@STYLES
@pytest.mark.parametrize(
    "how", ["mov al, 0xfe; out 0x64, al", "mov dx, 0xcf9; mov al, 6; out dx, al"]
)
def test_a_reset_ends_the_run(style: str, how: str, end: Any) -> None:
    code = "\n".join(how.split("; "))
    found = end(f"{LONG} {code}\n 1: jmp 1b\n", style, max_instructions=100)

    assert (found.ended, found.exit_status) == ("reset", 0)


@STYLES
def test_a_triple_fault_names_the_instruction(style: str, end: Any) -> None:
    found = end(f"{LONG} lidt [rip + none]\n mark: ud2\n .data\n none: .word 0\n .quad 0\n", style)

    assert (found.ended, found.exit_status, found.retired) == ("triple_fault", 4, 1)
    assert found.message == f"triple fault at rip {found.registers['rip']:#x}"


@STYLES
@pytest.mark.parametrize("budget", [1, 2, 3, 100, 12_345])
def test_a_budget_is_kept_to_the_instruction(style: str, budget: int, end: Any) -> None:
    found = end(f"{LONG} 1: inc rax\n jmp 1b\n", style, max_instructions=budget)

    assert (found.ended, found.exit_status, found.retired) == ("budget", 124, budget)
    assert found.registers["rax"] == (budget + 1) // 2
    assert str(budget) in found.message


@STYLES
@pytest.mark.parametrize("budget", [31, 32, 33, 60, 61])
def test_a_budget_may_end_in_the_middle_of_completed_instructions(
    style: str, budget: int, end: Any
) -> None:
    found = end(f"{LONG} 1: cpuid\n jmp 1b\n", style, max_instructions=budget)

    assert (found.ended, found.retired) == ("budget", budget)


def test_entering_real_mode_under_shadow_paging_is_refused_in_one_line(end: Any) -> None:
    source = f"{PROTECTED} mov eax, cr0\n and eax, ~CR0_PE\n mov cr0, eax\n 1: jmp 1b\n"
    found = end(source, "shadow", max_instructions=100)

    assert (found.ended, found.exit_status, found.retired) == ("vmm_error", 8, 3)
    assert "real mode" in found.message
    assert "\n" not in found.message
    for style in ("bare", "ept"):
        assert end(source, style, max_instructions=100).ended == "budget"


# --- VMMs that fail --------------------------------------------------------------------------


def ended_by(vmm: type, image: bytes, options: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    from vtx.vmm.styles import VMMS

    monkeypatch.setitem(VMMS, vmm.name, vmm)
    session = launch(options(image, vmm.name)).session
    ending = session.run(None)
    assert session.run(None) == ending  # it is over for good
    session.registers()
    session.memory_sha256()
    return ending


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("GUEST_RFLAGS", 0, "GUEST_RFLAGS"),
        ("GUEST_CR0", 0x1_0000_0000, "GUEST_CR0"),
        ("GUEST_CS_ACCESS_RIGHTS", 0, "GUEST_CS_ACCESS_RIGHTS"),
        ("GUEST_ACTIVITY_STATE", 7, "GUEST_ACTIVITY_STATE"),
        ("GUEST_RIP", 1 << 60, "GUEST_RIP"),
        ("HOST_CR4", 0, "HOST_CR4"),
        ("HOST_CS_SELECTOR", 0, "HOST_CS_SELECTOR"),
        ("CR3_TARGET_COUNT", 9, "CR3_TARGET_COUNT"),
        ("VMENTRY_INTERRUPTION_INFO", 0x8000_0100, "VMENTRY_INTERRUPTION_INFO"),
    ],
)
def test_a_vm_entry_that_fails_is_one_line_with_the_broken_rule_and_its_field(
    field: str, value: int, told: str, teeth: bytes, options: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Breaks(Ept):
        name = "breaks"

        def _run_to_exit(self, room: int) -> None:
            if self.vm.retired:
                self.port.vmwrite(field, value)
            super()._run_to_exit(room)

    ending = ended_by(Breaks, teeth, options, monkeypatch)

    assert (ending.how, ending.exit_status) == ("entry_failed", 6)
    assert told in ending.message
    assert "; it would pass with " in ending.message
    assert ending.message.startswith("VM entry failed: ")
    assert "\n" not in ending.message


def handler(answer: Callable[[Exit], Any]) -> type[Ept]:
    return type(
        "Answers", (Ept,), {"name": "answers", "handle_cpuid": lambda _, exit: answer(exit)}
    )


def divide_by_zero(exit: Exit) -> Action:
    raise ZeroDivisionError("first line\nsecond line")


@pytest.mark.parametrize(
    ("vmm", "told"),
    [
        (handler(lambda exit: Stop("enough seen")), "enough seen"),
        (handler(lambda exit: None), "returned None"),
        (handler(divide_by_zero), "ZeroDivisionError"),
        (handler(lambda exit: Ept.handle_unknown(None, exit)), "no handler for VM exit CPUID"),  # type: ignore[arg-type]
        (handler(lambda exit: exit.no_such), "no_such"),
    ],
)
def test_a_vmm_without_an_answer_ends_with_status_8_and_one_line(
    vmm: type, told: str, teeth: bytes, options: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ending = ended_by(vmm, teeth, options, monkeypatch)

    assert (ending.how, ending.exit_status) == ("vmm_error", 8)
    assert told in ending.message
    assert "\n" not in ending.message


@pytest.mark.parametrize("style", [Ept, Shadow])
def test_a_vmm_whose_vmx_instruction_fails_ends_with_status_8(
    style: type, teeth: bytes, options: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong(style):  # type: ignore[misc]
        name = "wrong"

        def handle_cpuid(self, exit: Exit) -> Action:
            self.port.vmwrite("TSC_MULTIPLIER", 0)
            raise AssertionError("the CPU let a field be written that it does not have")

    ending = ended_by(Wrong, teeth, options, monkeypatch)

    assert (ending.how, ending.exit_status) == ("vmm_error", 8)
    assert "VMWRITE of TSC_MULTIPLIER failed" in ending.message


def test_every_ending_has_the_status_that_the_command_line_promises() -> None:
    promised = {
        "power_off": 0, "halted": 0, "reset": 0, "triple_fault": 4, "entry_failed": 6,
        "vmm_error": 8, "budget": 124, "interrupted": 130,
    }  # fmt: skip
    for how, status in promised.items():
        assert Ending(how).exit_status == status  # type: ignore[arg-type]
