"""Arithmetic flags inside a region: known kinds, single flags on top, conditions without flags.

At every place of a region the flags are *operands of a kind*, as everywhere in native code, and
some flags by name that were written since (`inc` keeps CF, `imul` writes CF and OF only). What
is known about them at a block's entry is worked out here before text is written. It knows
nothing of memory, exits or registers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from vtx.engine.native.flag_values import FLAG_NAMES, IN_SLOTS, KEEPS_CARRY, KIND_NUMBERS
from vtx.engine.native.forms import Form
from vtx.engine.native.region_graph import ENTRY, Graph, union
from vtx.engine.native.region_plan import RegionBlock
from vtx.isa.flags import POSITIVE_OF
from vtx.isa.layout import FLAG_SLOTS, SLOT_NAMES
from vtx.isa.primitives import Prim

ALL_FLAGS = frozenset(FLAG_NAMES)
FLAGS_OF: Mapping[str, frozenset[str]] = {
    "o": frozenset({"of"}), "b": frozenset({"cf"}), "e": frozenset({"zf"}),
    "be": frozenset({"cf", "zf"}), "s": frozenset({"sf"}), "p": frozenset({"pf"}),
    "l": frozenset({"sf", "of"}), "le": frozenset({"zf", "sf", "of"}),
}  # fmt: skip
"""Condition that is not a negation -> the flags it reads."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of the flags at a place. `kind` None: known when the code runs."""

    kind: int | None
    single: frozenset[str] = frozenset()
    """Flags that stand by themselves; the others follow from the kind's operands."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What one instruction does to the flags."""

    kind: int | None
    """The kind it leaves; None where that stays."""
    single: frozenset[str]
    """Flags by themselves behind it, besides those of before if the kind stays."""
    reads: frozenset[str]
    """Flags it needs as they were before."""

    @property
    def overwrites(self) -> frozenset[str]:
        """Flags whose former values do not matter behind it, unless `reads` has them."""
        return self.single if self.kind is None else ALL_FLAGS


def writes_in_branches(form: Form) -> bool:
    """Some way through the instruction writes flags that another leaves alone."""
    depth = 0
    for op in form.ops:
        depth += (op.prim is Prim.IF) - (op.prim is Prim.END)
        if depth and (op.prim is Prim.FLAGS or (op.prim is Prim.PUT and op.attr in FLAG_SLOTS)):
            return True
    return False


@cache
def effect_of(form: Form) -> Effect:
    """The effect of an instruction of this form."""
    kind: int | None = None
    single: set[str] = set()
    reads: set[str] = set()
    for op in form.ops:
        if op.prim is Prim.COND:
            reads |= FLAGS_OF[POSITIVE_OF.get(op.attr, op.attr)] - single
        elif op.prim is Prim.GET and op.attr in FLAG_SLOTS:
            reads |= {SLOT_NAMES[op.attr]} - single
        elif op.prim is Prim.PUT and op.attr in FLAG_SLOTS:
            single.add(SLOT_NAMES[op.attr])
        elif op.prim is Prim.FLAGS:
            name, widths = op.attr
            if name in KEEPS_CARRY:
                reads |= {"cf"} - single
            single = {"cf"} if name in KEEPS_CARRY else set()
            kind = KIND_NUMBERS[(name, widths[0])]
    if writes_in_branches(form):
        return Effect(IN_SLOTS, ALL_FLAGS, ALL_FLAGS)
    return Effect(kind, frozenset(single), frozenset(reads))


def behind(block: RegionBlock, known: Known) -> Known:
    """What is known behind a block, by what is known before it."""
    for step in block.steps:
        effect = effect_of(step.form)
        if effect.kind is None:
            known = Known(known.kind, known.single | effect.single)
        else:
            known = Known(effect.kind, effect.single)
    return known


def _needed(block: RegionBlock, behind_it: frozenset[str]) -> frozenset[str]:
    needed = behind_it
    for step in reversed(block.steps):
        effect = effect_of(step.form)
        needed = (needed - effect.overwrites) | effect.reads
    return needed


def known_at_entries(graph: Graph) -> dict[int, Known]:
    """Node -> what is known at its entry, which every way to it must establish.

    Where ways with different kinds meet, the flags that are read later stand by themselves.
    """
    needed = _needed_at_entries(graph)
    entries: dict[int, Known] = {ENTRY: Known(None, needed[ENTRY])}
    waiting = [ENTRY]
    while waiting:
        node = waiting.pop()
        out = behind(graph.block(node), entries[node])
        for target in graph.successors[node]:
            before = entries.get(target)
            now = out if before is None else _meet(before, out, needed[target])
            if now.kind is None:
                now = Known(None, now.single | needed[target])
            if now != before:
                entries[target] = now
                waiting.append(target)
    return entries


def _meet(a: Known, b: Known, needed: frozenset[str]) -> Known:
    single = a.single | b.single
    if a.kind == b.kind and a.kind is not None:
        return Known(a.kind, single)
    return Known(None, single | needed)


def _needed_at_entries(graph: Graph) -> dict[int, frozenset[str]]:
    """Node -> flags that are read before they are written, in it or behind it."""
    needed = {node: frozenset[str]() for node in graph.order}
    changed = True
    while changed:
        changed = False
        for node in reversed(graph.order):
            after = union(needed[target] for target in graph.successors[node])
            now = _needed(graph.block(node), after)
            if now != needed[node]:
                needed[node] = now
                changed = True
    return needed
