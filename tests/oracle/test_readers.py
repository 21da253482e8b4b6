"""Both readers of the algebra agree on every form, and every form's program is legal."""

from random import Random

import pytest
from oracle_campaign import Size, run
from oracle_case import Case, Outcome, differences
from oracle_forms import CODES, forms, instance
from oracle_ours import FEATURES, Ours

from vtx.engine.translate import decode
from vtx.isa.features import meaning_of
from vtx.isa.instruction import SEMANTICS

EVERYTHING = (1 << 64) - 1
SMALL = Size(instances=2, states=2)
BIG = Size(instances=20, states=10, seed=3)
FEWEST_FORMS = {64: 680, 32: 540, 16: 590}


def _compare(bits: int, cpl: int, size: Size) -> str:
    slow, quick = Ours(bits, quick=False, cpl=cpl), Ours(bits, quick=True, cpl=cpl)

    def check(case: Case) -> tuple[Outcome, list[str]]:
        ours, theirs = slow.run(case), quick.run(case)
        found = differences(case, ours, theirs, EVERYTHING)
        return ours, found or ([] if ours == theirs else ["something undefined differs"])

    tally = run(bits, size, check)
    print(f"evaluator and generator, {bits}-bit, CPL {cpl}: {tally}")
    assert not tally.failures, tally.report()
    assert tally.forms >= FEWEST_FORMS[bits]
    return str(tally)


@pytest.mark.parametrize(("bits", "cpl"), [(64, 0), (32, 3), (16, 0)])
def test_evaluator_and_generator_agree_on_every_form(bits: int, cpl: int) -> None:
    _compare(bits, cpl, SMALL)


@pytest.mark.campaign
@pytest.mark.parametrize(("bits", "cpl"), [(64, 0), (64, 3), (32, 0), (32, 3), (16, 0)])
def test_evaluator_and_generator_agree_on_many_examples(bits: int, cpl: int) -> None:
    _compare(bits, cpl, BIG)


@pytest.mark.parametrize("bits", [64, 32, 16])
def test_every_form_decodes_to_what_was_encoded_and_is_available(bits: int) -> None:
    for code in forms(bits):
        one = instance(code, bits, 0x1000, Random(5))
        decoded = decode(one.code, bits)
        assert decoded is not None
        meaning = meaning_of(decoded, FEATURES)
        assert meaning is not None, CODES[code]
        assert SEMANTICS[meaning] is SEMANTICS[one.mnemonic], CODES[code]
