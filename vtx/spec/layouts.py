"""Bit layouts as values: named bit ranges, and taking a number apart along them.

Must not know which layout belongs to which exit or field.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from dataclasses import field as attribute


@dataclass(frozen=True, slots=True)
class Bits:
    """A named range of bits `hi:lo` of a value.

    values: names of settings, by number as text. text: how the range reads in words. when: the
    range means something only where other ranges have one of these settings.
    """

    lo: int
    hi: int
    name: str
    meaning: str = ""
    values: dict[str, str] = attribute(default_factory=dict)
    values_of: str = ""
    text: str = ""
    when: dict[str, tuple[int, ...]] = attribute(default_factory=dict)

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

    def words(self, setting: int) -> str:
        """The setting in words; "" where there is nothing to say (a flag that is 0)."""
        named = self.word(setting)
        if named or str(setting) in self.values:
            return self.text.format(named) if named else ""
        if self.text and (self.width > 1 or self.values):
            return self.text.format(setting)
        if self.width == 1:
            return (self.text or self.name.replace("_", " ")) if setting else ""
        return f"{self.name.replace('_', ' ')} {setting:#x}"


def decode(layout: Iterable[Bits], value: int) -> dict[str, int]:
    """The setting of every range of `layout` in `value`, by name."""
    return {bits.name: bits.take(value) for bits in layout}


def in_words(layout: Iterable[Bits], value: int) -> str:
    """`value` taken apart along `layout` as words: "write, writable, gva valid"."""
    ranges = tuple(layout)
    settings = decode(ranges, value)
    said = [
        bits.words(settings[bits.name])
        for bits in ranges
        if all(settings[name] in allowed for name, allowed in bits.when.items())
    ]
    return ", ".join(words for words in said if words)
