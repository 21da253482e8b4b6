"""Makes a diverging program smaller: fewer pieces, events, settings, while it still diverges."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from lockstep_program import Program

Fails = Callable[[Program], bool]


def shrink(program: Program, fails: Fails, most: int = 150) -> Program:
    """A small program for which `fails` still holds, after at most `most` attempts."""
    left = most
    progress = True
    while progress and left > 0:
        progress = False
        for smaller in _smaller(program):
            left -= 1
            if left <= 0:
                break
            if fails(smaller):
                program, progress = smaller, True
                break
    return program


def _smaller(program: Program) -> Iterator[Program]:
    yield from _fewer_pieces(program)
    for n in range(len(program.arrivals)):
        rest = program.arrivals[:n] + program.arrivals[n + 1 :]
        yield replace(program, arrivals=rest)
    for name in program.settings:
        rest = {key: value for key, value in program.settings.items() if key != name}
        yield replace(program, settings=rest)
    if program.start:
        yield replace(program, start=0)
    if program.budgets != (program.most,):
        yield replace(program, budgets=(program.most,))
    if program.most > 20:
        yield replace(program, most=program.most * 3 // 4)


def _fewer_pieces(program: Program) -> Iterator[Program]:
    pieces, size = program.pieces, len(program.pieces) // 2
    while size:
        for first in range(0, len(pieces), size):
            yield replace(program, pieces=pieces[:first] + pieces[first + size :])
        size //= 2
