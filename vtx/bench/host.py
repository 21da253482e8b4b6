"""The host's own processor as a contestant: the kernel's bytes, called as a function."""

import ctypes
import mmap
import platform

from vtx.bench.clock import WALL, Clock
from vtx.bench.contestant import AnyVariant, Run
from vtx.bench.image import DATA_SIZE, KernelImage
from vtx.bench.kernels import Kernel

_MACHINES = ("x86_64", "AMD64")
_FUNCTION = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64, ctypes.c_void_p)


def host_problem() -> str | None:
    """Why kernels cannot be called here; None when they can."""
    if platform.machine() not in _MACHINES:
        return f"the host is {platform.machine()}, not x86-64"
    if platform.system() == "Windows":
        return "its calling convention is not the one of the kernels"
    try:
        _executable(mmap.PAGESIZE).close()
    except OSError as error:
        return f"the system gives no executable memory: {error.strerror}"
    return None


def _executable(size: int) -> mmap.mmap:
    return mmap.mmap(-1, size, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)


class Host(AnyVariant):
    """The same bytes on the processor itself."""

    name = "host"

    def __init__(self, clock: Clock = WALL) -> None:
        self._now = clock.own

    def refusal(self, kernel: Kernel) -> str | None:
        if not kernel.in_process:
            return "needs privilege"
        return None if kernel.bits == 64 else f"{kernel.bits}-bit code in a 64-bit process"

    def run(self, image: KernelImage, iterations: int) -> Run:
        code, data = _executable(len(image.code)), _executable(DATA_SIZE)
        code.write(image.code)
        pinned = [ctypes.c_char.from_buffer(memory) for memory in (code, data)]
        code_hva, data_hva = (ctypes.addressof(pin) for pin in pinned)
        kernel_main = _FUNCTION(code_hva + image.entry)
        started = self._now()
        checksum = kernel_main(iterations, data_hva)
        seconds = self._now() - started
        del pinned
        code.close()
        data.close()
        return Run(seconds, checksum)
