"""From instruction bytes to programs, and from programs to blocks.

A program depends only on the bytes, the translation key and the CPU's features, so it is kept
for the whole process. What memory holds the bytes, and how the block is run, is not known.
"""

from collections import OrderedDict
from dataclasses import dataclass

from iced_x86 import Decoder, DecoderError, DecoderOptions
from iced_x86 import Instruction as Decoded

from vtx.isa.builder import Builder
from vtx.isa.features import meaning_of
from vtx.isa.instruction import SEMANTICS, UD, translate
from vtx.isa.key import Key
from vtx.isa.program import Program

_MOST_PROGRAMS = 20_000
LONGEST = 15
"""Bytes of the longest legal instruction (SDM 2A, Instruction Format)."""


@dataclass(frozen=True, slots=True)
class Translated:
    """An instruction's program and its length in bytes (of what is none: all that matter)."""

    program: Program
    length: int
    ends_block: bool
    repeats: bool = False
    """A string instruction with a repeat prefix: it jumps to itself between two iterations."""


_programs: OrderedDict[tuple[bytes, Key, frozenset[str]], Translated] = OrderedDict()


def decode(code: bytes, bits: int) -> Decoded | None:
    """The instruction at the start of `code`, or None where more bytes are needed."""
    decoder = Decoder(bits, code[:LONGEST], DecoderOptions.NONE)
    decoded = decoder.decode()
    if decoder.last_error == DecoderError.NO_MORE_BYTES and len(code) < LONGEST:
        return None
    return decoded


def translate_bytes(code: bytes, key: Key, features: frozenset[str]) -> Translated | None:
    """The program of the instruction at the start of `code`; None: more bytes are needed."""
    decoded = decode(code, key.bits)
    if decoded is None:
        return None
    length = decoded.len if decoded.is_invalid is False else min(len(code), LONGEST)
    known_as = (code[:length], key, features)
    known = _programs.get(known_as)
    if known is None:
        known = _translate(decoded, code, key, features)
        _programs[known_as] = known
        if len(_programs) > _MOST_PROGRAMS:
            _programs.popitem(last=False)
    return known


def _translate(decoded: Decoded, code: bytes, key: Key, features: frozenset[str]) -> Translated:
    if decoded.is_invalid:
        # Any of the bytes the decoder may look at decides that there is no instruction.
        return Translated(_invalid(code, key), min(len(code), LONGEST), True)
    mnemonic = meaning_of(decoded, features)
    if mnemonic not in SEMANTICS:
        return Translated(_fault_program("undefined", UD, None), decoded.len, True)
    program = translate(decoded, key, mnemonic)
    ends = program.alone or program.resync or not _only_falls_through(program)
    repeats = decoded.is_string_instruction and (decoded.has_rep_prefix or decoded.has_repne_prefix)
    return Translated(program, decoded.len, ends, repeats)


def _invalid(code: bytes, key: Key) -> Program:
    """An undefined opcode is #UD; more than 15 bytes are #GP(0)."""
    decoder = Decoder(key.bits, bytes(code[:LONGEST]) + bytes(LONGEST))
    decoder.decode()
    prefixes = len(code) >= LONGEST and all(b in _PREFIXES for b in code[: LONGEST - 1])
    if prefixes:
        return _fault_program("too long", 13, 0)
    return _fault_program("undefined", UD, None)


_PREFIXES = frozenset(b"\x26\x2e\x36\x3e\x64\x65\x66\x67\xf0\xf2\xf3")


def _fault_program(name: str, vector: int, error: int | None) -> Program:
    builder = Builder(name)
    builder.fault(vector, error)
    return builder.program()


def _only_falls_through(program: Program) -> bool:
    """The one NEXT is the last op: the following instruction may share the block."""
    nexts = sum(op.prim.name in ("NEXT", "JUMP") for op in program.ops)
    return nexts == 1 and program.ops[-1].prim.name == "NEXT"
