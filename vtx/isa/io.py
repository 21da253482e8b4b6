"""Port I/O: IN, OUT, INS, OUTS, with their permission checks and VM exits.

A repeated INS or OUTS is one iteration per execution: it jumps to itself until the count is 0.
Sources: SDM 1, Input/Output; SDM 2A, IN; INS; SDM 2B, OUT; OUTS; SDM 3C, I/O Instructions.
"""

from iced_x86 import OpKind

from vtx.isa.builder import Builder, Value, routine_
from vtx.isa.descriptors import SYSTEM_READ
from vtx.isa.exit_information import address_size_bits, segment_bits
from vtx.isa.instruction import GP, Instruction, MemoryOperand, semantics
from vtx.isa.key import AR_UNUSABLE
from vtx.isa.program import Service
from vtx.isa.rflags import DF, iopl
from vtx.spec import CONTROLS, EXITS

EXIT_IO_INSTRUCTION = EXITS.IO_INSTRUCTION
UNCONDITIONAL_IO_EXITING, USE_IO_BITMAPS = (
    CONTROLS.UNCONDITIONAL_IO_EXITING.mask,
    CONTROLS.USE_IO_BITMAPS.mask,
)
_QUALIFICATION_IN, _QUALIFICATION_STRING = 1 << 3, 1 << 4
_QUALIFICATION_REP, _QUALIFICATION_IMMEDIATE = 1 << 5, 1 << 6
_IO_MAP_BASE = 0x66
_LEAST_TSS_LIMIT = 0x67


@routine_(16, 8)
def check_io_permission(b: Builder, port: Value, size: Value) -> None:
    """#GP(0) unless the TSS's I/O permission bit map allows every byte (SDM 1, I/O Map)."""
    limit, base = b.get("tr_limit"), b.get("tr_base")
    is_32bit = b.get("tr_ar").bit(3) & ((b.get("tr_ar") & AR_UNUSABLE) == 0)
    b.fault_if(~is_32bit | limit.ult(_LEAST_TSS_LIMIT), GP, 0)
    start = b.load(16, base + _IO_MAP_BASE, SYSTEM_READ).zext(64)
    place = start + (port.zext(64) >> 3)
    b.fault_if(limit.ult(place + 1), GP, 0)
    bits = b.load(16, base + place, SYSTEM_READ) >> (port & 7)
    mask = (b.const(16, 1) << size.zext(16)) - 1
    b.fault_if((bits & mask) != 0, GP, 0)
    b.return_()


@routine_(16, 8, results=(1,))
def io_bitmap_hit(b: Builder, port: Value, size: Value) -> None:
    """Whether the VMX I/O bitmaps make an access of `size` bytes at `port` exit."""
    last = port + (size.zext(16) - 1)
    with b.if_(last.ult(port)):  # an access that wraps past FFFFH exits
        b.return_(b.const(1, 1))
    hit = b.var(1, 0)
    for n in range(4):
        at = port + n
        page = at.bit(15).select(b.get("io_bitmap_b"), b.get("io_bitmap_a"))
        byte = b.load_physical(8, page + ((at & 0x7FFF) >> 3).zext(64))
        bit = (byte >> (at.trunc(8) & 7)).bit(0)
        hit.set(hit.get() | (bit & b.const(8, n).ult(size)))
    b.return_(hit.get())


def check_permission(i: Instruction, port: Value, size: int) -> None:
    """CPL above IOPL, or virtual-8086 mode: the TSS decides."""
    if i.key.v86:
        i.call("check_io_permission", port, size)
    elif i.key.protected and i.key.cpl > 0:
        with i.if_(iopl(i).ult(i.key.cpl)):
            i.call("check_io_permission", port, size)


def _exit_if_wanted(
    i: Instruction, port: Value, size: int, qualification: int, gva: Value | None = None
) -> None:
    """VM exits of I/O instructions (SDM 3C, Table of Exit Qualification for I/O)."""
    if not i.non_root:
        return
    controls = i.get("proc_controls", 32)
    bitmaps = (controls & USE_IO_BITMAPS) != 0
    wanted = i.var(1, ~bitmaps & ((controls & UNCONDITIONAL_IO_EXITING) != 0))
    with i.if_(bitmaps):
        wanted.set(i.call("io_bitmap_hit", port, size)[0])
    with i.if_(wanted.get()):
        info = 0
        if gva is not None:
            i.put("exit_gla", gva)
            info = address_size_bits(i)
            info |= 0 if qualification & _QUALIFICATION_IN else segment_bits(i.decoded)
        i.vm_exit(EXIT_IO_INSTRUCTION, (port.zext(64) << 16) | (qualification | (size - 1)), info)


def _port(i: Instruction, index: int) -> tuple[Value, int]:
    """The port operand, and its bit of the exit qualification."""
    if i.decoded.op_kind(index) == OpKind.IMMEDIATE8:
        return i.const(16, i.immediate(index) & 0xFF), _QUALIFICATION_IMMEDIATE
    return i.get("rdx", 16), 0


@semantics("IN")
def port_in(i: Instruction) -> None:
    width = i.dst.width
    port, immediate = _port(i, 1)
    check_permission(i, port, width // 8)
    _exit_if_wanted(i, port, width // 8, _QUALIFICATION_IN | immediate)
    (value,) = i.service(Service.PORT_IN, port, width // 8)
    i.dst.write(value.to(width))


@semantics("OUT")
def port_out(i: Instruction) -> None:
    width = i.src.width
    port, immediate = _port(i, 0)
    check_permission(i, port, width // 8)
    _exit_if_wanted(i, port, width // 8, immediate)
    i.service(Service.PORT_OUT, port, width // 8, i.src.read().to(32))


# --- strings ---------------------------------------------------------------------------------


def _is_repeated(i: Instruction) -> bool:
    return bool(i.decoded.has_rep_prefix or i.decoded.has_repne_prefix)


def _skip_when_done(i: Instruction) -> None:
    """A repeat count of 0 does nothing, not even checks."""
    if _is_repeated(i):
        with i.if_(i.get("rcx", i.address_width) == 0):
            i.next()


def _advance(i: Instruction, register: str, size: int) -> None:
    """Move the string pointer, count down, and come back while something is left."""
    width = i.address_width
    backwards = (i.get("rflags") & DF) != 0
    step = backwards.select(i.const(width, -size), i.const(width, size))
    i.write_gpr(register, i.get(register, width) + step)
    if _is_repeated(i):
        left = i.get("rcx", width) - 1
        i.write_gpr("rcx", left)
        with i.if_(left != 0):
            i.jump(i.ip)


def _string_qualification(i: Instruction) -> int:
    return _QUALIFICATION_STRING | (_QUALIFICATION_REP if _is_repeated(i) else 0)


def _string_operand(i: Instruction, index: int) -> MemoryOperand:
    operand = i.op(index)
    assert isinstance(operand, MemoryOperand)
    return operand


@semantics("INSB", "INSW", "INSD")
def port_in_string(i: Instruction) -> None:
    _skip_when_done(i)
    destination = _string_operand(i, 0)
    width, size = destination.width, destination.width // 8
    port = i.get("rdx", 16)
    check_permission(i, port, size)
    gva = destination.linear(write=True)
    _exit_if_wanted(i, port, size, _QUALIFICATION_IN | _string_qualification(i), gva)
    destination.probe_write()
    (value,) = i.service(Service.PORT_IN, port, size)
    destination.write(value.to(width))
    _advance(i, "rdi", size)


@semantics("OUTSB", "OUTSW", "OUTSD")
def port_out_string(i: Instruction) -> None:
    _skip_when_done(i)
    source = _string_operand(i, 1)
    size = source.width // 8
    port = i.get("rdx", 16)
    check_permission(i, port, size)
    gva = source.linear()
    _exit_if_wanted(i, port, size, _string_qualification(i), gva)
    value = source.read()
    i.service(Service.PORT_OUT, port, size, value.to(32))
    _advance(i, "rsi", size)
