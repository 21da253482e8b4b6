"""Removing work nobody sees: flags that are overwritten unread, values that are never used.

Semantics write all six flags of every result; most are dead. A flag's PUT may go only when
another follows before anything that reads it or can leave the program.
"""

from collections.abc import Sequence

from vtx.isa.layout import FLAG_SLOTS
from vtx.isa.primitives import PURE, Prim
from vtx.isa.program import Op

_PURE_SOURCES = frozenset(PURE) | {Prim.CONST, Prim.IP, Prim.GET, Prim.GETVAR, Prim.LOOKUP}
_STAYS = _PURE_SOURCES | {Prim.PUT, Prim.SETVAR}
"""Ops that can neither fault nor leave."""


def drop_dead(blocks: Sequence[Sequence[Op]]) -> list[list[Op]]:
    """The op lists of consecutive instructions without dead flags and unused values.

    Every list but the last falls through into the next one.
    """
    dead: set[int] = set()
    kept: list[list[Op]] = []
    for position, ops in reversed(list(enumerate(blocks))):
        through = position < len(blocks) - 1
        kept.append(_without_unused(_without_dead_flags(ops, dead, through)))
    kept.reverse()
    return kept


def _without_dead_flags(ops: Sequence[Op], dead: set[int], falls_through: bool) -> list[Op]:
    """`ops` backwards; `dead` holds the flags that are overwritten behind the current op.

    Behind a store the block may be left although nothing faulted: the store may have changed
    the code that follows.
    """
    result: list[Op] = []
    falls_through = falls_through and not any(op.prim is Prim.STORE for op in ops)
    for op in reversed(ops):
        if op.prim is Prim.PUT and op.attr in FLAG_SLOTS:
            if op.attr in dead:
                continue
            dead.add(op.attr)
        elif op.prim is Prim.GET:
            dead.discard(op.attr)
        elif op.prim not in _STAYS and not (op.prim is Prim.NEXT and falls_through):
            dead.clear()
        result.append(op)
    result.reverse()
    return result


def _without_unused(ops: list[Op]) -> list[Op]:
    used: set[int] = set()
    result: list[Op] = []
    for op in reversed(ops):
        if op.prim in _PURE_SOURCES and op.dst[0] not in used:
            continue
        used.update(op.args)
        result.append(op)
    result.reverse()
    return result
