"""Memory sizes as people write them. Must not know what the memory is for."""

from __future__ import annotations

import re
from typing import Any

import click

FACTORS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
GRAIN = 4096
"""Memory comes in pages of 4 KiB."""


class SizeType(click.ParamType[int]):
    """64M, 1G, 512K, 0x4000000 or 67108864 -> bytes."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"(0x[0-9a-fA-F]+|[0-9]+)([KMGT]?)(i?B)?", str(value), re.IGNORECASE)
        if not found:
            self.fail(f"{value!r} is no size; write 64M, 1G or a number of bytes", param, ctx)
        size = int(found[1], 0 if found[1].lower().startswith("0x") else 10)
        size *= FACTORS[found[2].upper()]
        if size < 1 << 20:
            hint = f"; did you mean {value}M?" if not found[2] and 0 < size < GRAIN else ""
            self.fail(f"{value} is less than 1M{hint}", param, ctx)
        if size % GRAIN:
            self.fail(f"{value} is not a multiple of 4K", param, ctx)
        return size


SIZE = SizeType()


def in_words(size: int) -> str:
    """`size` in the largest unit that keeps it whole: "64M"."""
    for unit in "TGMK":
        if size and size % FACTORS[unit] == 0:
            return f"{size // FACTORS[unit]}{unit}"
    return str(size)
