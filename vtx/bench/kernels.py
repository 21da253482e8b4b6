"""The kernels of `vtx bench`: what each is good for and where it can run.

Their sources are guests/bench/<name>.s. Must not know how anything is run or timed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

ALL_STYLES = ("bare", "ept", "shadow")
PLAIN, BASELINE, SHORT = "", "baseline", "short"
"""Variants of a source: as it is; without the event it measures; with less work."""

Kind = Literal["hot", "system", "cold", "event"]
"""hot: integer code executed often, which the targets are about. system: privileged or unusual
code. cold: code executed once. event: an event again and again, priced one by one."""


@dataclass(frozen=True)
class Kernel:
    """One kernel. `defines` are the symbols that make each variant of its source."""

    name: str
    title: str
    kind: Kind
    in_process: bool = False
    """Needs no privilege: also runs as a function of a process."""
    bits: Literal[32, 64] = 64
    styles: tuple[str, ...] = ALL_STYLES
    cpu: str = "haswell"
    events: int = 0
    """Events of one iteration, of an event kernel."""
    machines: bool = True
    """The event happens on machines other than vtx too."""
    defines: Mapping[str, Mapping[str, int]] = field(default_factory=lambda: {PLAIN: {}})

    @property
    def variants(self) -> tuple[str, ...]:
        return tuple(self.defines)


_EVENT = {PLAIN: {}, BASELINE: {"BASELINE": 1}}

KERNELS: tuple[Kernel, ...] = (
    Kernel("sieve", "sieve of Eratosthenes, a byte per number", "hot", in_process=True),
    Kernel("crc32", "CRC-32 a byte at a time, by table", "hot", in_process=True),
    Kernel("matmul", "product of 24 x 24 matrices of integers", "hot", in_process=True),
    Kernel("bubble", "bubble sort of 96 numbers", "hot", in_process=True),
    Kernel("list", "4096 linked nodes of a cache line each", "hot", in_process=True),
    Kernel("calls", "Fibonacci numbers by recursion", "hot", in_process=True),
    Kernel("pages", "1024 pages of 4 KiB in scattered frames", "system", in_process=True),
    Kernel("interpreter", "a bytecode interpreter's indirect jumps", "system", in_process=True),
    Kernel("strings", "MOVS, STOS, SCAS, CMPS and LODS, repeated", "system", in_process=True),
    Kernel("code32", "32-bit code with 32-bit paging", "system", in_process=True, bits=32),
    Kernel("switch", "four processes that take turns", "system"),
    Kernel("syscall", "SYSCALL and SYSRET", "system"),
    Kernel("churn", "pages mapped, protected and unmapped", "system"),
    Kernel(
        "cold", "a quarter of a million instructions, executed once", "cold", in_process=True,
        defines={PLAIN: {}, SHORT: {"COPIES": 4}},
    ),
    Kernel(
        "cpuid-exit", "CPUID, which leaves the guest for the VMM", "event", in_process=True,
        events=8, machines=False, defines=_EVENT,
    ),
    Kernel(
        "cpuid-root", "CPUID, answered by a hypervisor in VMX root mode", "event", events=8,
        styles=("bare",), cpu="haswell,+vmx", machines=False, defines=_EVENT,
    ),
    Kernel(
        "tlb-miss", "accesses that all miss the TLB", "event", events=1024,
        defines=_EVENT,
    ),
)  # fmt: skip


class UnknownKernelError(LookupError):
    """No kernel has this name. One line of text."""


def kernels_named(names: tuple[str, ...]) -> tuple[Kernel, ...]:
    """The kernels called `names`, in the order of the table; all of them for no name.

    Raises UnknownKernelError.
    """
    known = {kernel.name for kernel in KERNELS}
    for name in names:
        if name not in known:
            raise UnknownKernelError(f"no kernel {name!r}; `vtx bench --list` shows them")
    return tuple(kernel for kernel in KERNELS if not names or kernel.name in names)
