"""The engines that a test runs on, as parameters: each of them has to do the same."""

import pytest

from vtx.engine.choice import native_problem

_PROBLEM = native_problem()
NEEDS_NATIVE = pytest.mark.skipif(_PROBLEM is not None, reason=f"no native engine: {_PROBLEM}")
NATIVE = pytest.param("native", marks=NEEDS_NATIVE)
ENGINES = ["reference", "evaluate", NATIVE]
EVERY_ENGINE = pytest.mark.parametrize("engine", ENGINES)
