"""Generated exit-causing instructions and states end as on the bare machine, under any VMM.

To try a VMM of your own, add its class to VMMS.
"""

import pytest
from fidelity_outcome import require_equal_engines, require_fidelity
from fidelity_program import Program
from fidelity_steps import programs
from hypothesis import HealthCheck, given, seed, settings

from tests.vtx.engines import NATIVE, NEEDS_NATIVE, QUICK_ENGINES
from vtx.vmm import Ept, Shadow, Vmm

VMMS: list[type[Vmm]] = [Ept, Shadow]
OTHERS = pytest.mark.parametrize("engine", ["evaluate", NATIVE])
CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
IN_CI = settings(
    max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=CHECKS
)
CAMPAIGN = settings(IN_CI, max_examples=20_000, derandomize=False)


@pytest.mark.parametrize("vmm", VMMS)
@IN_CI
@given(programs())
def test_a_generated_program_ends_under_a_vmm_as_on_the_bare_machine(
    vmm: type[Vmm], program: Program
) -> None:
    require_fidelity(vmm, program)


@OTHERS
@settings(IN_CI, max_examples=40)
@given(programs())
def test_every_engine_runs_a_generated_program_alike(engine: str, program: Program) -> None:
    require_equal_engines(engine, program)


@NEEDS_NATIVE
@pytest.mark.parametrize("vmm", VMMS)
@settings(IN_CI, max_examples=60)
@given(programs())
def test_a_vmm_on_the_native_engine_gives_a_program_what_the_bare_machine_gives_it(
    vmm: type[Vmm], program: Program
) -> None:
    require_fidelity(vmm, program, "native")


@pytest.mark.campaign
@QUICK_ENGINES
@pytest.mark.parametrize("vmm", VMMS)
@seed(1)
@CAMPAIGN
@given(programs())
def test_campaign_of_generated_programs_under_a_vmm(
    vmm: type[Vmm], engine: str, program: Program
) -> None:
    require_fidelity(vmm, program, engine)


@pytest.mark.campaign
@OTHERS
@seed(2)
@settings(CAMPAIGN, max_examples=5_000)
@given(programs())
def test_campaign_of_generated_programs_on_every_engine(engine: str, program: Program) -> None:
    require_equal_engines(engine, program)
