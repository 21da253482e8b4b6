"""The statistics of a run as text and JSON."""

from __future__ import annotations

import io
from dataclasses import replace

from vtx.view.runs import show_statistics, statistics, walks_in_words
from vtx.vmm.launch import RunResult

RESULT = RunResult(
    style="shadow",
    engine="reference",
    retired=12345,
    exits={"CPUID": 1, "HLT": 3, "RDMSR": 1},
    ended="halted",
    exit_status=0,
    memory_sha256="ab" * 32,
    console=b"x",
    registers={},
    walks={"misses": 1000, "min": 4, "max": 24, "mean": 4.127},
    shadow={"shadow_pages": 1234, "hidden_faults": 5},
)


def text_of(result: RunResult) -> str:
    out = io.StringIO()
    show_statistics(result, out)
    return out.getvalue()


def test_exits_are_ordered_by_number_and_then_by_name() -> None:
    assert list(statistics(RESULT)["exits"].items()) == [("HLT", 3), ("CPUID", 1), ("RDMSR", 1)]


def test_the_text_says_everything() -> None:
    text = text_of(RESULT)

    for part in (
        "style       shadow",
        "retired     12,345 instructions",
        "ended       halted, exit status 0",
        "1,000 TLB misses, 4-24 references each, mean 4.13",
        "shadow pages 1,234, hidden faults 5",
        "HLT            3    60.00%",
    ):
        assert part in text


def test_a_run_without_exits_has_no_table() -> None:
    assert "VM-EXIT" not in text_of(replace(RESULT, exits={}))
    assert "shadow pages" not in text_of(replace(RESULT, shadow=None))


def test_a_run_without_misses_has_no_references() -> None:
    assert walks_in_words(replace(RESULT, walks={})) == "no TLB misses"
    assert walks_in_words(replace(RESULT, walks={"misses": 0, "min": 0})) == "no TLB misses"
