"""No-operation bytes for alignment in code, in the sizes GNU as uses for generic CPUs."""

from __future__ import annotations

# Intel SDM 2B, NOP: the recommended multi-byte forms, longer ones by more 66h prefixes.
_LONG = [
    bytes.fromhex(text)
    for text in (
        "90",
        "6690",
        "0f1f00",
        "0f1f4000",
        "0f1f440000",
        "660f1f440000",
        "0f1f8000000000",
        "0f1f840000000000",
        "660f1f840000000000",
        "662e0f1f840000000000",
        "66662e0f1f840000000000",
    )
]
# Without NOPL: LEA of a register to itself.
_LEA_32 = [
    bytes.fromhex(text)
    for text in (
        "90",
        "6690",
        "8d7600",
        "8d742600",
        "2e8d742600",
        "8db600000000",
        "8db42600000000",
        "2e8db42600000000",
    )
]
_LEA_16 = [bytes.fromhex(text) for text in ("90", "89f6", "8d7400", "8db40000")]


def code_padding(size: int, mode: int) -> bytes:
    """`size` bytes of no-operations: as many of the longest as fit, then the rest."""
    table = {16: _LEA_16, 32: _LEA_32, 64: _LONG}[mode]
    longest = table[-1]
    count, rest = divmod(size, len(longest))
    return longest * count + (table[rest - 1] if rest else b"")
