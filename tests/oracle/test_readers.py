"""All engines agree on every form, and every form's program is legal."""

from random import Random

import pytest
from oracle_campaign import Size, run
from oracle_case import Case, Outcome, differences
from oracle_forms import CODES, forms, instance
from oracle_ours import FEATURES, Ours

from tests.vtx.engines import NATIVE
from vtx.engine.translate import decode
from vtx.isa.features import meaning_of
from vtx.isa.instruction import SEMANTICS

EVERYTHING = (1 << 64) - 1
SMALL = Size(instances=2, states=2)
BIG = Size(instances=20, states=10, seed=3)
FEWEST_FORMS = {64: 680, 32: 540, 16: 590}


OTHERS = pytest.mark.parametrize("engine", ["evaluate", NATIVE])


def _compare(engine: str, bits: int, cpl: int, size: Size) -> None:
    mine, quick = Ours(bits, engine=engine, cpl=cpl), Ours(bits, cpl=cpl)

    def check(case: Case) -> tuple[Outcome, list[str]]:
        ours, theirs = mine.run(case), quick.run(case)
        found = differences(case, ours, theirs, EVERYTHING)
        return ours, found or ([] if ours == theirs else ["something undefined differs"])

    tally = run(bits, size, check)
    print(f"{engine} and reference, {bits}-bit, CPL {cpl}: {tally}")
    assert not tally.failures, tally.report()
    assert tally.forms >= FEWEST_FORMS[bits]
    assert not mine.one.in_python


@OTHERS
@pytest.mark.parametrize(("bits", "cpl"), [(64, 0), (32, 3), (16, 0)])
def test_every_engine_agrees_with_the_reference_on_every_form(
    engine: str, bits: int, cpl: int
) -> None:
    _compare(engine, bits, cpl, SMALL)


@pytest.mark.campaign
@OTHERS
@pytest.mark.parametrize(("bits", "cpl"), [(64, 0), (64, 3), (32, 0), (32, 3), (16, 0)])
def test_every_engine_agrees_with_the_reference_on_many_examples(
    engine: str, bits: int, cpl: int
) -> None:
    _compare(engine, bits, cpl, BIG)


@pytest.mark.parametrize("bits", [64, 32, 16])
def test_every_form_decodes_to_what_was_encoded_and_is_available(bits: int) -> None:
    for code in forms(bits):
        one = instance(code, bits, 0x1000, Random(5))
        decoded = decode(one.code, bits)
        assert decoded is not None
        meaning = meaning_of(decoded, FEATURES)
        assert meaning is not None, CODES[code]
        assert SEMANTICS[meaning] is SEMANTICS[one.mnemonic], CODES[code]
