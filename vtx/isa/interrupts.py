"""Software interrupts and undefined instructions, and the interrupt flag.

INT n, INT3, INTO and INT1 fill the event_* slots and end as RAISED; `isa.delivery` goes on from
there. Returning is the business of `isa.interrupt_return`.
Sources: SDM 2A, INT n/INTO/INT3/INT1; BOUND; CLI; SDM 2B, STI; UD.
"""

from vtx.isa import delivery as delivery
from vtx.isa import interrupt_return as interrupt_return
from vtx.isa.delivery import PRIVILEGED, SOFTWARE_EXCEPTION, SOFTWARE_INTERRUPT
from vtx.isa.instruction import BP, BR, DB, GP, OF, Instruction, semantics
from vtx.isa.rflags import IF, iopl

BLOCKING_STI = 1


def _raise_event(i: Instruction, vector: int, kind: int) -> None:
    i.put("event_vector", vector)
    i.put("event_type", kind)
    i.put("event_error", 0)
    i.put("event_has_error", 0)
    i.put("event_length", i.length)
    i.put("event_debug", 0)
    i.resync()
    i.raised()


@semantics("INT")
def int_n(i: Instruction) -> None:
    if i.key.v86:
        i.fault_if(iopl(i) != 3, GP, 0)
    _raise_event(i, i.immediate(0) & 0xFF, SOFTWARE_INTERRUPT)


@semantics("INT3")
def int3(i: Instruction) -> None:
    _raise_event(i, BP, SOFTWARE_EXCEPTION)


@semantics("INT1")
def int1(i: Instruction) -> None:
    """The privileged software exception: no check of the gate's DPL, DR6 stays."""
    _raise_event(i, DB, PRIVILEGED)


@semantics("INTO")
def into(i: Instruction) -> None:
    with i.if_(i.flags.get("of")):
        _raise_event(i, OF, SOFTWARE_EXCEPTION)
    i.next()


@semantics("BOUND")
def bound(i: Instruction) -> None:
    """#BR when the index lies outside the signed bounds of a memory pair."""
    width = i.dst.width
    pair = i.memory_operand(1, 2 * width)
    pair.linear(size=width // 4)
    lower, upper = pair.part(0, width).read(), pair.part(width // 8, width).read()
    index = i.dst.read()
    i.fault_if(index.slt(lower) | upper.slt(index), BR)


@semantics("UD0", "UD1", "UD2", "RSM", "GETSEC", "RDPKRU", "WRPKRU")
def undefined(i: Instruction) -> None:
    """Undefined by definition, or for want of the mode or feature."""
    i.undefined()


def _require_iopl(i: Instruction) -> None:
    """#GP(0) when CPL (3 in virtual-8086 mode) is above IOPL."""
    if i.key.protected and i.key.cpl > 0:
        i.fault_if(iopl(i).ult(i.key.cpl), GP, 0)


@semantics("CLI")
def cli(i: Instruction) -> None:
    _require_iopl(i)
    i.put("rflags", i.get("rflags") & ~IF)
    i.resync()


@semantics("STI")
def sti(i: Instruction) -> None:
    """Interrupts stay blocked for one more instruction when IF was 0."""
    _require_iopl(i)
    rflags = i.get("rflags")
    with i.if_((rflags & IF) == 0):
        i.put("interruptibility_next", BLOCKING_STI)
        i.put("interruptibility", (i.get("interruptibility") & ~3) | BLOCKING_STI)
    i.put("rflags", rflags | IF)
    i.resync()
