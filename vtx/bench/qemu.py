"""QEMU's TCG as a contestant: the kernel's image booted by a qemu-system-x86_64 process."""

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from vtx.bench.clock import WALL, Clock
from vtx.bench.contestant import AnyVariant, Run, RunError, parse_checksum
from vtx.bench.image import DONE, KernelImage
from vtx.bench.kernels import Kernel

PROGRAM = "qemu-system-x86_64"
_STATUS = DONE << 1 | 1
_MACHINE = (
    "-accel", "tcg", "-m", "64", "-nodefaults", "-vga", "none", "-display", "none",
    "-serial", "stdio", "-no-reboot", "-device", "isa-debug-exit,iobase=0xf4,iosize=4",
)  # fmt: skip
TIMEOUT = 300.0


def qemu_problem() -> str | None:
    """Why QEMU cannot be used; None when it can."""
    return None if shutil.which(PROGRAM) else f"no {PROGRAM} on PATH"


class Qemu(AnyVariant):
    """A process for every run: what it needs to start is in the time of each."""

    name = "qemu"

    def __init__(self, clock: Clock = WALL) -> None:
        self._clock = clock
        self._directory = tempfile.TemporaryDirectory(prefix="vtx-bench-")
        self._files: dict[bytes, Path] = {}

    def refusal(self, kernel: Kernel) -> str | None:
        return None if kernel.machines else "TCG has no VMX"

    def run(self, image: KernelImage, iterations: int) -> Run:
        boot = ("-kernel", str(self._file(image.elf)), "-append", str(iterations))
        who = f"{image.kernel.name} qemu"
        seconds, status, output = timed_process((PROGRAM, *_MACHINE, *boot), who, self._clock)
        if status != _STATUS:
            raise RunError(f"{who}: exit status {status}, not {_STATUS}")
        return Run(seconds, parse_checksum(output, who))

    def _file(self, elf: bytes) -> Path:
        if elf not in self._files:
            path = Path(self._directory.name) / f"{len(self._files)}.elf"
            path.write_bytes(elf)
            self._files[elf] = path
        return self._files[elf]


def timed_process(
    command: Sequence[str], who: str, clock: Clock, typed: bytes = b""
) -> tuple[float, int, bytes]:
    """Seconds, exit status and standard output of a process that is `typed` this.

    Raises RunError.
    """
    started = clock.children()
    try:
        done = subprocess.run(
            command, input=typed, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            timeout=TIMEOUT, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise RunError(f"{who}: not done after {TIMEOUT:.0f} s") from None
    except OSError as error:
        raise RunError(f"{who}: cannot start {command[0]}: {error.strerror}") from None
    return clock.children() - started, done.returncode, done.stdout
