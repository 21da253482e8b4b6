"""Several CPUs on the bare machine: started, interrupted and stopped by each other.

Every guest runs on several engines, whole and in pieces, and has to leave the same trace and the
same state each time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.vtx.engines import NEEDS_NATIVE
from tests.vtx.vmm.several_guests import (
    BIG_REAL,
    COUNT,
    COUNT_ME,
    END,
    TRAMPOLINE,
    guest,
    handler,
)
from vtx.spec import turn_instructions
from vtx.trace import Event, Interrupt, Probe, Startup
from vtx.vmm.compare import compare
from vtx.vmm.launch import RunOptions, RunResult, finish, launch, run
from vtx.vmm.styles import LaunchError

Boot = Callable[..., tuple[RunResult, list[Event]]]
DELAY = "mov ecx, 12000; loop ."
"""Long enough for every other CPU to have had a turn."""


def traced(options: RunOptions) -> tuple[RunResult, list[Event]]:
    events: list[Event] = []
    return run(replace(options, trace=events.append)), events


def in_pieces(options: RunOptions, size: int) -> tuple[RunResult, list[Event]]:
    """The same run, stopped every `size` instructions."""
    events: list[Event] = []
    launched = launch(replace(options, trace=events.append))
    ending = None
    while ending is None and launched.session.retired < 200_000:
        ending = launched.session.run(launched.session.retired + size)
    assert ending is not None
    return finish(launched, ending, events.append), events


@pytest.fixture(params=[pytest.param("native", marks=NEEDS_NATIVE), "evaluate"])
def boot(request: pytest.FixtureRequest, assemble_source: Callable[[str], bytes]) -> Boot:
    """Run a guest on an engine; the reference engine has to agree, also in pieces."""

    def start(source: str, cpus: int = 4, **given: Any) -> tuple[RunResult, list[Event]]:
        options = RunOptions(
            image=assemble_source(source.replace("OTHERS", str(cpus - 1))),
            image_name="t", style="bare", cpus=cpus, memory=2 << 20,
            max_instructions=200_000, engine=request.param, **given,
        )  # fmt: skip
        result, events = traced(options)
        reference = replace(options, engine="reference")
        for other, seen in (traced(reference), in_pieces(reference, 97)):
            assert seen == events
            assert replace(other, engine=result.engine, walks={}) == replace(result, walks={})
        return result, events

    return start


def read(result: RunResult, cpu: int, name: str) -> int:
    return result.registers[f"cpu{cpu}.{name}" if cpu else name]


def test_init_and_startup_ipis_start_the_others_in_real_mode(boot: Boot) -> None:
    result, events = boot(guest("", COUNT_ME))

    assert (result.ended, result.exit_status) == ("debug_exit", 3)
    signals = [event for event in events if isinstance(event, Startup)]
    assert [(s.vcpu, s.how, s.vector << 12) for s in signals] == [
        (cpu, how, at) for cpu in (1, 2, 3) for how, at in (("init", 0), ("startup", TRAMPOLINE))
    ]
    for cpu in (1, 2, 3):
        assert read(result, cpu, "cs_base") == TRAMPOLINE
        assert read(result, cpu, "activity") == 1


def test_a_turn_is_so_many_instructions_and_sleepers_are_passed_over(boot: Boot) -> None:
    result, events = boot(guest("", COUNT_ME))

    turn = turn_instructions()
    first = [event.retired for event in events if isinstance(event, Startup)]
    one = 6  # instructions of one of the others, the last of them HLT
    assert first == [turn, turn, turn + one, turn + one, turn + 2 * one, turn + 2 * one]
    assert turn < result.retired < 2 * turn


def test_the_first_cpu_alone_runs_until_it_starts_others(boot: Boot) -> None:
    result, events = boot(guest(DELAY, "", start=False))

    assert not [event for event in events if isinstance(event, Startup)]
    assert [read(result, cpu, "activity") for cpu in range(4)] == [0, 3, 3, 3]


def test_a_startup_ipi_is_ignored_by_who_does_not_wait_for_one(boot: Boot) -> None:
    main = f"""
        mov     dword ptr [rbx + 0x300], 0xc4608        # finds all of them running
        {DELAY}
        mov     dword ptr [rbx + 0x310], 1 << 24        # CPU 1 waits for one again
        mov     dword ptr [rbx + 0x300], 0x4500
        {DELAY}
        mov     dword ptr [rbx + 0x300], 0x4608
        {DELAY}
        mov     eax, [{COUNT}]
    """
    result, events = boot(guest(main, COUNT_ME))

    assert result.exit_status == 2 * 4 + 1  # three counted themselves, one of them twice
    assert [e.vcpu for e in events if isinstance(e, Startup) and e.how == "startup"] == [1, 2, 3, 1]


def test_every_cpu_counts_under_a_lock_that_spins(boot: Boot) -> None:
    others = f"""
        mov     cx, 700
2:      mov     al, 1
3:      xchg    al, [0x7100]
        test    al, al
        jnz     3b
        mov     eax, [0x7104]
        inc     eax
        mov     [0x7104], eax
        mov     byte ptr [0x7100], 0
        loop    2b
        {COUNT_ME}
    """
    result, _ = boot(guest("mov r15d, [0x7104]", others))

    assert result.registers["r15"] == 3 * 700


def test_the_time_stamp_counter_is_one_clock_for_all(boot: Boot) -> None:
    others = f"""
        rdtsc
        mov     bx, [{COUNT}]
        shl     bx, 2
        mov     [bx + 0x7200], eax
        {COUNT_ME}
    """
    main = "rdtsc; mov r8d, [0x7200]; mov r9d, [0x7204]; mov r10d, [0x7208]; mov r11d, eax"
    result, _ = boot(guest(main, others))

    stamps = [result.registers[name] for name in ("r8", "r9", "r10", "r11")]
    assert stamps[0] == turn_instructions() + 4
    assert stamps[1] - stamps[0] == stamps[2] - stamps[1] == 10  # instructions of one of them
    assert stamps[2] < stamps[3] < result.retired


def test_code_that_others_have_run_is_run_as_this_cpu_changed_it(boot: Boot) -> None:
    others = f"""
        {BIG_REAL}
        {handler(0x40, "add")}
        {COUNT_ME}
        sti
7:      hlt
        jmp     7b
add:    mov     al, 1
        .globl changed
        .set changed, . - 1
        lock add [0x7010], al
        {END}
        iret
    """
    main = f"""
        mov     dword ptr [rbx + 0x300], 0xc0040
        {DELAY}
        mov     byte ptr [{TRAMPOLINE} + changed - page], 5
        mov     dword ptr [rbx + 0x300], 0xc0040
        {DELAY}
        movzx   eax, byte ptr [0x7010]
    """
    result, events = boot(guest(main, others))

    assert result.exit_status == 2 * (3 * 1 + 3 * 5) + 1
    taken = [event.vcpu for event in events if isinstance(event, Interrupt)]
    assert taken == [1, 2, 3, 1, 2, 3]


def test_a_loop_that_others_spin_in_ends_when_this_cpu_overwrites_it(boot: Boot) -> None:
    others = f"""
        {COUNT_ME}
        .globl spin
spin:   jmp     spin
        lock inc dword ptr [0x7010]
    """
    main = f"""
        {DELAY}
        mov     word ptr [{TRAMPOLINE} + spin - page], 0x9090
        {DELAY}
        mov     eax, [0x7010]
    """
    result, _ = boot(guest(main, others))

    assert result.exit_status == 2 * 3 + 1


def test_an_interrupt_goes_to_the_cpu_it_is_for_and_wakes_it(boot: Boot) -> None:
    others = f"""
        {BIG_REAL}
        {handler(0x41, "wake")}
        {COUNT_ME}
        sti
7:      hlt
        jmp     7b
wake:   lock inc dword ptr [0x7010]
        {END}
        iret
    """
    main = f"""
        mov     dword ptr [rbx + 0x310], 2 << 24
        mov     dword ptr [rbx + 0x300], 0x4041
        {DELAY}
        mov     eax, [0x7010]
    """
    result, events = boot(guest(main, others))

    assert result.exit_status == 3
    taken = [event for event in events if isinstance(event, Interrupt)]
    assert [(event.vcpu, event.vector) for event in taken] == [(2, 0x41)]


def test_an_nmi_is_delivered_through_the_vector_table_with_interrupts_off(boot: Boot) -> None:
    others = f"""
        {handler(2, "nmi")}
        {COUNT_ME}
7:      hlt
        jmp     7b
nmi:    lock inc dword ptr [0x7010]
        iret
    """
    main = f"mov dword ptr [rbx + 0x300], 0xc4400; {DELAY}; mov eax, [0x7010]"
    result, _ = boot(guest(main, others))

    assert result.exit_status == 2 * 3 + 1


def test_a_timer_of_its_own_wakes_one_cpu_while_all_sleep(boot: Boot) -> None:
    others = f"""
        {BIG_REAL}
        {handler(0x42, "tick")}
        {COUNT_ME}
        mov     dword ptr fs:[ebx + 0x3e0], 0xb
        mov     dword ptr fs:[ebx + 0x320], 0x42
        mov     dword ptr fs:[ebx + 0x380], 5000
        sti
7:      hlt
        jmp     7b
tick:   mov     al, 0x15
        out     0xf4, al
    """
    result, events = boot(guest("hlt", others))

    assert (result.ended, result.exit_status) == ("debug_exit", 0x2B)
    taken = [event for event in events if isinstance(event, Interrupt)]
    assert [(event.vcpu, event.vector) for event in taken] == [(1, 0x42)]
    assert result.retired < 5000  # time was skipped, not executed


def test_the_machine_halts_for_good_when_nothing_can_wake_any_cpu(boot: Boot) -> None:
    result, _ = boot(guest("cli; hlt", COUNT_ME))

    assert (result.ended, result.exit_status) == ("halted", 0)


def test_a_timer_that_interrupts_only_who_does_not_listen_wakes_nobody(boot: Boot) -> None:
    others = f"""
        {BIG_REAL}
        {COUNT_ME}
        mov     dword ptr fs:[ebx + 0x320], 0x20042     # periodic, but CLI
        mov     dword ptr fs:[ebx + 0x380], 50
    """
    result, _ = boot(guest("sti; hlt", others))

    assert result.ended == "halted"


def test_a_triple_fault_of_one_cpu_ends_the_machine_and_names_it(boot: Boot) -> None:
    others = f"{COUNT_ME}; lidt [0x7e00]; ud2"
    result, _ = boot(guest(DELAY, others, start=True), cpus=2)

    assert (result.ended, result.exit_status) == ("triple_fault", 4)
    assert result.message is not None
    assert result.message.startswith("triple fault of CPU 1 at rip 0x")


@pytest.mark.parametrize("cpus", [1, 2])
def test_init_for_the_bootstrap_processor_is_a_reset(boot: Boot, cpus: int) -> None:
    main = "mov dword ptr [rbx + 0x300], 0x4500; nop"
    result, _ = boot(guest(main, "", start=False), cpus=cpus)

    assert (result.ended, result.exit_status) == ("reset", 0)
    assert "INIT" in (result.message or "")


def test_a_probe_tells_which_cpu_hit_it(boot: Boot) -> None:
    _, events = boot(guest("", COUNT_ME), probes=(f"{TRAMPOLINE:#x}",))

    hits = [event for event in events if isinstance(event, Probe)]
    turn = turn_instructions()
    assert [(hit.vcpu, hit.retired) for hit in hits] == [(1, turn), (2, turn + 6), (3, turn + 12)]


def test_run_results_count_the_instructions_and_walks_of_all_cpus(boot: Boot) -> None:
    result, _ = boot(guest("mov r8d, 0; mov r9d, 0", COUNT_ME), cpus=2)
    alone, _ = boot(guest("", COUNT_ME, start=False), cpus=1)

    assert result.retired > turn_instructions() + 6
    assert result.walks["misses"] > alone.walks["misses"]


@pytest.mark.parametrize("cpus", [0, -1, 256, 300])
def test_a_machine_has_1_to_255_cpus(cpus: int) -> None:
    options = RunOptions(image=b"", image_name="t", style="bare", cpus=cpus)
    with pytest.raises(LaunchError, match=f"--smp {cpus}: a machine has 1 to 255 CPUs"):
        run(options)


@pytest.mark.parametrize("style", ["ept", "shadow", "nowhere.py:Vmm"])
def test_several_cpus_are_refused_under_a_vmm(style: str) -> None:
    options = RunOptions(image=b"", image_name="t", style=style, cpus=2)
    with pytest.raises(LaunchError, match="--smp 2: a VM has one CPU"):
        run(options)


def test_auto_means_the_bare_machine_where_there_are_several_cpus(
    assemble_source: Callable[[str], bytes],
) -> None:
    image = assemble_source(guest("", COUNT_ME).replace("OTHERS", "1"))
    result = run(RunOptions(image=image, image_name="t", cpus=2, engine="reference"))

    assert result.style == "bare"
    assert result.notes == ["2 CPUs: a VM has one, so there is no VMM"]


@pytest.mark.parametrize("engine", ["reference", pytest.param("native", marks=NEEDS_NATIVE)])
def test_init_to_itself_is_a_reset_in_every_style(
    assemble_source: Callable[[str], bytes], engine: str
) -> None:
    main = "mov dword ptr [rbx + 0x300], 0x4500; inc eax; inc eax"
    image = assemble_source(guest(main, "", start=False).replace("OTHERS", "0"))
    options = RunOptions(image=image, image_name="t", engine=engine, memory=2 << 20)
    found = compare(options, ["bare", "ept", "shadow"])

    assert found.differences == []
    assert [run.ended for run in found.runs] == ["reset"] * 3
