"""The host CPU's answer to a case: the same bytes, run natively at the same addresses.

A trampoline in one fixed mapping loads all registers, jumps to the instruction, and stores
everything when it comes out, either behind the instruction or at its branch target. Everything
native runs in a forked child, so that a wrong guess ends a child and names the case.
"""

import ctypes
import mmap
import os
import pickle
import platform
import sys
from collections.abc import Callable
from typing import Any

from iced_x86 import Code, Encoder, Instruction, MemoryOperand, Register
from oracle_case import BACKGROUND, CODE, DATA, LOW, STACK, Case, Outcome
from oracle_forms import REGISTERS
from oracle_states import BRANCH_DISTANCE

_SIZE = 0x40_0000
_TRAMPOLINE = CODE + 0x30_0000
_BOX = CODE + 0x31_0000
# Words of the box: 16 registers, flags, entry address, whether the branch was taken, host RSP.
_FLAGS, _ENTRY, _TAKEN, _HOST_RSP, _WORDS = 16, 17, 18, 19, 20
_KEPT = (Register.RBX, Register.RBP, Register.R12, Register.R13, Register.R14, Register.R15)
_MAP_FIXED_NOREPLACE = 0x10_0000

CPUINFO_NAMES = {
    "BMI1": "bmi1", "BMI2": "bmi2", "ADX": "adx", "LZCNT": "abm", "MOVBE": "movbe",
    "POPCNT": "popcnt", "CLFLUSHOPT": "clflushopt", "CLWB": "clwb", "CMPXCHG16B": "cx16",
}  # fmt: skip
"""iced's feature -> its name in /proc/cpuinfo, for those a host may lack."""


def reason_to_skip() -> str:
    """Why this host cannot be the oracle; empty when it can."""
    if sys.platform != "linux" or platform.machine() != "x86_64" or sys.maxsize < 1 << 32:
        return "needs an x86-64 Linux host"
    try:
        _map()
    except OSError as error:
        return f"cannot map {CODE:#x}: {error}"
    return ""


def features() -> frozenset[str]:
    """The host's CPU flags as Linux names them."""
    with open("/proc/cpuinfo", encoding="ascii") as lines:
        for line in lines:
            if line.startswith("flags"):
                return frozenset(line.split(":")[1].split())
    return frozenset()


_mapped: list[Any] = []


def _map() -> Any:
    """The mapping, made once per process."""
    if not _mapped:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_FIXED_NOREPLACE
        rights = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
        got = libc.mmap(CODE, _SIZE, rights, flags, -1, 0)
        if got != CODE:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        _mapped.append((ctypes.c_char * _SIZE).from_address(CODE))
    return _mapped[0]


class Host:
    """Runs cases on the host CPU; only to be made inside `in_child`."""

    def __init__(self) -> None:
        self._memory = memoryview(_map()).cast("B")
        self._box = (ctypes.c_uint64 * _WORDS).from_address(_BOX)
        self._not_taken, self._taken = _write_trampoline(self._memory)
        self._call = ctypes.CFUNCTYPE(None)(_TRAMPOLINE)

    def _put(self, at: int, content: bytes) -> None:
        self._memory[at - CODE : at - CODE + len(content)] = content

    def _get(self, at: int, size: int) -> bytes:
        return bytes(self._memory[at - CODE : at - CODE + size])

    def run(self, case: Case) -> Outcome:
        behind = case.ip + len(case.code)
        self._put(case.ip, case.code)
        self._put(behind, _jump(behind, self._not_taken))
        target = case.ip + BRANCH_DISTANCE
        self._put(target, _jump(target, self._taken))
        for base in (DATA, STACK):
            self._put(base, case.region(base))
        self._box[:] = [*case.gprs, case.flags, case.ip, 0, 0]
        self._call()
        regions = {base: self._get(base, len(BACKGROUND[base])) for base in (DATA, STACK)}
        return Outcome(
            None,
            tuple(self._box[:16]),
            self._box[_FLAGS],
            target if self._box[_TAKEN] else behind,
            (regions[DATA], regions[STACK], BACKGROUND[LOW]),
        )


# --- the trampoline --------------------------------------------------------------------------


def _word(index: int) -> MemoryOperand:
    return MemoryOperand(Register.RIP, displ=_BOX + 8 * index)


def _load(register: int, index: int) -> Instruction:
    return Instruction.create_reg_mem(Code.MOV_R64_RM64, register, _word(index))


def _store(index: int, register: int) -> Instruction:
    return Instruction.create_mem_reg(Code.MOV_RM64_R64, _word(index), register)


def _entry() -> list[Instruction]:
    stack_last = sorted(range(16), key=lambda n: n == 4)
    return [
        *(Instruction.create_reg(Code.PUSH_R64, register) for register in _KEPT),
        _store(_HOST_RSP, Register.RSP),
        Instruction.create_mem(Code.PUSH_RM64, _word(_FLAGS)),
        Instruction.create(Code.POPFQ),
        *(_load(REGISTERS[64][n], n) for n in stack_last),
        Instruction.create_mem(Code.JMP_RM64, _word(_ENTRY)),
    ]


def _taken_exit() -> list[Instruction]:
    """Note that the branch was taken, and fall into the common exit."""
    return [Instruction.create_mem_i32(Code.MOV_RM64_IMM32, _word(_TAKEN), 1)]


def _common_exit() -> list[Instruction]:
    return [
        *(_store(n, REGISTERS[64][n]) for n in range(16)),
        _load(Register.RSP, _HOST_RSP),
        Instruction.create(Code.PUSHFQ),
        Instruction.create_mem(Code.POP_RM64, _word(_FLAGS)),
        Instruction.create_i32(Code.PUSHQ_IMM32, 0x202),
        Instruction.create(Code.POPFQ),
        *(Instruction.create_reg(Code.POP_R64, register) for register in reversed(_KEPT)),
        Instruction.create(Code.RETNQ),
    ]


def _write_trampoline(memory: memoryview) -> tuple[int, int]:
    """Put the trampoline in place; (exit behind the instruction, exit at the target)."""
    at = _TRAMPOLINE
    starts = []
    for part in (_entry(), _taken_exit(), _common_exit()):
        starts.append(at)
        for instruction in part:
            encoder = Encoder(64)
            encoder.encode(instruction, at)
            code = encoder.take_buffer()
            memory[at - CODE : at - CODE + len(code)] = code
            at += len(code)
    return starts[2], starts[1]


def _jump(at: int, target: int) -> bytes:
    encoder = Encoder(64)
    encoder.encode(Instruction.create_branch(Code.JMP_REL32_64, target), at)
    return bytes(encoder.take_buffer())


# --- children --------------------------------------------------------------------------------

_NOTE_SIZE = 4096


class ChildDied(Exception):  # noqa: N818 - what happened, not what went wrong here
    """The child did not come back; the message is the last note it left."""


def in_child(work: Callable[[Callable[[str], None]], Any]) -> Any:
    """`work(note)` in a forked child; its picklable result. `note` leaves word for a death."""
    note_page = mmap.mmap(-1, _NOTE_SIZE)
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        status = 1
        try:
            with os.fdopen(write_end, "wb") as pipe:
                pickle.dump(work(lambda text: _leave(note_page, text)), pipe)
            status = 0
        except BaseException as error:
            _leave(note_page, f"{type(error).__name__}: {error}")
        finally:
            os._exit(status)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        result = pipe.read()
    _, status = os.waitpid(child, 0)
    if status:
        text = note_page[:].rstrip(b"\0").decode(errors="replace")
        raise ChildDied(f"wait status {status:#x} at {text}")
    return pickle.loads(result)


def _leave(page: mmap.mmap, text: str) -> None:
    page[:] = text.encode()[:_NOTE_SIZE].ljust(_NOTE_SIZE, b"\0")
