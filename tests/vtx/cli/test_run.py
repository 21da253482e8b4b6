"""`vtx run`: the contract, with a played machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import Result

from vtx.trace import End, Exit, Note, open_trace

if TYPE_CHECKING:
    from vtx.vmm.launch import RunOptions, RunResult

Cli = Callable[..., Result]
Ending = Callable[..., "RunResult"]
Play = Callable[[Callable[["RunOptions"], "RunResult"]], None]


@pytest.fixture
def seen(play: Play, ending: Ending) -> list[RunOptions]:
    """The options that reach the machine, which says hello and powers off."""
    found: list[RunOptions] = []

    def run(options: RunOptions) -> RunResult:
        found.append(options)
        if options.console:
            options.console(b"hello\n")
        return ending(console=b"hello\n")

    play(run)
    return found


def test_stdout_is_the_console_and_nothing_else(
    cli: Cli, image: Path, seen: list[RunOptions]
) -> None:
    result = cli("run", image)

    assert (result.exit_code, result.stdout, result.stderr) == (0, "hello\n", "")


def test_defaults_are_those_of_the_contract(cli: Cli, image: Path, seen: list[RunOptions]) -> None:
    cli("run", image)

    options = seen[0]
    assert (options.style, options.cpu, options.engine) == ("auto", "haswell", "auto")
    assert (options.memory, options.max_instructions) == (64 << 20, None)
    assert options.cpus == 1
    assert options.code_cache == 64 << 20
    assert (options.append, options.initrd, options.modules) == ("", None, ())
    assert (options.image, options.image_name) == (b"\x7fELF image", str(image))
    assert options.trace is None
    assert options.on_progress is None


def test_options_reach_the_machine(
    cli: Cli, image: Path, tmp_path: Path, seen: list[RunOptions]
) -> None:
    (tmp_path / "rd").write_bytes(b"disk")
    (tmp_path / "mod").write_bytes(b"module")
    (tmp_path / "typed").write_bytes(b"ls\n")
    cli(
        "run", image, "--vmm", "shadow", "--cpu", "haswell-noept", "--engine", "reference",
        "-m", "128M", "--code-cache", "8M", "--max-instructions", "5000",
        "--append", "quiet root=/dev/none", "--initrd", tmp_path / "rd",
        "--module", f"{tmp_path}/mod a b",
        "--input", tmp_path / "typed",
    )  # fmt: skip

    options = seen[0]
    assert (options.style, options.cpu, options.engine) == ("shadow", "haswell-noept", "reference")
    assert (options.memory, options.max_instructions) == (128 << 20, 5000)
    assert options.code_cache == 8 << 20
    assert (options.append, options.initrd) == ("quiet root=/dev/none", b"disk")
    assert options.modules == ((b"module", f"{tmp_path}/mod a b"),)
    assert options.console_input == b"ls\n"


def test_qemu_habits_work(cli: Cli, image: Path, tmp_path: Path, seen: list[RunOptions]) -> None:
    (tmp_path / "rd").write_bytes(b"disk")
    result = cli(
        "run", "-kernel", image, "-m", "1G", "-append", "quiet", "-initrd", tmp_path / "rd",
        "-serial", f"file:{tmp_path}/console",
    )  # fmt: skip

    assert result.exit_code == 0
    assert (seen[0].memory, seen[0].append, seen[0].initrd) == (1 << 30, "quiet", b"disk")
    assert result.stdout == ""
    assert (tmp_path / "console").read_bytes() == b"hello\n"


def test_probes_are_lists_of_names_and_may_be_given_again(
    cli: Cli, image: Path, tmp_path: Path, seen: list[RunOptions]
) -> None:
    trace = tmp_path / "t"
    result = cli("run", image, "--trace", trace, "--probe", "fork,exit", "--probe", "0x1000")

    assert result.exit_code == 0
    assert seen[0].probes == ("fork", "exit", "0x1000")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--probe", "fork"), "--probe writes to a trace; give --trace FILE"),
        (("--trace", "{t}", "--probe", "fork,"), "--probe 'fork,': a name is empty"),
        (("--trace", "{t}", "--probe", ""), "--probe '': a name is empty"),
    ],
)
def test_probes_that_cannot_be_are_one_line(
    cli: Cli,
    image: Path,
    tmp_path: Path,
    seen: list[RunOptions],
    options: tuple[str, ...],
    said: str,
) -> None:
    result = cli("run", image, *(word.format(t=tmp_path / "t") for word in options))

    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert said in result.stderr
    assert seen == []


def test_an_unknown_symbol_is_one_line_with_what_is_close(cli: Cli, tmp_path: Path) -> None:
    source = tmp_path / "guest.s"
    source.write_text(".intel_syntax noprefix\n.globl _start\n_start: hlt\nfinish: hlt\n")
    result = cli("run", source, "-m", "8M", "--trace", tmp_path / "t", "--probe", "finnish")

    assert result.exit_code == 2
    assert result.stderr == (
        "vtx: error: --probe finnish: the image has no such symbol; close: finish\n"
    )


def test_serial_none_prints_nothing(cli: Cli, image: Path, seen: list[RunOptions]) -> None:
    result = cli("run", image, "--serial", "none")

    assert result.stdout == ""
    assert seen[0].console is None


def test_source_is_assembled_first(cli: Cli, tmp_path: Path, seen: list[RunOptions]) -> None:
    path = tmp_path / "guest.s"
    path.write_text(".intel_syntax noprefix\n_start: mov eax, N\n")
    cli("run", path, "-D", "N=77")

    assert seen[0].image.startswith(b"\x7fELF")
    assert b"\xb8\x4d\x00\x00\x00" in seen[0].image


@pytest.mark.parametrize(
    ("ended", "status"),
    [
        ("power_off", 0),
        ("halted", 0),
        ("debug_exit", 85),
        ("triple_fault", 4),
        ("entry_failed", 6),
        ("vmm_error", 8),
        ("budget", 124),
        ("interrupted", 130),
    ],
)
def test_the_exit_status_is_the_runs(
    cli: Cli, image: Path, play: Play, ending: Ending, ended: str, status: int
) -> None:
    play(lambda options: ending(ended=ended, exit_status=status, message=f"it {ended}"))
    result = cli("run", image)

    assert result.exit_code == status
    good = ended in ("power_off", "halted", "debug_exit")
    assert result.stderr == f"vtx: {'' if good else 'error: '}it {ended}\n"


def test_notes_are_told(cli: Cli, image: Path, play: Play, ending: Ending) -> None:
    play(lambda options: ending(notes=["no EPT: using shadow paging"]))

    assert cli("run", image).stderr == "vtx: note: no EPT: using shadow paging\n"


def test_statistics_as_json_are_the_last_line_on_stderr(
    cli: Cli, image: Path, play: Play, ending: Ending
) -> None:
    play(lambda options: ending(notes=["a note"], message="a message", ended="budget"))
    result = cli("run", image, "--stats", "json")
    found = json.loads(result.stderr.splitlines()[-1])

    assert len(result.stderr.splitlines()) == 3
    assert found["exits"] == {"EPT_VIOLATION": 30, "CPUID": 2}
    assert list(found["exits"]) == ["EPT_VIOLATION", "CPUID"]
    assert {
        key: found[key]
        for key in ("style", "engine", "retired", "ended", "exit_status", "memory_sha256")
    } == {
        "style": "ept",
        "engine": "reference",
        "retired": 1234,
        "ended": "budget",
        "exit_status": 0,
        "memory_sha256": "ab" * 32,
    }
    assert result.stdout == ""


def test_statistics_as_text_are_on_stderr(
    cli: Cli, image: Path, play: Play, ending: Ending
) -> None:
    play(lambda options: ending(shadow={"shadow_pages": 7}))
    text = cli("run", image, "--stats", "text").stderr

    for part in ("1,234 instructions", "EPT_VIOLATION", "93.75%", "shadow pages 7", "4-24 ref"):
        assert part in text


def exit_event(seq: int) -> Exit:
    return Exit(seq=seq, retired=seq * 3, vcpu=0, reason="CPUID", number=10, qualification=0, rip=0)


@pytest.mark.parametrize("suffix", [".jsonl", ".vtxb"])
def test_a_trace_has_header_events_and_end(
    cli: Cli, image: Path, tmp_path: Path, play: Play, ending: Ending, suffix: str
) -> None:
    def run(options: RunOptions) -> RunResult:
        assert options.trace is not None
        options.trace(exit_event(0))
        return ending()

    play(run)
    path = tmp_path / f"trace{suffix}"
    cli("run", image, "--vmm", "ept", "--append", "quiet", "--trace", path)

    with open_trace(path) as reader:
        assert list(reader) == [
            exit_event(0),
            End(retired=1234, ended="power_off", exit_status=0, memory_sha256="ab" * 32),
        ]
        assert (reader.header.style, reader.header.cpu) == ("ept", "haswell")
        assert (reader.header.memory, reader.header.command_line) == (64 << 20, "quiet")
        assert len(reader.header.image_sha256) == 64


def test_a_style_left_open_is_named_in_the_trace(
    cli: Cli, image: Path, tmp_path: Path, seen: list[RunOptions]
) -> None:
    for cpu, style in (("haswell", "ept"), ("haswell-noept", "shadow")):
        cli("run", image, "--cpu", cpu, "--trace", tmp_path / "t")
        with open_trace(tmp_path / "t") as reader:
            assert reader.header.style == style


def test_a_run_that_ends_its_own_trace_gets_no_second_end(
    cli: Cli, image: Path, tmp_path: Path, play: Play, ending: Ending
) -> None:
    def run(options: RunOptions) -> RunResult:
        assert options.trace is not None
        options.trace(End(retired=9, ended="halted", exit_status=0, memory_sha256=""))
        return ending()

    play(run)
    cli("run", image, "--trace", tmp_path / "t")

    with open_trace(tmp_path / "t") as reader:
        assert len(list(reader)) == 1


@pytest.mark.parametrize(
    ("error", "status", "last"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (BrokenPipeError(), 141, "interrupted"),
        (ZeroDivisionError(), 70, None),
    ],
)
def test_a_run_that_is_cut_off_leaves_a_readable_trace(
    cli: Cli,
    image: Path,
    tmp_path: Path,
    play: Play,
    error: BaseException,
    status: int,
    last: str | None,
) -> None:
    def run(options: RunOptions) -> RunResult:
        assert options.trace is not None
        options.trace(exit_event(1))
        options.trace(Note(retired=5, text="soon"))
        raise error

    play(run)
    result = cli("run", image, "--trace", tmp_path / "t")

    assert result.exit_code == status
    with open_trace(tmp_path / "t") as reader:
        first, second, *more = reader
        assert (first, second) == (exit_event(1), Note(retired=5, text="soon"))
        assert [(e.ended, e.retired) for e in more if isinstance(e, End)] == (
            [(last, 5)] if last else []
        )


def test_what_cannot_be_launched_is_one_line(
    cli: Cli, image: Path, tmp_path: Path, play: Play
) -> None:
    from vtx.vmm.styles import LaunchError

    def run(options: RunOptions) -> RunResult:
        raise LaunchError("guest.elf: truncated")

    play(run)
    result = cli("run", image, "--trace", tmp_path / "t")

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "vtx: error: guest.elf: truncated\n"


@pytest.mark.parametrize("error", [MemoryError(), OSError(12, "Cannot allocate memory")])
def test_memory_that_the_host_does_not_have_is_one_line(
    cli: Cli, image: Path, play: Play, error: Exception
) -> None:
    def run(options: RunOptions) -> RunResult:
        raise error

    play(run)
    result = cli("run", image, "-m", "2G")

    assert result.exit_code == 2
    assert result.stderr == (
        "vtx: error: -m 2G: this host does not have that much memory to give\n"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--cpu", "z80"), "z80"),
        (("-m", "64"), "did you mean 64M"),
        (("--max-instructions", "0"), "max-instructions"),
        (("--initrd", "no-such-file"), "cannot read no-such-file"),
        (("--module", "no-such-file x"), "cannot read no-such-file"),
        (("--input", "no-such-file"), "cannot read no-such-file"),
        (("--trace", "no/such/dir"), "cannot write no/such/dir"),
        (("--serial", "file:no/such/dir"), "cannot write no/such/dir"),
        (("-kernel", "other"), "two images"),
        (("--append", "\udcff"), "not valid UTF-8"),
    ],
)
def test_what_cannot_be_used_is_one_line(
    cli: Cli, image: Path, seen: list[RunOptions], arguments: tuple[str, ...], said: str
) -> None:
    result = cli("run", image, *arguments)

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("vtx: error: ")
    assert result.stderr.count("\n") == 1
    assert said in result.stderr
    assert seen == []


def test_no_image_is_a_usage_error(cli: Cli) -> None:
    result = cli("run", "-m", "64M")

    assert result.exit_code == 2
    assert "no image" in result.stderr


SPAMMER = """
import vtx.vmm.launch as launch
def run(options):
    while True:
        options.console(b"x" * 4096)
launch.run = run
from vtx.cli import main
main()
"""


def test_a_console_that_nobody_reads_ends_the_run_quietly(image: Path) -> None:
    reader, writer = os.pipe()
    running = subprocess.Popen(
        [sys.executable, "-c", SPAMMER, "run", str(image)],
        stdin=subprocess.DEVNULL,
        stdout=writer,
        stderr=subprocess.PIPE,
    )
    os.close(writer)
    os.read(reader, 100)
    os.close(reader)
    _, said = running.communicate(timeout=60)

    assert (running.returncode, said) == (141, b"")


@pytest.mark.parametrize("option", ["--smp", "-smp"])
def test_smp_is_the_number_of_cpus(
    cli: Cli, image: Path, seen: list[RunOptions], option: str
) -> None:
    assert cli("run", image, option, "4", "--vmm", "bare").exit_code == 0

    assert seen[0].cpus == 4


@pytest.mark.parametrize("count", ["0", "-1", "256", "300", "four", "1.5", ""])
def test_a_number_of_cpus_that_no_machine_has_is_a_usage_error_in_one_line(
    cli: Cli, image: Path, seen: list[RunOptions], count: str
) -> None:
    result = cli("run", image, "--smp", count)

    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "--smp" in result.stderr
    assert seen == []


@pytest.mark.parametrize("style", ["ept", "shadow"])
def test_several_cpus_under_a_vmm_are_refused_in_one_line(
    cli: Cli, image: Path, style: str
) -> None:
    result = cli("run", image, "--smp", "2", "--vmm", style)

    assert result.exit_code == 2
    assert result.stderr == (
        "vtx: error: --smp 2: a VM has one CPU; more run under --vmm bare only\n"
    )


def test_a_trace_of_several_cpus_says_how_many(
    cli: Cli, image: Path, seen: list[RunOptions], tmp_path: Path
) -> None:
    for count in ("1", "3"):
        assert cli("run", image, "--smp", count, "--trace", tmp_path / count).exit_code == 0

    with open_trace(tmp_path / "3") as trace:
        assert (trace.header.cpus, trace.header.style) == (3, "bare")
    assert b"cpus" not in (tmp_path / "1").read_bytes()
