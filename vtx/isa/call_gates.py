"""The stack switch of a call gate to an inner privilege level.

Sources: SDM 3A, Stack Switching; Stack Switching in IA-32e Mode; Call Gates.
"""

from vtx.isa.builder import Builder, Value, routine_
from vtx.isa.delivery_legacy import WRAP32, push_frame
from vtx.isa.descriptors import SS, is_canonical, selector_error
from vtx.isa.key import AR_D, AR_UNUSABLE
from vtx.isa.program import Access, Privilege

_MOST_PARAMETERS = 31
_USER = Access(False, Privilege.USER, True)
_SUPERVISOR = Access(False, Privilege.SUPERVISOR, True)


@routine_(32, 64, results=(64, 16, 32))
def gate_stack64(b: Builder, level: Value, back: Value) -> None:
    """Push SS, RSP, CS and the return address on the stack of `level` from the 64-bit TSS.

    Returns the new RSP, and selector and rights of the null SS.
    """
    none = b.const(32, 0)
    (top,) = b.call("long_stack", none, level, none)
    b.fault_if(~is_canonical(top) | ~is_canonical(top - 8), SS, 0)
    frame = (b.get("ss_sel"), b.get("rsp"), b.get("cs_sel"), back)
    for n, value in enumerate(frame, 1):
        b.call("store_frame64", top - 8 * n, value, level)
    b.return_(top - 32, level.trunc(16), (level << 5) | AR_UNUSABLE)


@routine_(64, 1, results=(64,))
def load_parameter(b: Builder, offset: Value, wide: Value) -> None:
    """A parameter at `offset` on the caller's stack (the caller is at level 1 to 3)."""
    rights = b.get("ss_ar", 32)
    size = wide.select(b.const(64, 3), b.const(64, 1))
    (allowed,) = b.call("segment_readable", rights, b.get("ss_limit"), offset, offset + size)
    b.fault_if(~allowed, SS, 0)
    gva = (b.get("ss_base") + offset) & WRAP32
    user = rights.bits(6, 5) == 3
    with b.if_(wide):
        with b.if_(user):
            b.return_(b.load(32, gva, _USER).zext(64))
        b.return_(b.load(32, gva, _SUPERVISOR).zext(64))
    with b.if_(user):
        b.return_(b.load(16, gva, _USER).zext(64))
    b.return_(b.load(16, gva, _SUPERVISOR).zext(64))


@routine_(32, 1, 64, 64, results=(64, 16, 64, 64, 32))
def gate_stack32(b: Builder, level: Value, wide: Value, count: Value, back: Value) -> None:
    """Push SS, SP, `count` parameters, CS and the return address on the stack of `level`.

    Returns the new stack pointer, and selector, base, limit and rights of the new SS.
    """
    none = b.const(32, 0)
    selector, top = b.call("inner_stack", level, none)
    base, limit, rights = b.call("inner_stack_segment", selector.trunc(16), level, none)
    full, half = b.const(64, WRAP32), b.const(64, 0xFFFF)
    wrap = ((rights & AR_D) != 0).select(full, half)
    old_wrap = ((b.get("ss_ar") & AR_D) != 0).select(full, half)
    top = top & wrap
    elements = count + 4
    size = wide.select(elements << 2, elements << 1)
    (room,) = b.call("stack_has_room", limit, top, rights, size)
    b.fault_if(~room, SS, selector_error(selector.trunc(16)))
    step = wide.select(b.const(64, 4), b.const(64, 2))
    head = (b.get("ss_sel"), b.get("rsp"))
    offset = b.var(64, push_frame(b, head, base, top, wrap, level, wide))
    for n in reversed(range(_MOST_PARAMETERS)):
        with b.if_(b.const(64, n).ult(count)):
            at = (b.get("rsp") + step * n) & old_wrap
            (value,) = b.call("load_parameter", at, wide)
            offset.set(push_frame(b, (value,), base, offset.get(), wrap, level, wide))
    tail = (b.get("cs_sel"), back)
    final = push_frame(b, tail, base, offset.get(), wrap, level, wide)
    b.return_(final, selector.trunc(16), base, limit, rights)
