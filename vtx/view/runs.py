"""The statistics of one run, as values for JSON and as text.

Must not know how the run came about.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TextIO

from vtx.view.text import Table, count, percent, print_table

if TYPE_CHECKING:
    from vtx.vmm.launch import RunResult


def statistics(result: RunResult) -> dict[str, Any]:
    """For JSON. `exits` by reason, most frequent first; `walks` are memory references of a page
    walk per TLB miss; `shadow` is None in styles without shadow paging."""
    return {
        "style": result.style,
        "engine": result.engine,
        "retired": result.retired,
        "exits": dict(ordered(result.exits)),
        "ended": result.ended,
        "exit_status": result.exit_status,
        "memory_sha256": result.memory_sha256,
        "walks": dict(result.walks),
        "shadow": None if result.shadow is None else dict(result.shadow),
        "message": result.message,
        "notes": list(result.notes),
    }


def ordered(exits: dict[str, int]) -> list[tuple[str, int]]:
    """Exit counts, most frequent first, names deciding between equals."""
    return sorted(exits.items(), key=lambda item: (-item[1], item[0]))


def show_statistics(result: RunResult, out: TextIO) -> None:
    """One run as text."""
    total = sum(result.exits.values())
    for name, said in _facts(result, total):
        print(f"{name:<12}{said}", file=out)
    if not total:
        return
    rows = tuple(
        (name, count(number), percent(number, total)) for name, number in ordered(result.exits)
    )
    print(file=out)
    print_table(Table(("VM-EXIT", "Samples", "Samples%"), rows, frozenset({1, 2})), out)


def _facts(result: RunResult, total: int) -> list[tuple[str, str]]:
    facts = [
        ("style", result.style),
        ("engine", result.engine),
        ("retired", f"{count(result.retired)} instructions"),
        ("exits", count(total)),
        ("ended", f"{result.ended}, exit status {result.exit_status}"),
        ("memory", f"sha256 {result.memory_sha256}"),
        ("walks", walks_in_words(result)),
    ]
    if result.shadow is not None:
        counted = (f"{name.replace('_', ' ')} {count(n)}" for name, n in result.shadow.items())
        facts.append(("shadow", ", ".join(counted)))
    return facts


def walks_in_words(result: RunResult) -> str:
    """TLB misses and memory references per miss."""
    walks = result.walks
    if not walks.get("misses"):
        return "no TLB misses"
    references = f"{walks['min']:.0f}-{walks['max']:.0f} references each, mean {walks['mean']:.2f}"
    return f"{count(int(walks['misses']))} TLB misses, {references}"
