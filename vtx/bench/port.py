"""The cpuid-exit kernel under the smallest VMM there can be in Python.

The loop below uses nothing but vtx.vmm.port: enter, ask why the guest left, answer, step over
the instruction. What it costs is what an exit to Python costs before a VMM does anything.
"""

import gc
from dataclasses import dataclass

from vtx.bench.clock import WALL, Clock
from vtx.bench.contestant import AnyVariant, Run, RunError
from vtx.bench.image import KernelImage
from vtx.bench.kernels import BASELINE, Kernel
from vtx.bench.machine import launch_kernel, run_kernel
from vtx.spec import EXITS
from vtx.vmm.port import Port
from vtx.vmm.virtual import VirtualSession

_STEP = 1000
_NEVER = 0xFFFF_FFFF
"""Too long for the VMX-preemption timer to end a guest that exits all the time."""


@dataclass(frozen=True)
class PortMachine(AnyVariant):
    """vtx under ept to the kernel's loop, and from there on the loop below."""

    engine: str
    clock: Clock = WALL
    name: str = "ept-port"

    def refusal(self, kernel: Kernel) -> str | None:
        return None if kernel.name == "cpuid-exit" else "answers CPUID only"

    def run(self, image: KernelImage, iterations: int) -> Run:
        if image.variant == BASELINE:
            return run_kernel(image, iterations, "ept", self.engine, self.clock)
        session = launch_kernel(image, iterations, "ept", self.engine).session
        assert isinstance(session, VirtualSession)
        while not (before := session.exits().get("CPUID", 0)):
            if session.run(session.retired + _STEP) is not None:
                raise RunError(f"{image.kernel.name} {self.name}: ended before its loop was met")
        port = session.vmm.port
        port.vmwrite("PREEMPTION_TIMER_VALUE", _NEVER)
        gc.collect()
        started = self.clock.own()
        answered = answer_cpuid(port)
        return Run(self.clock.own() - started, before + answered)


def answer_cpuid(port: Port) -> int:
    """Run the guest and answer CPUID until it leaves for another reason; how often it did not."""
    count = 0
    while True:
        if not port.enter(launched=True):
            raise RunError(f"VM entry failed: {port.instruction_error()}")
        if port.vmread("EXIT_REASON") != EXITS.CPUID:
            return count
        for register in ("rax", "rbx", "rcx", "rdx"):
            port.set_register(register, 0)
        length = port.vmread("EXIT_INSTRUCTION_LENGTH")
        port.vmwrite("GUEST_RIP", port.vmread("GUEST_RIP") + length)
        count += 1
