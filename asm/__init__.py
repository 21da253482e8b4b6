"""asm: an assembler for GNU as compatible Intel syntax."""
