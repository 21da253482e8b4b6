"""String instructions: MOVS CMPS SCAS LODS STOS, alone and repeated.

A repeated instruction does one iteration each time it is executed and then jumps to itself, so
every iteration retires as one instruction and events may come between two of them (SDM 2B,
REP/REPE/REPZ/REPNE/REPNZ). Nothing is committed before the iteration's last memory access.
"""

from collections.abc import Callable

from vtx.isa.builder import Value
from vtx.isa.instruction import Instruction, MemoryOperand, Operand, semantics
from vtx.isa.memory import is_string_operand
from vtx.isa.moves import DIRECTION

_SUFFIXES = {"B": 8, "W": 16, "D": 32, "Q": 64}


def _family(name: str) -> tuple[str, ...]:
    return tuple(name + suffix for suffix in _SUFFIXES)


@semantics(*_family("MOVS"))
def movs(i: Instruction) -> None:
    def iteration() -> None:
        i.dst.write(i.src.read())
        advance(i, "rsi", "rdi")

    repeat(i, iteration)


@semantics(*_family("STOS"))
def stos(i: Instruction) -> None:
    def iteration() -> None:
        i.dst.write(i.src.read())
        advance(i, "rdi")

    repeat(i, iteration)


@semantics(*_family("LODS"))
def lods(i: Instruction) -> None:
    def iteration() -> None:
        i.dst.write(i.src.read())
        advance(i, "rsi")

    repeat(i, iteration)


@semantics(*_family("CMPS"))
def cmps(i: Instruction) -> None:
    def iteration() -> Value:
        return _compare(i, i.dst, i.src, "rsi", "rdi")

    repeat_while(i, iteration)


@semantics(*_family("SCAS"))
def scas(i: Instruction) -> None:
    def iteration() -> Value:
        return _compare(i, i.dst, i.src, "rdi")

    repeat_while(i, iteration)


def _compare(i: Instruction, first: Operand, second: Operand, *indexes: str) -> Value:
    """Flags from first - second; whether they are equal."""
    a, b = first.read(), second.read()
    i.flags.sub(a, b, a - b)
    advance(i, *indexes)
    return a == b


# --- repetition ------------------------------------------------------------------------------


def repeat(i: Instruction, iteration: Callable[[], None]) -> None:
    """REP (either prefix): one iteration and again until the count is zero."""
    _require_string_form(i)
    if not (i.decoded.has_rep_prefix or i.decoded.has_repne_prefix):
        iteration()
        return

    def always() -> Value:
        iteration()
        return i.const(1, 1)

    _counted(i, always)


def repeat_while(i: Instruction, iteration: Callable[[], Value]) -> None:
    """REPE and REPNE: as REP, and only while the operands are equal (or not)."""
    _require_string_form(i)
    if i.decoded.has_repne_prefix:
        _counted(i, lambda: ~iteration())
    elif i.decoded.has_rep_prefix:
        _counted(i, iteration)
    else:
        iteration()


def _counted(i: Instruction, iteration: Callable[[], Value]) -> None:
    """Nothing for a count of zero; else one iteration, and again if it says so."""
    before = i.get("rcx", i.address_width)
    with i.if_(before != 0):
        wanted = iteration()
        count = before - 1
        i.write_gpr("rcx", count)
        with i.if_(wanted & (count != 0)):
            i.jump(i.ip)


def advance(i: Instruction, *indexes: str) -> None:
    """Step index registers over one element, in the direction of DF."""
    size = _element_size(i)
    backwards = (i.get("rflags") & DIRECTION) != 0
    width = i.address_width
    step = backwards.select(i.const(width, -size), i.const(width, size))
    for name in indexes:
        i.write_gpr(name, i.get(name, width) + step)


def _element_size(i: Instruction) -> int:
    operand = i.dst if isinstance(i.dst, MemoryOperand) else i.src
    return operand.width // 8


def _require_string_form(i: Instruction) -> None:
    """MOVSD and CMPSD are also names of vector instructions, which are not here."""
    if not any(is_string_operand(i.decoded, index) for index in range(i.decoded.op_count)):
        i.undefined()
