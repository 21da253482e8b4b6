"""The kernels as images, for every test of the suite."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.vtx.bench.images import small_image
from vtx.bench.image import KernelImage


@pytest.fixture(scope="session")
def kernel_image() -> Callable[..., KernelImage]:
    """The image of the kernel called `name`, in one of its variants."""
    return lambda name, variant="": small_image(name, variant)
