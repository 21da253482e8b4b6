"""vtx on code it has never seen: each run in a process of its own, with a cache of its own.

Three states of the cache that engines keep between processes:

    empty    as after installing vtx
    primed   other code with the same kinds of instructions has been run: a user's second day
    second   this very program has been run before
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from vtx.bench.clock import WALL, Clock
from vtx.bench.contestant import Run, RunError
from vtx.bench.image import KernelImage
from vtx.bench.kernels import PLAIN, SHORT, Kernel
from vtx.bench.qemu import TIMEOUT

CACHE_VARIABLE = "VTX_CACHE_DIR"
"""Names the directory of caches that outlive a process."""

State = Literal["empty", "primed", "second"]


class Cold:
    """vtx in one style with its cache in one state."""

    def __init__(
        self,
        style: str,
        engine: str,
        state: State,
        images: Mapping[tuple[str, str], KernelImage],
        clock: Clock = WALL,
    ) -> None:
        """`images` by kernel and variant: what primes is among them."""
        self.style, self.engine, self.state = style, engine, state
        self._images, self._clock = images, clock
        self._directory = tempfile.TemporaryDirectory(prefix="vtx-bench-")
        self._place = Path(self._directory.name)
        self._prepared = False

    @property
    def name(self) -> str:
        return self.style if self.state == "primed" else f"{self.style}-{self.state}"

    def refusal(self, kernel: Kernel) -> str | None:
        return None if kernel.kind == "cold" else "executes its code more than once"

    def variants(self, kernel: Kernel) -> tuple[str, ...]:
        """The reference engine would need minutes for the whole."""
        return (PLAIN,) if self.engine == "native" else (SHORT,)

    def run(self, image: KernelImage, iterations: int) -> Run:
        if not self._prepared:
            self._prepare(image)
            self._prepared = True
        cache = self._place / "cache"
        shutil.rmtree(cache, ignore_errors=True)
        shutil.copytree(self._place / "prepared", cache)
        return self._child(image, iterations, cache)

    def _prepare(self, image: KernelImage) -> None:
        prepared = self._place / "prepared"
        prepared.mkdir(exist_ok=True)
        if self.engine != "native":
            return  # nothing outlives its process
        if self.state == "primed":
            self._child(self._images[image.kernel.name, SHORT], 1, prepared)
        elif self.state == "second":
            self._child(image, 1, prepared)

    def _child(self, image: KernelImage, iterations: int, cache: Path) -> Run:
        path = self._place / "image.elf"
        path.write_bytes(image.elf)
        what = (
            image.kernel.name,
            str(path),
            str(iterations),
            self.style,
            self.engine,
            self._clock.name,
        )
        who = f"{image.kernel.name} {self.name}"
        try:
            done = subprocess.run(
                (sys.executable, "-m", "vtx.bench.child", *what), stdin=subprocess.DEVNULL,
                capture_output=True, timeout=TIMEOUT, check=False,
                env=os.environ | {CACHE_VARIABLE: str(cache)},
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise RunError(f"{who}: not done after {TIMEOUT:.0f} s") from None
        return told_by_child(done.stdout, done.stderr, who)


def told_by_child(output: bytes, complaints: bytes, who: str) -> Run:
    """The run that a child told of. Raises RunError where it failed, or told nothing."""
    try:
        told: dict[str, Any] = json.loads(output)
    except ValueError:
        lines = complaints.decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "no word")
        raise RunError(f"{who}: its process ended without a result: {last}") from None
    if "error" in told:
        raise RunError(told["error"])
    return Run(told["seconds"], told["checksum"], told["retired"])
