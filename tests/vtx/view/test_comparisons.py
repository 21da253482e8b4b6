"""A comparison as text and JSON."""

from __future__ import annotations

import io

from vtx.view.comparisons import (
    comparison_as_dict,
    difference_in_words,
    show_comparison,
    style_names,
)
from vtx.vmm.compare import Comparison, Difference
from vtx.vmm.launch import RunResult


def run(style: str, *, message: str | None = None, **more: object) -> RunResult:
    given: dict[str, object] = {
        "engine": "reference",
        "retired": 10,
        "exits": {},
        "ended": "halted",
        "exit_status": 0,
        "memory_sha256": "ab" * 32,
        "console": b"abc",
        "registers": {},
    }
    return RunResult(style=style, message=message, **(given | more))  # type: ignore[arg-type]


def text_of(found: Comparison) -> list[str]:
    out = io.StringIO()
    show_comparison(found, out)
    return out.getvalue().splitlines()


def test_a_style_that_ran_twice_is_numbered() -> None:
    assert style_names([run("ept"), run("bare"), run("ept"), run("ept")]) == [
        "ept",
        "bare",
        "ept#2",
        "ept#3",
    ]


def test_exits_of_any_style_have_a_row_most_frequent_first() -> None:
    lines = text_of(
        Comparison([run("ept", exits={"HLT": 1}), run("shadow", exits={"CPUID": 9})], [])
    )
    rows = [line.split() for line in lines]

    assert rows.index(["CPUID", "0", "9"]) < rows.index(["HLT", "1", "0"])
    assert ["VM", "exits", "1", "9"] in rows
    assert ["references,", "mean", "-", "-"] in rows


def test_messages_and_notes_of_each_run_are_shown() -> None:
    lines = text_of(
        Comparison([run("ept", message="triple fault"), run("bare", notes=["n\x1b"])], [])
    )

    assert "ept: triple fault" in lines
    assert "bare: note: n\\x1b" in lines


def test_a_difference_says_where_it_began_when_that_is_known() -> None:
    assert difference_in_words(Difference("bare/ept", "console", None)) == "bare/ept: console"
    assert difference_in_words(Difference("bare/ept", "memory", 1234)).endswith(
        "memory (first after 1,234 retired instructions)"
    )


def test_json_says_whether_the_styles_are_the_same() -> None:
    runs = [run("bare"), run("ept")]

    assert comparison_as_dict(Comparison(runs, []))["same"] is True
    found = comparison_as_dict(Comparison(runs, [Difference("bare/ept", "console", 7)]))
    assert found["same"] is False
    assert found["differences"] == [{"where": "bare/ept", "what": "console", "first_retired": 7}]
