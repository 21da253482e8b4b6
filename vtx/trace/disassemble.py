"""One instruction as Intel syntax text, the way traces and views spell it.

Must not know where the bytes come from; iced-x86 decodes and formats.
"""

from functools import cache

from iced_x86 import Decoder, Formatter, FormatterSyntax

MAX_LENGTH = 15
"""The longest instruction the architecture allows, in bytes."""


@cache
def _formatter() -> Formatter:
    formatter = Formatter(FormatterSyntax.INTEL)
    formatter.hex_prefix = "0x"
    formatter.hex_suffix = ""
    formatter.uppercase_hex = False
    formatter.space_after_operand_separator = True
    formatter.branch_leading_zeros = False
    formatter.small_hex_numbers_in_decimal = False
    return formatter


def disassemble(code: bytes, rip: int, bitness: int = 64) -> tuple[int, str]:
    """Length in bytes and text of the first instruction in `code`, which stands at `rip`.

    bitness is 16, 32 or 64 (CS.D and CS.L). (0, "(bad)") where the bytes are no whole
    instruction.
    """
    instruction = Decoder(bitness, code[:MAX_LENGTH], ip=rip & (1 << 64) - 1).decode()
    if instruction.is_invalid:
        return 0, "(bad)"
    return instruction.len, _formatter().format(instruction)
