"""Asking about selectors without loading them: LAR LSL VERR VERW ARPL.

Sources: SDM 2A, LAR; LSL; SDM 2B, VERR/VERW; SDM 2A, ARPL.
"""

from vtx.isa.builder import Value
from vtx.isa.descriptors import (
    CALL_GATE,
    CALL_GATE16,
    LDT,
    TASK_GATE,
    TSS,
    TSS16,
    TSS16_BUSY,
    TSS_BUSY,
    current_cpl,
    dpl_of,
    is_null,
    limit_of,
    rights_of,
)
from vtx.isa.instruction import Instruction, semantics

_LAR_LEGACY = (TSS16, LDT, TSS16_BUSY, CALL_GATE16, TASK_GATE, TSS, TSS_BUSY, CALL_GATE)
_LAR_LONG = (LDT, TSS, TSS_BUSY, CALL_GATE)
_LSL_LEGACY = (TSS16, LDT, TSS16_BUSY, TSS, TSS_BUSY)
_LSL_LONG = (LDT, TSS, TSS_BUSY)


def _require_protected(i: Instruction) -> None:
    if not i.key.protected or i.key.v86:
        i.undefined()


def _selector(i: Instruction, index: int) -> Value:
    if i.is_memory(index):
        return i.memory_operand(index, 16).read()
    return i.op(index).read().to(16)


def _is_one_of(i: Instruction, kind: Value, kinds: tuple[int, ...]) -> Value:
    return i.any_of(*(kind == k for k in kinds))


def _visible(i: Instruction, selector: Value, rights: Value) -> Value:
    """Privilege allows the descriptor to be used; conforming code is open to all."""
    dpl, rpl = dpl_of(rights), selector.zext(32) & 3
    conforming = rights.bit(4) & rights.bit(3) & rights.bit(2)
    return conforming | ~(dpl.ult(current_cpl(i)) | dpl.ult(rpl))


def _inspect(i: Instruction, allowed: tuple[int, ...]) -> tuple[Value, Value]:
    """Whether the source selector may be asked about, and its descriptor."""
    selector = _selector(i, 1)
    inside, descriptor = i.call("read_descriptor", selector)
    rights = rights_of(descriptor)
    known = rights.bit(4) | _is_one_of(i, rights & 0xF, allowed)
    good = ~is_null(selector) & inside & known & _visible(i, selector, rights)
    return good, descriptor


@semantics("LAR")
def lar(i: Instruction) -> None:
    """Access rights of a selector; ZF says whether it is visible and of a known type."""
    _require_protected(i)
    good, descriptor = _inspect(i, _LAR_LONG if i.key.long else _LAR_LEGACY)
    rights = (descriptor >> 32) & 0xF0_FF00
    with i.if_(good):
        i.dst.write(rights.to(i.dst.width))
    i.flags.set(zf=good)


@semantics("LSL")
def lsl(i: Instruction) -> None:
    """Limit of a segment in bytes."""
    _require_protected(i)
    good, descriptor = _inspect(i, _LSL_LONG if i.key.long else _LSL_LEGACY)
    with i.if_(good):
        i.dst.write(limit_of(descriptor).to(i.dst.width))
    i.flags.set(zf=good)


@semantics("VERR", "VERW")
def verify_access(i: Instruction) -> None:
    """ZF: the segment can be read (VERR) or written (VERW) at this privilege level."""
    _require_protected(i)
    selector = _selector(i, 0)
    inside, descriptor = i.call("read_descriptor", selector)
    rights = rights_of(descriptor)
    code = rights.bit(3)
    if i.mnemonic == "VERR":
        allowed = ~code | rights.bit(1)
    else:
        allowed = ~code & rights.bit(1)
    good = ~is_null(selector) & inside & rights.bit(4) & _visible(i, selector, rights)
    i.flags.set(zf=good & allowed)


@semantics("ARPL")
def arpl(i: Instruction) -> None:
    """Raise the destination's RPL to the source's; ZF says whether it was raised."""
    _require_protected(i)
    selector = i.memory_operand(0, 16) if i.is_memory(0) else i.dst
    old = selector.read_for_write()
    wanted = i.src.read().to(old.width) & 3
    raised = (old & 3).ult(wanted)
    low = raised.select((old & ((1 << old.width) - 4)) | wanted, old)
    selector.write(low)
    i.flags.set(zf=raised)
