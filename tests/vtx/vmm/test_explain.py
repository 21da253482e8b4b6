"""The line about a failed VM entry: of a VMM in Python, and of a guest that is a VMM itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import asm
from tests.conftest import GUESTS
from vtx.vmm.launch import RunOptions, run

HYPERVISOR = """
        .intel_syntax noprefix
        .include "x86.inc"
        .include "ports.inc"
        .include "serial.inc"
        .include "catch.inc"
        .include "names.inc"
.equ GUEST_VECTORS, 0x40
        .include "steps.inc"
        .include "enter.inc"
        .include "operation.inc"
        .include "setup.inc"
        .text
        .globl _start
_start: call serial_init
        call catch_init
        call guest_idt_init
        call vmx_operation
        call setup_vmcs
        guest_code
        vmcall
        guest_end
        {change}
        call enter_guest
        {end}
"""


@pytest.fixture
def hypervisor(tmp_path: Path, options: Callable[..., RunOptions]) -> Callable[..., list[str]]:
    """Run a small hypervisor that changes its VMCS and enters its guest: the notes of the run."""

    def notes(change: str, end: str = "cli; hlt") -> list[str]:
        path = tmp_path / "hypervisor.s"
        path.write_text(HYPERVISOR.format(change=change, end=end))
        include = [GUESTS / "vmx", GUESTS / "include"]
        image = asm.assemble_file(path, include=include).elf()
        return run(options(image, "bare", cpu="haswell,+vmx", engine="reference")).notes

    return notes


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            "write_field CR3_TARGET_COUNT, 5",
            "the guest's VM entry failed: VM-instruction error 7: VM entry found an invalid control"
            " field: control.cr3-target-count: CR3_TARGET_COUNT is at most IA32_VMX_MISC[24:16]"
            " (CR3_TARGET_COUNT 0x5; SDM 3C, VM-Execution Control Fields);"
            " it would pass with CR3_TARGET_COUNT = 0x4",
        ),
        (
            "write_field HOST_CS_SELECTOR, 0",
            "the guest's VM entry failed: VM-instruction error 8: VM entry found an invalid"
            " host-state field: host.cs-nonzero: HOST_CS_SELECTOR is not 0 (HOST_CS_SELECTOR 0x0;"
            " SDM 3C, Checks on Host Segment and Descriptor-Table Registers);"
            " it would pass with HOST_CS_SELECTOR = 0x8",
        ),
        (
            "write_field GUEST_RFLAGS, 0",
            "the guest's VM entry failed: ENTRY_FAIL_GUEST_STATE, qualification 0:"
            " guest.rflags-reserved: reserved bits of GUEST_RFLAGS are 0 and bit 1 is 1"
            " (GUEST_RFLAGS 0x0; SDM 3C, Checks on Guest RIP, RFLAGS, and SSP);"
            " it would pass with GUEST_RFLAGS = 0x2",
        ),
    ],
)
def test_a_guest_whose_vm_entry_failed_is_told_which_rule_refused_it(
    change: str, said: str, hypervisor: Callable[..., list[str]]
) -> None:
    assert hypervisor(change) == [said]


def test_a_guest_whose_vm_entry_succeeded_is_told_nothing(
    hypervisor: Callable[..., list[str]],
) -> None:
    assert hypervisor("") == []
    assert hypervisor("", "write_field GUEST_RFLAGS, 0; cli; hlt") == []


def test_a_guest_that_ended_well_is_told_nothing(hypervisor: Callable[..., list[str]]) -> None:
    assert hypervisor("write_field GUEST_RFLAGS, 0", "power_off") == []
