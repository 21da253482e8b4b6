"""Bit layouts as values: named bit ranges, and taking a number apart along them.

Must not know which layout belongs to which exit or field.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from dataclasses import field as attribute


@dataclass(frozen=True, slots=True)
class Bits:
    """A named range of bits `hi:lo` of a value; `values` names some of its settings."""

    lo: int
    hi: int
    name: str
    meaning: str = ""
    values: dict[str, str] = attribute(default_factory=dict)

    @property
    def width(self) -> int:
        """Number of bits in the range."""
        return self.hi - self.lo + 1

    @property
    def mask(self) -> int:
        """The range as a mask in the whole value."""
        return ((1 << self.width) - 1) << self.lo

    def take(self, value: int) -> int:
        """The range's setting in `value`, shifted down to bit 0."""
        return (value & self.mask) >> self.lo

    def word(self, setting: int) -> str:
        """The name of a setting, or "" where the table gives none."""
        return self.values.get(str(setting), "")

    @property
    def span(self) -> str:
        """The range as the manuals write it: "7" or "10:8"."""
        return str(self.lo) if self.lo == self.hi else f"{self.hi}:{self.lo}"


def decode(layout: Iterable[Bits], value: int) -> dict[str, int]:
    """The setting of every range of `layout` in `value`, by name."""
    return {bits.name: bits.take(value) for bits in layout}
