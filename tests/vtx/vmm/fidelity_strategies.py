"""How steps are written down: blocks of text, a step a line, with {fields} that are drawn.

Fields that every block may use: {r} is r or e (for rax or eax), {q} is q or d (iretq or iretd),
{word} is qword or dword; the others are given with a strategy each.
"""

from string import Formatter

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

Steps = SearchStrategy[str]

NUMBERS = st.one_of(
    st.sampled_from((
        0, 1, 2, 0x10, 0x41, 0x80, 0xFF, 0x1FF, 0x500, 0x901, 0xD01, 0x7FFF, 0x10000, 0x10041,
        0x20041, 0x40041, 0x108F40, 0x400000, 0x40FFF8, 0x7FFF_FFFF, 0x8000_0000, 0xFEE0_0800,
        0xFEE0_0900, 0xFEE0_0C00, 0xFEE0_0D00, 0xFFFF_0FF0, 0xFFFF_FFFF,
    )),
    st.integers(0, 0xFFFF_FFFF),
    st.integers(0, 31).map(lambda n: 1 << n),
)  # fmt: skip
"""32-bit values for registers and immediates."""

SELECTORS = st.sampled_from((
    0, 0x08, 0x0B, 0x10, 0x13, 0x1B, 0x23, 0x28, 0x2B, 0x30, 0x40, 0x48, 0x50, 0x58, 0x60, 0x64,
    0x78, 0xFFF8,
))  # fmt: skip

FLAGS = st.sampled_from((
    2, 0x202, 0x102, 0x302, 0x3002, 0x3202, 0x4002, 0x1_0002, 0x4_0202, 0x1_0302, 0x2_4202,
    0x20_0202,
))  # fmt: skip


def evenly(strategies: list[Steps]) -> Steps:
    """One of them, each as often; `one_of` would count the alternatives inside of each."""
    if len(strategies) == 1:
        return strategies[0]
    return st.integers(0, len(strategies) - 1).flatmap(lambda n: strategies[n])


def lines(block: str, long: bool, **drawn: SearchStrategy[object]) -> Steps:
    """One line of `block` with its fields filled in."""
    alternatives = [line.strip() for line in block.strip().splitlines()]
    return evenly([_filled(line, long, drawn) for line in alternatives])


def _filled(line: str, long: bool, drawn: dict[str, SearchStrategy[object]]) -> Steps:
    fixed = {"r": "r", "q": "q", "word": "qword"} if long else {"r": "e", "q": "d", "word": "dword"}
    used = {name for _, name, _, _ in Formatter().parse(line) if name in drawn}
    if not used:
        return st.just(line.format(**fixed))
    fields = {name: drawn[name] for name in sorted(used)}
    return st.fixed_dictionaries(fields).map(lambda values: line.format(**fixed, **values))
