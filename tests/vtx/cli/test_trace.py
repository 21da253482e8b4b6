"""`vtx trace`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from vtx.trace import End, Event, Exit, Header, Note, create_trace

Cli = Callable[..., Result]

HEADER = Header(image_sha256="0" * 64, style="ept", cpu="haswell", memory=1 << 20)


def exits(count: int, *, last_rip: int = 0x1000) -> list[Event]:
    found: list[Event] = []
    for seq in range(count):
        reason, number = ("CPUID", 10) if seq % 2 else ("HLT", 12)
        rip = last_rip if seq == count - 1 else 0x1000
        found.append(
            Exit(
                seq=seq,
                retired=10 * seq,
                vcpu=0,
                reason=reason,
                number=number,
                qualification=0,
                rip=rip,
            )
        )
    return [*found, End(retired=99, ended="halted", exit_status=0, memory_sha256="")]


def written(path: Path, events: list[Event]) -> Path:
    with create_trace(path, HEADER) as writer:
        for event in events:
            writer.write(event)
    return path


@pytest.fixture(params=[".jsonl", ".vtxb"])
def trace(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return written(tmp_path / f"t{request.param}", exits(5))


def test_stat_counts_exits_of_either_form(cli: Cli, trace: Path) -> None:
    lines = cli("trace", "stat", trace).stdout.splitlines()

    assert lines[1].split()[:2] == ["HLT", "3"]
    assert lines[2].split()[:2] == ["CPUID", "2"]


def test_stat_json_is_one_object(cli: Cli, trace: Path) -> None:
    found = json.loads(cli("trace", "stat", trace, "--json", "--sort", "name").stdout)

    assert [row["reason"] for row in found["rows"]] == ["CPUID", "HLT"]
    assert found["total"] == {"samples": 5, "retired": 40}


def test_stat_by_rip(cli: Cli, trace: Path) -> None:
    found = json.loads(cli("trace", "stat", trace, "--json", "--by", "rip").stdout)

    assert [row["rip"] for row in found["rows"]] == ["0x1000"]


def test_show_has_one_line_for_each_exit(cli: Cli, trace: Path) -> None:
    assert len(cli("trace", "show", trace).stdout.splitlines()) == 5
    assert len(cli("trace", "show", trace, "--all").stdout.splitlines()) == 6
    assert len(cli("trace", "show", trace, "--reason", "CPUID").stdout.splitlines()) == 2


def test_show_one_exit_in_full(cli: Cli, trace: Path) -> None:
    assert cli("trace", "show", trace, "--exit", "3").stdout.startswith("Exit 3 of vcpu 0")
    assert json.loads(cli("trace", "show", trace, "--exit", "3", "--json").stdout)["seq"] == 3


@pytest.mark.parametrize("arguments", [("--exit", "9"), ("--exit", "-1"), ("--reason", "NONSENSE")])
def test_what_a_trace_does_not_have_is_one_line(
    cli: Cli, trace: Path, arguments: tuple[str, ...]
) -> None:
    result = cli("trace", "show", trace, *arguments)

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("vtx: error: ")
    assert result.stderr.count("\n") == 1


def test_equal_traces_end_with_0_whatever_their_form(cli: Cli, tmp_path: Path) -> None:
    one = written(tmp_path / "a.jsonl", exits(4))
    other = written(tmp_path / "b.vtxb", exits(4))
    result = cli("trace", "diff", one, other)

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (
        "The traces are the same: 5 equal, 0 changed, 0 only left, 0 only right\n"
    )


def test_different_traces_end_with_1_and_say_where_they_part(cli: Cli, tmp_path: Path) -> None:
    one = written(tmp_path / "a.jsonl", exits(4))
    other = written(tmp_path / "b.jsonl", exits(4, last_rip=0x2000))
    result = cli("trace", "diff", one, other)

    assert result.exit_code == 1
    assert "First divergence after 30 retired instructions" in result.stdout
    assert cli("trace", "diff", one, other, "--ignore", "rip").exit_code == 0
    found = cli("trace", "diff", one, other, "--json")
    assert (found.exit_code, json.loads(found.stdout)["first"]["retired"]) == (1, 30)


def test_a_trace_cut_short_is_read_and_the_loss_is_told(cli: Cli, tmp_path: Path) -> None:
    whole = written(tmp_path / "a.jsonl", exits(5)).read_bytes()
    cut = tmp_path / "cut.jsonl"
    cut.write_bytes(whole[: whole.index(b'"seq":3')])
    result = cli("trace", "show", cut)

    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 3
    assert result.stderr == f"vtx: warning: {cut} is cut short after event 3\n"


def test_a_run_without_end_is_told(cli: Cli, tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", [Note(retired=1, text="x")])

    assert "has no end event after event 1" in cli("trace", "stat", path).stderr


@pytest.mark.parametrize("view", ["stat", "show", "diff"])
@pytest.mark.parametrize(
    "content", [b"", b"hello", b"\x7fELF\x00\x00", b"\x89vtxb", b'{"format":"vtx-trace"}\n']
)
def test_a_file_that_is_no_trace_is_one_line(
    cli: Cli, tmp_path: Path, view: str, content: bytes
) -> None:
    path = tmp_path / "foreign"
    path.write_bytes(content)
    result = cli("trace", view, path, *([path] if view == "diff" else []))

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("vtx: error: ")
    assert result.stderr.count("\n") == 1
