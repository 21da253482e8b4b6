"""The declared undefined flags: by mnemonic, and for shifts by count and width."""

import pytest

from vtx.engine.families import load_all
from vtx.isa.instruction import SEMANTICS
from vtx.isa.layout import ARITHMETIC_FLAGS
from vtx.isa.undefined import UNDEFINED, undefined_flags, undefined_result


def test_only_instructions_that_exist_and_flags_that_exist_are_declared() -> None:
    load_all()
    for row in UNDEFINED:
        assert row.mnemonics <= set(SEMANTICS)
        assert row.flags <= set(ARITHMETIC_FLAGS)
        assert row.flags or row.result


@pytest.mark.parametrize(
    ("mnemonic", "width", "count", "flags"),
    [
        ("SHL", 32, 0, ""),
        ("SHL", 32, 1, "af"),
        ("SHL", 32, 2, "af of"),
        ("SHR", 8, 8, "af of cf"),
        ("SAR", 8, 9, "af of"),
        ("ROL", 32, 1, ""),
        ("RCR", 16, 5, "of"),
        ("SHLD", 16, 17, "cf pf zf sf of af"),
        ("MUL", 64, 0, "pf af zf sf"),
        ("ADD", 64, 0, ""),
        ("BT", 64, 0, "of sf af pf"),
    ],
)
def test_undefined_flags_depend_on_width_and_count(
    mnemonic: str, width: int, count: int, flags: str
) -> None:
    assert undefined_flags(mnemonic, width, count) == frozenset(flags.split())


def test_a_few_results_are_undefined_too() -> None:
    assert undefined_result("SHRD", 16, 17)
    assert not undefined_result("SHRD", 16, 16)
    assert undefined_result("BSWAP", 16)
    assert not undefined_result("BSWAP", 32)
