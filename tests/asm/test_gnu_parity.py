"""The assembler gives the bytes and relocations that GNU as gives.

Golden answers are committed; where GNU as is installed they are checked against it.
"""

from __future__ import annotations

import gnu_oracle
import pytest
from gnu_cases import CASES
from gnu_oracle import Answer

import asm

MODES = (64, 32, 16)
FORMS = gnu_oracle.load("gnu_forms")
WRITTEN = gnu_oracle.load("gnu_cases")

# Lines that GNU as assembles and this assembler refuses on purpose.
_HALVED = "GNU as silently drops the upper half of the number"
REFUSED = {
    16: {
        "push 0x12345678": _HALVED,
        "push 0x7fffffff": _HALVED,
        "push 0x80000000": _HALVED,
    },
}


def assembled(cases: list[str], mode: int) -> list[Answer]:
    """Our answers to the same cases."""
    result = asm.assemble(
        gnu_oracle.source_of(cases, mode), name="cases.s", elf_class=32 if mode == 32 else 64
    )
    return [(code, rows) for code, rows in gnu_oracle.answers(result.object(), len(cases))]


def differences(golden: dict[str, Answer], ours: dict[str, Answer]) -> dict[str, object]:
    return {
        case: {"GNU as": answer, "asm": ours[case]}
        for case, answer in golden.items()
        if case in ours and (answer[0], list(answer[1])) != ours[case]
    }


@pytest.mark.parametrize("mode", MODES)
def test_every_base_instruction_form_has_the_bytes_of_gnu_as(mode: int) -> None:
    golden = FORMS[str(mode)]
    cases = [case for case in golden if case not in REFUSED.get(mode, {})]

    ours = dict(zip(cases, assembled(cases, mode), strict=True))

    assert len(cases) > 3500
    assert differences(golden, ours) == {}


@pytest.mark.parametrize("mode", MODES)
def test_written_sources_have_the_bytes_of_gnu_as(mode: int) -> None:
    golden = WRITTEN[str(mode)]
    cases = list(golden)

    ours = dict(zip(cases, assembled(cases, mode), strict=True))

    assert cases == CASES[mode]
    assert differences(golden, ours) == {}


@pytest.mark.parametrize("mode", sorted(REFUSED))
def test_refused_lines_are_clear_errors(mode: int) -> None:
    for line in REFUSED[mode]:
        with pytest.raises(asm.AssemblyErrors, match="does not fit this operand"):
            asm.assemble(f".code{mode}\n{line}", name="x.s")


@pytest.mark.skipif(gnu_oracle.GNU_AS is None, reason="GNU as is not installed")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("golden", [FORMS, WRITTEN], ids=["forms", "written"])
def test_golden_answers_are_those_of_the_installed_gnu_as(
    golden: dict[str, dict[str, Answer]], mode: int
) -> None:
    cases = list(golden[str(mode)])

    answers = gnu_oracle.gnu_answers(cases, mode)

    fresh = dict(zip(cases, answers, strict=True))
    assert differences(golden[str(mode)], fresh) == {}
