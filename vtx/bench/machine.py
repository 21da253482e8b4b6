"""vtx itself as a contestant: a kernel in one style on one engine, in this process."""

import gc
from dataclasses import dataclass

from vtx.bench.clock import WALL, Clock
from vtx.bench.contestant import AnyVariant, Run, RunError, parse_checksum
from vtx.bench.image import DONE, KernelImage
from vtx.bench.kernels import Kernel
from vtx.vmm.ending import Ending
from vtx.vmm.launch import Launched, RunOptions, drive, launch
from vtx.vmm.styles import LaunchError

MEMORY = 32 << 20


def engine_meant(name: str) -> str:
    """The executor that `--engine name` stands for on this host. Raises LaunchError."""
    from vtx.engine.choice import resolve_engine

    try:
        return resolve_engine(name)[0]
    except ValueError as error:
        raise LaunchError(str(error)) from None


def launch_kernel(image: KernelImage, iterations: int, style: str, engine: str) -> Launched:
    """A machine with the kernel loaded. Raises RunError."""
    options = RunOptions(
        image=image.elf, image_name=image.kernel.name, style=style, cpu=image.kernel.cpu,
        engine=engine, memory=MEMORY, append=str(iterations),
    )  # fmt: skip
    try:
        return launch(options)
    except LaunchError as error:
        raise RunError(str(error)) from None


def check_ending(ending: Ending, who: str) -> None:
    """Raises RunError unless the kernel ended by itself."""
    if ending.how == "interrupted":
        raise KeyboardInterrupt
    if (ending.how, ending.code) != ("debug_exit", DONE):
        raise RunError(f"{who}: ended in {ending.how}: {ending.message or ending.code}")


def run_kernel(
    image: KernelImage, iterations: int, style: str, engine: str, clock: Clock = WALL
) -> Run:
    """Run the kernel to its end; building the machine is not timed. Raises RunError."""
    launched = launch_kernel(image, iterations, style, engine)
    gc.collect()  # the machine of the run before is not this one's work
    started = clock.own()
    ending = drive(launched.session, None)
    seconds = clock.own() - started
    who = f"{image.kernel.name} {style}"
    check_ending(ending, who)
    checksum = parse_checksum(bytes(launched.console), who)
    return Run(seconds, checksum, launched.session.retired)


@dataclass(frozen=True)
class Machine(AnyVariant):
    """vtx in one style."""

    style: str
    engine: str
    clock: Clock = WALL

    @property
    def name(self) -> str:
        return self.style

    def refusal(self, kernel: Kernel) -> str | None:
        if kernel.kind == "cold":
            return "needs a process of its own"
        if self.style not in kernel.styles:
            return f"runs {' and '.join(kernel.styles)} only"
        return None

    def run(self, image: KernelImage, iterations: int) -> Run:
        return run_kernel(image, iterations, self.style, self.engine, self.clock)
