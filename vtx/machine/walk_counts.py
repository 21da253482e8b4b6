"""How many references page walks make: one count per TLB miss.

Whoever walks notes here what a walk that found something cost. It does not know how walks go.
"""


class WalkCounts:
    """The walks of one CPU so far: how many, and their least, most and total references."""

    def __init__(self) -> None:
        self.misses = self.references = self.minimum = self.maximum = 0

    def note(self, count: int) -> None:
        """A walk found its page in `count` references."""
        self.misses += 1
        self.references += count
        self.minimum = min(self.minimum or count, count)
        self.maximum = max(self.maximum, count)

    def add(self, other: "WalkCounts") -> None:
        """Count the walks of another CPU too."""
        least = [counts.minimum for counts in (self, other) if counts.misses]
        self.minimum = min(least, default=0)
        self.maximum = max(self.maximum, other.maximum)
        self.misses += other.misses
        self.references += other.references

    def summary(self) -> dict[str, float]:
        """misses, and the minimum, maximum and mean number of references per miss."""
        mean = round(self.references / self.misses, 3) if self.misses else 0.0
        return {
            "misses": self.misses, "min": self.minimum, "max": self.maximum, "mean": mean,
        }  # fmt: skip
