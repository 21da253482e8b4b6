"""Broken VM-entry rules as text: each with its fields, the rule in words, and what would pass.

Must not know how a rule is evaluated or where the VMCS came from.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TextIO

from vtx.vmx.explain import BrokenCheck, result_in_words

NO_RULE = "no rule of VM entry is broken"


def show_broken(broken: Sequence[BrokenCheck], given: Collection[str], out: TextIO) -> None:
    """All of them, in the order of the manual. `given`: the fields that were not just taken as 0,
    and the memory, as hexadecimal addresses."""
    if not broken:
        print(NO_RULE, file=out)
        return
    for rule in broken:
        for line in rule_lines(rule, given):
            print(line, file=out)
        print(file=out)
    rules = "rule is" if len(broken) == 1 else "rules are"
    print(f"{len(broken)} {rules} broken; VM entry: {result_in_words(broken[0].check)}", file=out)


def rule_lines(broken: BrokenCheck, given: Collection[str]) -> Iterator[str]:
    """One rule: what must hold, what was found, what would pass, what follows, the source."""
    row = broken.check.row
    yield f"{row.id}: {row.text}"
    found = {
        **broken.fields,
        **broken.state,
        **{f"memory {hpa:#x}": value for hpa, (_, value) in broken.memory.items()},
    }
    width = max((len(name) for name in found), default=0)
    for name, value in found.items():
        assumed = "" if name.removeprefix("memory ") in given else "  (not given)"
        yield f"  {name.ljust(width)}  {value:#x}{assumed}"
    for change in broken.nearest:
        changed = ", ".join(f"{name} = {value:#x}" for name, value in change.items())
        yield f"  passes with  {changed}"
    yield f"  otherwise    {row.result}"
    yield f"  see          {row.see}"
