"""What the manuals leave undefined, declared once per mnemonic: flags, and a few results.

Comparisons with other implementations mask exactly this. The semantics give each of these a
definite value all the same, so that every executor agrees. Sources: SDM 2A-2D, Flags Affected
on each instruction's page; SDM 1, EFLAGS Cross-Reference.
"""

from collections.abc import Callable
from dataclasses import dataclass

Condition = Callable[[int, int], bool]
"""(operand width in bits, masked shift count) -> whether the row applies."""


def _always(width: int, count: int) -> bool:
    return True


def _counted(width: int, count: int) -> bool:
    return count != 0


def _more_than_one(width: int, count: int) -> bool:
    return count > 1


def _at_least_width(width: int, count: int) -> bool:
    return count >= width


def _more_than_width(width: int, count: int) -> bool:
    return count > width


@dataclass(frozen=True, slots=True)
class Undefined:
    """Under `condition` these mnemonics leave `flags`, and maybe the result, undefined."""

    mnemonics: frozenset[str]
    flags: frozenset[str]
    condition: Condition = _always
    result: bool = False


def _row(
    mnemonics: str, flags: str, condition: Condition = _always, *, result: bool = False
) -> Undefined:
    return Undefined(frozenset(mnemonics.split()), frozenset(flags.split()), condition, result)


UNDEFINED = (
    _row("AND OR XOR TEST", "af"),
    _row("ANDN BLSI BLSMSK BLSR", "af pf"),
    _row("BEXTR", "af pf sf"),
    _row("BZHI", "af pf"),
    _row("SHL SAL SHR SAR SHLD SHRD", "af", _counted),
    _row("SHL SAL SHR SHLD SHRD ROL ROR RCL RCR", "of", _more_than_one),
    _row("SAR", "of", _more_than_one),
    _row("SHL SAL SHR", "cf", _at_least_width),
    _row("SHLD SHRD", "cf pf zf sf of af", _more_than_width, result=True),
    _row("MUL IMUL", "pf af zf sf"),
    _row("DIV IDIV", "cf pf af zf sf of"),
    _row("AAA AAS", "of sf zf pf"),
    _row("AAM AAD", "of af cf"),
    _row("DAA DAS", "of"),
    _row("BT BTS BTR BTC", "of sf af pf"),
    _row("BSF BSR", "cf of sf af pf"),
    _row("TZCNT LZCNT", "of sf pf af"),
    _row("BSWAP", "", lambda width, count: width == 16, result=True),
)


def undefined_flags(mnemonic: str, width: int = 0, count: int = 0) -> frozenset[str]:
    """Arithmetic flags left undefined by `mnemonic` on `width` bits, shifting by `count`.

    `count` is the count after masking to 5 or 6 bits; 0 where nothing is shifted.
    """
    flags: frozenset[str] = frozenset()
    for row in UNDEFINED:
        if mnemonic in row.mnemonics and row.condition(width, count):
            flags |= row.flags
    return flags


def undefined_result(mnemonic: str, width: int = 0, count: int = 0) -> bool:
    """Whether the destination itself is undefined."""
    return any(
        row.result and mnemonic in row.mnemonics and row.condition(width, count)
        for row in UNDEFINED
    )
