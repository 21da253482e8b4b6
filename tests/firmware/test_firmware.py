"""The VMM in assembly, firmware/: five guests end under it as under `ept`, exit for exit.

Every guest runs unmodified on both engines. What it must come to is its manifest and what the
VMM in Python makes of it: console, memory, registers, retired instructions, exit status.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from tests.guests.test_boot import check_end, manifest_of, options_of
from tests.vtx.engines import NATIVE, QUICK_ENGINES
from vtx.vmm.compare import compare
from vtx.vmm.launch import RunOptions, RunResult, run

FIRMWARE_GUESTS = ["hello", "exits", "faults", "pagetables", "kernel"]
OTHER_GUESTS = ["primes", "sort", "triple", "loop", "multiboot32", "unpaged32"]

STEPPING = {"MONITOR_TRAP_FLAG", "EXCEPTION_OR_NMI"}
"""How one instruction of the guest is executed under the VMM's eyes, or faults there."""

Image = Callable[[str], bytes]
Firmware = Callable[[], bytes]


SAME = ("console", "memory_sha256", "registers", "retired", "exit_status", "ended")


@cache
def _under_ept(name: str, image: bytes) -> RunResult:
    return run(options_of(name, image, style="ept", engine="auto"))


_IN_SHORT = [("hello", "reference"), ("pagetables", "reference")]
_IN_FULL = [
    pytest.param(name, engine, marks=[] if engine == "auto" else pytest.mark.campaign)
    for name in FIRMWARE_GUESTS
    for engine in ("auto", "reference")
    if (name, engine) not in _IN_SHORT
]
"""The reference engine takes minutes for the long ones."""


@pytest.mark.parametrize(("name", "engine"), [*_IN_SHORT, *_IN_FULL])
def test_a_guest_ends_under_firmware_as_its_manifest_says_and_as_under_ept(
    name: str, engine: str, guest_image: Image, firmware: Firmware
) -> None:
    image = guest_image(name)
    result = run(options_of(name, image, style="firmware", engine=engine, firmware=firmware))
    expected = _under_ept(name, image)

    assert result.style == "firmware" and engine in (result.engine, "auto")
    check_end(manifest_of(name), result)
    for what in SAME:
        assert getattr(result, what) == getattr(expected, what), what
    assert sum(result.exits.values()) > 10


@pytest.mark.parametrize("engine", [NATIVE])
@pytest.mark.parametrize("name", OTHER_GUESTS)
def test_the_other_guests_end_so_as_well(
    name: str, engine: str, guest_image: Image, firmware: Firmware
) -> None:
    options = options_of(name, guest_image(name), engine=engine, firmware=firmware)
    found = compare(options, ["ept", "firmware"])

    assert found.differences == []
    for result in found.runs:
        check_end(manifest_of(name), result)


@pytest.mark.parametrize("name", ["hello", "faults", "pagetables", "kernel"])
def test_two_vmms_see_one_machine_every_exit_of_ept_is_one_of_firmware(
    name: str, guest_image: Image, firmware: Firmware
) -> None:
    options = options_of(name, guest_image(name), firmware=firmware, engine="auto")
    found = compare(options, ["ept", "firmware"], with_exits=True)

    assert found.same
    (alignment,) = found.exits
    ept, under_firmware = (sum(run.exits.values()) for run in found.runs)
    assert alignment.where == "ept/firmware"
    assert alignment.equal == ept
    assert alignment.only_left == {}
    assert set(alignment.only_right) <= STEPPING
    assert sum(alignment.only_right.values()) == under_firmware - ept


def test_exits_differ_only_where_ept_forgets_its_tables_and_firmware_steps(
    guest_image: Image, firmware: Firmware
) -> None:
    options = options_of("exits", guest_image("exits"), firmware=firmware, engine="auto")
    found = compare(options, ["ept", "firmware"], with_exits=True)

    (alignment,) = found.exits
    # When the guest goes to x2APIC mode, ept maps everything anew; firmware never mapped a device.
    assert set(alignment.only_left) == {"EPT_VIOLATION"}
    assert alignment.only_left["EPT_VIOLATION"] < 20
    assert set(alignment.only_right) == STEPPING
    assert alignment.equal > 12_000


def test_both_engines_count_the_same_exits_under_firmware(
    guest_image: Image, firmware: Firmware
) -> None:
    runs = [
        run(options_of("hello", guest_image("hello"), engine=engine, style="firmware",
                       firmware=firmware))
        for engine in ("reference", "auto")
    ]  # fmt: skip

    assert runs[0].exits == runs[1].exits == {"IO_INSTRUCTION": 28, "EPT_VIOLATION": 5}


# --- what the guest can see --------------------------------------------------------------------

START = """
        .intel_syntax noprefix
        .include "x86.inc"
        .include "ports.inc"
        .globl _start
_start:
"""
END = """
        mov eax, 0x2000
        mov dx, 0x604
        out dx, ax
        hlt
        .bss
        .align 16
seen:   .skip 4096
"""


def both(
    assemble_source: Image, firmware: Firmware, body: str, **changes: object
) -> list[RunResult]:
    """The same source under ept and firmware; they must agree."""
    image = assemble_source(START + body + END)
    options = RunOptions(image=image, image_name="guest.s", memory=16 << 20, firmware=firmware)
    found = compare(RunOptions(**(vars(options) | changes)), ["ept", "firmware"])  # type: ignore[arg-type]
    assert found.differences == []
    return found.runs


def test_the_guests_tsc_does_not_count_what_the_vmm_does(
    assemble_source: Image, firmware: Firmware
) -> None:
    """Memory is compared, so what RDTSC gave after exits of every kind is, too."""
    body = """
        lea rdi, [rip + seen]
        .rept 3
        rdtsc
        stosd
        cpuid
        rdtscp
        stosd
        in al, 0x21
        rdtsc
        stosd
        .endr
        mov ecx, MSR_TSC
        rdmsr
        stosd
        mov eax, 1000
        xor edx, edx
        wrmsr
        rdtsc
        stosd
        mov ecx, 0x3b                   # IA32_TSC_ADJUST
        rdmsr
        stosd
"""
    (result, _) = both(assemble_source, firmware, body)
    assert result.ended == "power_off"


def test_vmx_is_hidden_and_memory_is_what_was_asked_for(
    assemble_source: Image, firmware: Firmware
) -> None:
    """CPUID, capability MSRs, CMOS, fw_cfg and boot data say nothing of the machine behind."""
    body = """
        mov rbx, rdi
        lea rdi, [rip + seen]
        mov eax, [rbx + 4]
        stosd
        mov eax, [rbx + 8]
        stosd
        mov eax, 1
        mov r8, rdi
        cpuid
        mov rdi, r8
        mov eax, ecx
        stosd
        .irp index, 0x15, 0x16, 0x17, 0x18, 0x30, 0x31, 0x34, 0x35, 0x5b
        mov al, \\index
        out 0x70, al
        in al, 0x71
        stosb
        .endr
        .irp key, 0, 1, 3, 5, 7, 15
        mov dx, 0x510
        mov ax, \\key
        out dx, ax
        inc edx
        .rept 10
        in al, dx
        stosb
        .endr
        .endr
"""
    both(assemble_source, firmware, body)
    both(assemble_source, firmware, body, memory=33 << 20)


def test_command_line_and_modules_reach_the_guest(
    assemble_source: Image, firmware: Firmware
) -> None:
    changes = {"append": "one two", "initrd": b"\1" * 5000, "modules": ((b"x" * 9, "name arg"),)}
    runs = both(assemble_source, firmware, "mov esi, [rdi + 20]", **changes)
    assert [run.registers["rsi"] for run in runs] == [2, 2]


def test_console_input_is_read_and_interrupts(assemble_source: Image, firmware: Firmware) -> None:
    body = """
        mov dx, COM1_INTERRUPT_ENABLE
        mov al, 1
        out dx, al
        mov dx, 0x3fa
        in al, dx
        mov r12, rax                    # identity: received data
        mov al, 0x0a                    # the interrupt requests of the PIC
        out 0x20, al
        in al, 0x20
        mov r13, rax
1:      mov dx, COM1_LINE_STATUS
        in al, dx
        test al, 1
        jz 2f
        mov dx, COM1
        in al, dx
        out dx, al
        jmp 1b
2:
"""
    runs = both(assemble_source, firmware, body, console_input=b"typed at once")
    assert [run.console for run in runs] == [b"typed at once"] * 2
    assert runs[1].registers["r12"] & 0xF == 4
    assert runs[1].registers["r13"] & 0x10


# --- how it ends -------------------------------------------------------------------------------


def under_firmware(
    assemble_source: Image, firmware: Firmware, body: str, engine: str = "auto"
) -> RunResult:
    image = assemble_source(START + body + END)
    return run(
        RunOptions(image=image, image_name="guest.s", style="firmware", engine=engine,
                   memory=16 << 20, firmware=firmware, max_instructions=100_000)
    )  # fmt: skip


@QUICK_ENGINES
@pytest.mark.parametrize(
    ("body", "ended", "status"),
    [
        ("cli; hlt", "halted", 0),
        ("mov al, 5; out 0xf4, al", "debug_exit", 11),
        ("mov al, 0xfe; out 0x64, al", "reset", 0),
        ("1: jmp 1b", "budget", 124),
        ("lidt [rip + seen]; ud2", "triple_fault", 4),
    ],
)
def test_the_guests_end_is_the_runs_end(
    body: str, ended: str, status: int, engine: str, assemble_source: Image, firmware: Firmware
) -> None:
    result = under_firmware(assemble_source, firmware, body, engine)

    assert (result.ended, result.exit_status) == (ended, status)


@pytest.mark.parametrize(
    ("body", "lacks"),
    [
        ("xor eax, eax; out 0x70, al; in al, 0x71", "the calendar of the real-time clock"),
        ("in al, 0x61", "port 0x61"),
        ("mov al, 0x72; out 0x43, al", "a counter of the PIT other than 0"),
        ("mov al, 0x38; out 0x43, al", "a mode of the PIT other than 0, 2 and 3"),
        ("mov al, 0xc0; out 0x20, al", "rotating priorities of the PIC"),
        (
            "mov eax, IOAPIC; mov dword ptr [rax], 0x12; mov dword ptr [rax + 16], 0x30",
            "an unmasked entry of the I/O APIC",
        ),
    ],
)
def test_what_it_lacks_is_one_line_and_exit_status_8(
    body: str, lacks: str, assemble_source: Image, firmware: Firmware
) -> None:
    result = under_firmware(assemble_source, firmware, body)

    assert (result.ended, result.exit_status) == ("vmm_error", 8)
    assert result.message is not None
    assert "\n" not in result.message
    assert f"--vmm firmware: {lacks}, at VM exit 0x" in result.message
