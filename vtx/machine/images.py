"""Scattered 64-bit words looked at together: which runs they form, and whether one has changed.

It does not know what the words mean.
"""

from collections.abc import Callable, Iterable, Iterator
from struct import Struct

_WORD = 8
Image = tuple[bytes, ...]


def runs(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """First and end of each run of consecutive numbers, in order."""
    first = end = None
    for number in sorted(numbers):
        if first is None or number != end:
            if first is not None and end is not None:
                yield first, end
            first = number
        end = number + 1
    if first is not None and end is not None:
        yield first, end


def imager(words: Iterable[int]) -> Callable[..., Image]:
    """A function of a buffer, and the offset in it where word 0 lies, that gives the bytes of the
    numbered words: two of them are equal exactly if every word is."""
    pattern, at = "<", 0
    for first, end in runs(words):
        pattern += f"{(first - at) * _WORD}x{(end - first) * _WORD}s"
        at = end
    return Struct(pattern).unpack_from
