"""Our semantics against the host CPU, running the same bytes natively (64-bit user mode)."""

from collections.abc import Callable

import oracle_host
import pytest
from iced_x86 import CpuidFeature
from oracle_campaign import Size, Tally, run
from oracle_case import ALL_ARITHMETIC, DF, Case, Outcome, differences
from oracle_forms import Instance
from oracle_ours import Ours

from tests.vtx.engines import QUICK_ENGINES

pytestmark = pytest.mark.skipif(
    bool(oracle_host.reason_to_skip()), reason=oracle_host.reason_to_skip() or "runs here"
)
SMALL = Size(instances=4, states=5, seed=21)
BIG = Size(instances=100, states=20, seed=31)
FEWEST_FORMS = 640
COMPARED_FLAGS = ALL_ARITHMETIC | DF | 1 << 21

_FEATURES = {value: name for name, value in vars(CpuidFeature).items() if isinstance(value, int)}
EXCLUDED = {
    "RESERVEDNOP_RM16_R16_0F0D": "a NOP on Intel, #UD on AMD",
    "RESERVEDNOP_RM32_R32_0F0D": "a NOP on Intel, #UD on AMD",
    "RESERVEDNOP_RM64_R64_0F0D": "a NOP on Intel, #UD on AMD",
}
"""Forms that user-mode hosts answer differently, and why."""


def _wanted(host_features: frozenset[str]) -> Callable[[Instance], bool]:
    """Forms the host has."""

    def wanted(one: Instance) -> bool:
        needed = (_FEATURES[feature] for feature in one.decoded.cpuid_features())
        names = (oracle_host.CPUINFO_NAMES.get(name) for name in needed)
        return one.form not in EXCLUDED and all(n is None or n in host_features for n in names)

    return wanted


def _compare(engine: str, size: Size) -> None:
    def work(note: Callable[[str], None]) -> Tally:
        ours, host = Ours(64, engine=engine, cpl=3), oracle_host.Host()

        def check(case: Case) -> tuple[Outcome, list[str]] | None:
            mine = ours.run(case, to_the_end=True)
            if mine.fault is not None:
                return None  # a fault would be a signal
            note(str(case))
            return mine, differences(case, mine, host.run(case), COMPARED_FLAGS)

        return run(64, size, check, host=True, wanted=_wanted(oracle_host.features()))

    tally: Tally = oracle_host.in_child(work)
    print(f"{engine} and host CPU: {tally}")
    assert not tally.failures, tally.report()
    assert tally.forms >= FEWEST_FORMS


@QUICK_ENGINES
def test_semantics_agree_with_the_host_cpu(engine: str) -> None:
    _compare(engine, SMALL)


@pytest.mark.campaign
@QUICK_ENGINES
def test_semantics_agree_with_the_host_cpu_on_many_examples(engine: str) -> None:
    _compare(engine, BIG)


def test_a_child_that_dies_names_the_case() -> None:
    def work(note: Callable[[str], None]) -> None:
        note("this one")
        raise ValueError("broken")

    with pytest.raises(oracle_host.ChildDied, match="broken"):
        oracle_host.in_child(work)
