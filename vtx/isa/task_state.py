"""The task-state segment as task switches use it: saving a task's registers, reading them back.

Layouts of the 32-bit and the 16-bit TSS. All accesses are implicit supervisor accesses. When a
task is saved or loaded, and what is checked, is the business of `isa.task_switch`.
Sources: SDM 3A, Task-State Segment (TSS); 16-Bit Task-State Segment (TSS).
"""

from dataclasses import dataclass

from vtx.isa.builder import Builder, Value, routine_
from vtx.isa.descriptors import SYSTEM_READ, SYSTEM_WRITE
from vtx.isa.layout import GPR_NAMES

GENERAL = GPR_NAMES[:8]
SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs")
SEGMENTS16 = SEGMENTS[:4]
LINK = 0
LEAST_LIMIT, LEAST_LIMIT16 = 0x67, 0x2B
SAVED, SAVED_SIZE = 0x20, 0x40
"""Where the part that a switch away writes starts in the 32-bit TSS, and its bytes."""
SAVED16, SAVED16_SIZE = 0x0E, 0x1C
_CR3, _EIP, _EFLAGS, _EAX, _ES, _LDT, _TRAP = 0x1C, 0x20, 0x24, 0x28, 0x48, 0x60, 0x64
_IP16, _FLAGS16, _AX16, _ES16, _LDT16 = 0x0E, 0x10, 0x12, 0x22, 0x2A
_WORDS = 3 + len(GENERAL) + len(SEGMENTS) + 2


@dataclass(frozen=True)
class TaskState:
    """What a TSS holds of a task; every value is 64 bits wide."""

    cr3: Value
    ip: Value
    flags: Value
    general: tuple[Value, ...]
    segments: tuple[Value, ...]
    ldt: Value
    trap: Value
    """The T flag, bit 0."""


@routine_(64, 64, 64)
def save_task32(b: Builder, base: Value, ip: Value, flags: Value) -> None:
    """Store the CPU's registers in the 32-bit TSS at linear address `base`."""
    values = (ip, flags, *(b.get(name) for name in GENERAL))
    for n, value in enumerate(values):
        b.store(base + (_EIP + 4 * n), value.trunc(32), SYSTEM_WRITE)
    for n, name in enumerate(SEGMENTS):
        b.store(base + (_ES + 4 * n), b.get(f"{name}_sel", 16), SYSTEM_WRITE)
    b.return_()


@routine_(64, 64, 64)
def save_task16(b: Builder, base: Value, ip: Value, flags: Value) -> None:
    """Store the CPU's registers in the 16-bit TSS at linear address `base`."""
    values = (ip, flags, *(b.get(name) for name in GENERAL))
    selectors = (b.get(f"{name}_sel") for name in SEGMENTS16)
    for n, value in enumerate((*values, *selectors)):
        b.store(base + (_IP16 + 2 * n), value.trunc(16), SYSTEM_WRITE)
    b.return_()


@routine_(64, results=(64,) * _WORDS)
def read_task32(b: Builder, base: Value) -> None:
    """The task state in the 32-bit TSS at `base`, in the order of `TaskState`."""

    def word(offset: int, width: int = 32) -> Value:
        return b.load(width, base + offset, SYSTEM_READ).zext(64)

    b.return_(
        word(_CR3), word(_EIP), word(_EFLAGS),
        *(word(_EAX + 4 * n) for n in range(len(GENERAL))),
        *(word(_ES + 4 * n, 16) for n in range(len(SEGMENTS))),
        word(_LDT, 16), word(_TRAP, 16) & 1,
    )  # fmt: skip


@routine_(64, results=(64,) * _WORDS)
def read_task16(b: Builder, base: Value) -> None:
    """The task state in the 16-bit TSS at `base`; what it does not hold is 0."""

    def word(offset: int) -> Value:
        return b.load(16, base + offset, SYSTEM_READ).zext(64)

    zero = b.const(64, 0)
    b.return_(
        zero, word(_IP16), word(_FLAGS16),
        *(word(_AX16 + 2 * n) for n in range(len(GENERAL))),
        *(word(_ES16 + 2 * n) for n in range(len(SEGMENTS16))), zero, zero,
        word(_LDT16), zero,
    )  # fmt: skip


def read_task(b: Builder, base: Value, wide: Value) -> TaskState:
    """The task state in the TSS at `base`, which is a 32-bit one where `wide`."""
    variables = [b.var(64, 0) for _ in range(_WORDS)]
    with b.if_(wide):
        for variable, value in zip(variables, b.call("read_task32", base), strict=True):
            variable.set(value)
    with b.else_():
        for variable, value in zip(variables, b.call("read_task16", base), strict=True):
            variable.set(value)
    cr3, ip, flags, *rest = (variable.get() for variable in variables)
    ldt, trap = rest[-2:]
    return TaskState(cr3, ip, flags, tuple(rest[:8]), tuple(rest[8:14]), ldt, trap)
