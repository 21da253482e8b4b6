"""Which words of ranges a region keeps in registers while it runs.

Few of them: the others are read each time. What the words mean is said in `region_ranges`.
"""

from vtx.engine.native.region_plan import Region, Step
from vtx.engine.native.region_ranges import BASE, DISTANCE, LIMITS, range_of
from vtx.isa.primitives import Prim

_MOST_HOISTED = 6
"""Words of ranges that a region keeps in registers; with more it reads them each time."""


def hoisted_words(region: Region) -> list[int]:
    """Offsets from the table of all words of ranges that the region looks at, if they are few."""
    words: set[int] = set()
    for block in region.blocks:
        for step in block.steps:
            words |= _words_of(step)
    return sorted(words) if len(words) <= _MOST_HOISTED else []


def _words_of(step: Step) -> set[int]:
    words: set[int] = set()
    widths = {op.dst[0]: op.width for op in step.form.ops if op.dst}
    for op in step.form.ops:
        if op.prim is Prim.LOAD:
            at, width = range_of(op.attr), op.width
        elif op.prim is Prim.STORE:
            value = op.args[1]
            at = range_of(op.attr._replace(write=True))
            width = widths[value] if value >= 0 else step.hole_width(value)
        else:
            continue
        words |= {at + BASE, at + DISTANCE, at + LIMITS + 8 * ((width >> 3).bit_length() - 1)}
    return words
