"""No-operation bytes for alignment in code, in the patterns GNU as uses for generic CPUs."""

from __future__ import annotations

# Intel SDM 2B, NOP: the recommended multi-byte forms, longer ones by more 66h prefixes.
_NOPL = (
    "90 6690 0f1f00 0f1f4000 0f1f440000 660f1f440000 0f1f8000000000 0f1f840000000000 "
    "660f1f840000000000 662e0f1f840000000000 66662e0f1f840000000000"
)
# Processors without NOPL get LEA of a register to itself.
_LEA_32 = "90 6690 8d7600 8d742600 8d74260090 8db600000000 8db42600000000"
_LEA_16 = "90 6690 8d7400 8db40000"

# mode: (patterns by length, how many of the longest are run through before jumping over)
_STYLES = {
    mode: ([bytes.fromhex(text) for text in texts.split()], most)
    for mode, texts, most in ((64, _NOPL, 7), (32, _LEA_32, 2), (16, _LEA_16, 2))
}


def code_padding(size: int, mode: int) -> bytes:
    """`size` bytes of no-operations; long stretches begin with a jump over the rest."""
    patterns, most = _STYLES[mode]
    longest = patterns[-1]
    jump = b""
    if size // len(longest) > most:
        jump = _jump(size, mode)
    count, rest = divmod(size - len(jump), len(longest))
    return jump + longest * count + (patterns[rest - 1] if rest else b"")


def _jump(size: int, mode: int) -> bytes:
    if size - 2 <= 127:
        return bytes([0xEB, size - 2])
    opcode = b"\x66\xe9" if mode == 16 else b"\xe9"
    return opcode + (size - len(opcode) - 4).to_bytes(4, "little")
