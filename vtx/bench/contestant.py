"""What the suite needs of everyone who can run a kernel."""

from dataclasses import dataclass
from typing import Protocol

from vtx.bench.image import KernelImage
from vtx.bench.kernels import PLAIN, Kernel


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run. `seconds` of wall time may include start-up, the same for any number of
    iterations; `retired` is the number of guest instructions where that is known."""

    seconds: float
    checksum: int
    retired: int | None = None


class RunError(Exception):
    """A kernel did not end as it should. One line that says how it ended."""


class Contestant(Protocol):
    """Something that runs kernels, by a short name."""

    @property
    def name(self) -> str: ...

    def refusal(self, kernel: Kernel) -> str | None:
        """Why this kernel cannot be run; None when it can."""
        ...

    def variants(self, kernel: Kernel) -> tuple[str, ...]:
        """The variants of the kernel to run: the measured one first."""
        ...

    def run(self, image: KernelImage, iterations: int) -> Run:
        """Run the kernel once. Raises RunError."""
        ...


class AnyVariant:
    """Runs the plain variant, and the one without events where there is one."""

    def variants(self, kernel: Kernel) -> tuple[str, ...]:
        return kernel.variants if kernel.kind == "event" else (PLAIN,)


def parse_checksum(console: bytes, who: str) -> int:
    """The checksum that a kernel printed. Raises RunError."""
    lines = console.split()
    try:
        return int(lines[-1], 16)
    except (IndexError, ValueError):
        shown = console[-60:].decode("ascii", "replace").strip()
        raise RunError(f"{who}: no checksum on the console, but {shown!r}") from None
