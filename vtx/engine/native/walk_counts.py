"""The counts of page walks that native code keeps in the context.

Walks that Python makes are noted in the same words.
"""

import ctypes

from vtx.engine.native.context import CONTEXT
from vtx.machine.walk_counts import WalkCounts

_NAMES = {
    "misses": "walk_misses", "references": "walk_total",
    "minimum": "walk_least", "maximum": "walk_most",
}  # fmt: skip


def _word(name: str) -> property:
    index = CONTEXT[_NAMES[name]]

    def read(counts: "NativeWalkCounts") -> int:
        return counts.words[index]

    def write(counts: "NativeWalkCounts", value: int) -> None:
        counts.words[index] = value

    return property(read, write)


class NativeWalkCounts(WalkCounts):
    """Counts in `words`, going on from others."""

    misses, references = _word("misses"), _word("references")
    minimum, maximum = _word("minimum"), _word("maximum")

    def __init__(self, words: ctypes.Array[ctypes.c_uint64], so_far: WalkCounts) -> None:
        self.words = words
        for name in _NAMES:
            setattr(self, name, getattr(so_far, name))
