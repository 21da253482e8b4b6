"""Every implemented instruction form, from iced's own tables, and what encodes an instance.

A form is an iced `Code` whose mnemonic has semantics in one of the integer families. Operands
are drawn at random from what the form allows; nothing is listed by hand but the families.
"""

from dataclasses import dataclass, field
from random import Random

from iced_x86 import (
    Code,
    DecoderOptions,
    Encoder,
    EncodingKind,
    Instruction,
    Mnemonic,
    OpCodeInfo,
    OpCodeOperandKind,
    OpKind,
    Register,
)
from oracle_case import DATA, DATA_SIZE, LOW, LOW_SIZE

from vtx.engine.families import load_all
from vtx.isa.instruction import SEMANTICS

FAMILIES = frozenset(
    f"vtx.isa.{name}"
    for name in ("arithmetic", "logic", "shifts", "multiply", "bits", "moves", "stack",
                 "branches", "strings")
)  # fmt: skip
MNEMONICS = {value: name for name, value in vars(Mnemonic).items() if isinstance(value, int)}
CODES = {value: name for name, value in vars(Code).items() if isinstance(value, int)}
_KINDS = {value: name for name, value in vars(OpCodeOperandKind).items() if isinstance(value, int)}

# Forms that belong to other families although they share a mnemonic: segment, control and debug
# registers, far branches, vector moves.
_FOREIGN = frozenset(
    {"CS", "DS", "ES", "FS", "GS", "SS", "SEG_REG", "CR_REG", "DR_REG", "TR_REG", "FARBR2_2",
     "FARBR4_2", "XMM_REG", "XMM_OR_MEM"}
)  # fmt: skip
# Branches to 16-bit offsets leave the harness's code, unless that is 16-bit itself.
_SHORT_BRANCHES = frozenset({"BR16_1", "BR16_2"})
_FAR = ("CALL_M16", "JMP_M16")


def forms(bits: int) -> list[int]:
    """All forms of the integer families that decode in `bits`-bit code, in iced's order."""
    load_all()
    found = []
    for code, name in CODES.items():
        info = OpCodeInfo(code)
        meaning = SEMANTICS.get(MNEMONICS[info.mnemonic])
        if meaning is None or meaning.__module__ not in FAMILIES or "KNC" in name:
            continue
        if info.encoding not in (EncodingKind.LEGACY, EncodingKind.VEX):
            continue
        if not all(getattr(info, f"{place}{bits}") for place in ("mode", "intel_decoder")):
            continue
        kinds = {_KINDS[info.op_kind(n)] for n in range(info.op_count)}
        foreign = kinds & _FOREIGN or name.startswith(_FAR)
        foreign = foreign or (bits != 16 and kinds & _SHORT_BRANCHES)
        if not foreign and info.decoder_option == DecoderOptions.NONE:
            found.append(code)
    return found


def _registers(suffix: str) -> list[int]:
    names = {
        "8": "AL CL DL BL AH CH DH BH SPL BPL SIL DIL " + " ".join(f"R{n}L" for n in range(8, 16)),
        "16": "AX CX DX BX SP BP SI DI " + " ".join(f"R{n}W" for n in range(8, 16)),
        "32": "EAX ECX EDX EBX ESP EBP ESI EDI " + " ".join(f"R{n}D" for n in range(8, 16)),
        "64": "RAX RCX RDX RBX RSP RBP RSI RDI " + " ".join(f"R{n}" for n in range(8, 16)),
    }[suffix]
    return [getattr(Register, name) for name in names.split()]


REGISTERS = {width: _registers(str(width)) for width in (8, 16, 32, 64)}
NUMBER = {
    register: (index - 4 if width == 8 and 4 <= index < 8 else index - 4 if width == 8
               and index >= 8 else index)
    for width, registers in REGISTERS.items()
    for index, register in enumerate(registers)
}  # fmt: skip
"""Register -> architectural number (AH..BH: of the register they are part of)."""
_FIXED = {"AL": Register.AL, "AX": Register.AX, "EAX": Register.EAX, "RAX": Register.RAX,
          "CL": Register.CL, "DX": Register.DX}  # fmt: skip
_IMMEDIATES = {
    "IMM8": (OpKind.IMMEDIATE8, 8), "IMM16": (OpKind.IMMEDIATE16, 16),
    "IMM32": (OpKind.IMMEDIATE32, 32), "IMM64": (OpKind.IMMEDIATE64, 64),
    "IMM8SEX16": (OpKind.IMMEDIATE8TO16, 8), "IMM8SEX32": (OpKind.IMMEDIATE8TO32, 8),
    "IMM8SEX64": (OpKind.IMMEDIATE8TO64, 8), "IMM32SEX64": (OpKind.IMMEDIATE32TO64, 32),
    "IMM8_CONST_1": (OpKind.IMMEDIATE8, 0),
}  # fmt: skip
_BRANCHES = {
    "BR16_1": OpKind.NEAR_BRANCH16, "BR16_2": OpKind.NEAR_BRANCH16,
    "BR32_1": OpKind.NEAR_BRANCH32, "BR32_4": OpKind.NEAR_BRANCH32,
    "BR64_1": OpKind.NEAR_BRANCH64, "BR64_4": OpKind.NEAR_BRANCH64,
}  # fmt: skip
_STRINGS = {
    "ES_RDI": {16: OpKind.MEMORY_ESDI, 32: OpKind.MEMORY_ESEDI, 64: OpKind.MEMORY_ESRDI},
    "SEG_RSI": {16: OpKind.MEMORY_SEG_SI, 32: OpKind.MEMORY_SEG_ESI, 64: OpKind.MEMORY_SEG_RSI},
}
_SIXTEEN_BIT_ADDRESSES = (
    (Register.BX, Register.SI), (Register.BX, Register.DI), (Register.BP, Register.SI),
    (Register.BP, Register.DI), (Register.SI, Register.NONE), (Register.DI, Register.NONE),
    (Register.BP, Register.NONE), (Register.BX, Register.NONE), (Register.NONE, Register.NONE),
)  # fmt: skip


@dataclass(slots=True)
class Instance:
    """One encoded instruction and what a state must provide for it to be in bounds."""

    form: str
    mnemonic: str
    bits: int
    ip: int
    decoded: Instruction
    code: bytes = b""
    address_width: int = 0
    gva: int = 0
    """Where the memory operand is wanted (0: there is none)."""
    registers: set[int] = field(default_factory=set)
    """Numbers of the registers that explicit operands name."""
    target: int | None = None


def instance(code: int, bits: int, ip: int, random: Random, *, host: bool = False) -> Instance:
    """A random instruction of form `code` that encodes at `ip`."""
    for _ in range(200):
        one = _draw(code, bits, ip, random, host)
        encoder = Encoder(bits)
        try:
            length = encoder.encode(one.decoded, ip)
        except ValueError:
            continue  # AH beside a REX prefix and the like: draw again
        if length <= 15 and not _index_is_base(one):
            one.code = encoder.take_buffer()
            return one
    raise AssertionError(f"{CODES[code]} does not encode")


def _index_is_base(one: Instance) -> bool:
    """A bit index that is part of its own operand's address reaches anywhere."""
    parts = (one.decoded.memory_base, one.decoded.memory_index)
    return one.mnemonic.startswith("BT") and any(NUMBER.get(p) in one.registers for p in parts)


def _draw(code: int, bits: int, ip: int, random: Random, host: bool) -> Instance:
    info = OpCodeInfo(code)
    decoded = Instruction()
    decoded.code = code
    one = Instance(CODES[code], MNEMONICS[info.mnemonic], bits, ip, decoded)
    widths = [bits, bits, bits, {64: 32, 32: 16, 16: 32}[bits]]
    one.address_width = random.choice(widths)
    if "LOOP" in one.mnemonic or one.form.startswith(("XLAT", "MASK")):
        one.address_width = bits
    for index in range(info.op_count):
        _operand(one, index, _KINDS[info.op_kind(index)], random, host)
    _prefixes(one, info, random)
    return one


def _prefixes(one: Instance, info: OpCodeInfo, random: Random) -> None:
    if info.can_use_rep_prefix and random.random() < 0.6:
        one.decoded.has_rep_prefix = True
    elif info.can_use_repne_prefix and random.random() < 0.6:
        one.decoded.has_repne_prefix = True
    to_memory = info.op_count and one.decoded.op_kind(0) == OpKind.MEMORY
    if info.can_use_lock_prefix and to_memory and random.random() < 0.2:
        one.decoded.has_lock_prefix = True


def _operand(one: Instance, index: int, kind: str, random: Random, host: bool) -> None:
    decoded = one.decoded
    if kind in _FIXED:
        decoded.set_op_kind(index, OpKind.REGISTER)
        decoded.set_op_register(index, _FIXED[kind])
    elif kind in _IMMEDIATES:
        _immediate(one, index, kind, random)
    elif kind in _BRANCHES:
        one.target = one.ip + 64
        decoded.set_op_kind(index, _BRANCHES[kind])
        width = {OpKind.NEAR_BRANCH64: 64, OpKind.NEAR_BRANCH32: 32}.get(_BRANCHES[kind], 16)
        setattr(decoded, f"near_branch{width}", one.target)
    elif kind in _STRINGS:
        decoded.set_op_kind(index, _STRINGS[kind][one.address_width])
    elif kind == "SEG_RBX_AL":
        decoded.set_op_kind(index, OpKind.MEMORY)
        bases = {64: Register.RBX, 32: Register.EBX, 16: Register.BX}
        decoded.memory_base = bases[one.bits]
        decoded.memory_index = Register.AL
        one.gva = middle(one)
    elif kind == "MEM_OFFS":
        _absolute(one, index, one.bits // 8)
    elif kind == "MEM" or (kind.endswith("_OR_MEM") and random.random() < 0.55):
        _memory(one, index, random, host)
    else:
        _register(one, index, kind, random)


def _immediate(one: Instance, index: int, kind: str, random: Random) -> None:
    op_kind, width = _IMMEDIATES[kind]
    if index == 1 and one.mnemonic == "ENTER":
        op_kind = OpKind.IMMEDIATE8_2ND
    value = 1 if not width else edge(random, width)
    if one.mnemonic in ("RET", "ENTER"):
        value &= 0x1F8 if width == 16 else 7
    if kind.startswith("IMM8SEX") or kind == "IMM32SEX64":
        value -= (value >> (width - 1)) << width
    one.decoded.set_op_kind(index, op_kind)
    one.decoded.set_immediate_u64(index, value & 0xFFFF_FFFF_FFFF_FFFF)


def _register(one: Instance, index: int, kind: str, random: Random) -> None:
    width = int("".join(ch for ch in kind.split("_")[0] if ch.isdigit()))
    choices = REGISTERS[width]
    if one.bits != 64:
        choices = choices[:8]
    rarely = 0 if one.mnemonic.startswith("BT") else 0.3  # as a bit index RSP reaches too far
    register = random.choice([r for r in choices if NUMBER[r] != 4 or random.random() < rarely])
    one.decoded.set_op_kind(index, OpKind.REGISTER)
    one.decoded.set_op_register(index, register)
    one.registers.add(NUMBER[register])


def middle(one: Instance) -> int:
    """Middle of the region that the instruction's memory operand is in."""
    low = one.bits == 16 or one.address_width == 16
    return LOW + LOW_SIZE // 2 if low else DATA + DATA_SIZE // 2


def _absolute(one: Instance, index: int, size: int) -> None:
    one.decoded.set_op_kind(index, OpKind.MEMORY)
    one.gva = middle(one) + 5
    one.decoded.memory_displacement = one.gva
    one.decoded.memory_displ_size = size
    one.address_width = size * 8


def _memory(one: Instance, index: int, random: Random, host: bool) -> None:
    decoded = one.decoded
    decoded.set_op_kind(index, OpKind.MEMORY)
    one.gva = middle(one) + random.choice((0, 0, 1, 7, 64, -16))
    if one.mnemonic == "CMPXCHG16B":
        one.gva &= ~15
    if one.address_width == 16:
        base, index_register = random.choice(_SIXTEEN_BIT_ADDRESSES)
        decoded.memory_base, decoded.memory_index = base, index_register
        decoded.memory_displ_size = 2
        decoded.memory_displacement = one.gva if base == Register.NONE else random.choice((0, 9))
        return
    roll = random.random()
    if roll < 0.12 and one.bits == 64:
        decoded.memory_base = Register.RIP if one.address_width == 64 else Register.EIP
        decoded.memory_displacement = one.gva
        decoded.memory_displ_size = one.address_width // 8
        return
    if roll < 0.22:
        _absolute(one, index, one.address_width // 8)
        return
    choices = REGISTERS[one.address_width][: 16 if one.bits == 64 else 8]
    base, scaled = random.sample([r for r in choices if NUMBER[r] != 4], 2)
    decoded.memory_base = base
    if random.random() < 0.5:
        decoded.memory_index = scaled
        decoded.memory_index_scale = random.choice((1, 2, 4, 8))
    decoded.memory_displ_size, decoded.memory_displacement = random.choice(
        ((0, 0), (1, 0x21), (1, -0x21 & (1 << one.address_width) - 1), (4, 0x1234))
    )
    if decoded.memory_displ_size == 4 and one.address_width == 64:
        decoded.memory_displ_size = 8
    if not host and one.bits == 64 and random.random() < 0.1:
        decoded.segment_prefix = Register.FS


_EDGES = (0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65)


def edge(random: Random, width: int) -> int:
    """A number of `width` bits, mostly one that instructions treat specially."""
    roll = random.random()
    if roll < 0.35:
        value = random.choice(_EDGES)
    elif roll < 0.65:
        place = random.choice([p for p in (7, 8, 15, 16, 31, 32, 63) if p <= width])
        value = (1 << place) + random.choice((-2, -1, 0, 1))
    elif roll < 0.75:
        value = -random.choice(_EDGES)
    else:
        value = random.getrandbits(width)
    return value & ((1 << width) - 1)
