"""Unicorn as a contestant: the kernel as a function in flat memory. An optional import."""

from importlib import import_module
from typing import Any

from vtx.bench.clock import WALL, Clock
from vtx.bench.contestant import AnyVariant, Run, RunError
from vtx.bench.image import DATA_SIZE, KernelImage
from vtx.bench.kernels import Kernel

_DATA, _STACK, _STACK_SIZE = 0x400000, 0x300000, 0x10000
_RETURN = 0x380000
"""Where the kernel returns to: Unicorn stops before it executes anything there."""
_PAGE = 0x1000


def unicorn_problem() -> str | None:
    """Why Unicorn cannot be used; None when it can."""
    try:
        import_module("unicorn")
    except ImportError as error:
        return f"cannot be imported ({error}); pip install unicorn"
    return None


class Unicorn(AnyVariant):
    """QEMU's translator as a library, without a machine around it."""

    name = "unicorn"

    def __init__(self, clock: Clock = WALL) -> None:
        self._now = clock.own

    def refusal(self, kernel: Kernel) -> str | None:
        if kernel.kind == "event":
            return "no VM exits, and no page tables"
        return None if kernel.in_process else "needs a whole machine"

    def run(self, image: KernelImage, iterations: int) -> Run:
        api: Any = import_module("unicorn")
        is_64 = image.kernel.bits == 64
        stack_pointer, count, data, result = (
            getattr(api.x86_const, f"UC_X86_REG_{'R' if is_64 else 'E'}{name}")
            for name in ("SP", "DI", "SI", "AX")
        )
        machine = api.Uc(api.UC_ARCH_X86, api.UC_MODE_64 if is_64 else api.UC_MODE_32)
        machine.mem_map(image.base, (len(image.code) + _PAGE - 1) // _PAGE * _PAGE)
        machine.mem_map(_DATA, DATA_SIZE)
        machine.mem_map(_STACK, _STACK_SIZE)
        machine.mem_map(_RETURN, _PAGE)
        machine.mem_write(image.base, image.code)
        stack = _STACK + _STACK_SIZE - 16
        machine.mem_write(stack, _RETURN.to_bytes(8, "little"))
        machine.reg_write(stack_pointer, stack)
        machine.reg_write(count, iterations)
        machine.reg_write(data, _DATA)
        started = self._now()
        try:
            machine.emu_start(image.base + image.entry, _RETURN)
        except api.UcError as error:
            raise RunError(f"{image.kernel.name} unicorn: {error}") from None
        seconds = self._now() - started
        return Run(seconds, machine.reg_read(result))
