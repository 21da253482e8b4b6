"""RFLAGS as one word: putting it together from its slots and taking it apart again.

The six arithmetic flags live in slots of their own; whoever pushes, pops or saves the whole
register comes here. It does not know which bits an instruction may change.
"""

from vtx.isa.builder import Builder, Value
from vtx.isa.layout import ARITHMETIC_FLAGS

TF, IF, DF, NT, RF, VM, AC, VIF, VIP, ID = (
    1 << 8, 1 << 9, 1 << 10, 1 << 14, 1 << 16, 1 << 17, 1 << 18, 1 << 19, 1 << 20, 1 << 21,
)  # fmt: skip
IOPL = 3 << 12
ARITHMETIC = sum(1 << bit for bit in ARITHMETIC_FLAGS.values())
DEFINED = ARITHMETIC | TF | IF | DF | IOPL | NT | RF | VM | AC | VIF | VIP | ID
"""Every bit of RFLAGS that is not reserved (SDM 1, EFLAGS Register)."""


def read_rflags(b: Builder) -> Value:
    """All of RFLAGS, 64 bits."""
    value = b.get("rflags")
    for name, bit in ARITHMETIC_FLAGS.items():
        value = value | (b.get(name, 1).zext(64) << bit)
    return value


def write_rflags(b: Builder, value: Value) -> None:
    """Replace all of RFLAGS; reserved bits become what they always are."""
    for name, bit in ARITHMETIC_FLAGS.items():
        b.put(name, value.bit(bit))
    b.put("rflags", (value & (DEFINED & ~ARITHMETIC)) | 2)


def iopl(b: Builder) -> Value:
    """The I/O privilege level, 64 bits."""
    return b.get("rflags").bits(13, 12)
