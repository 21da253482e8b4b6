"""How many guest instructions per second the reference engine retires.

Every combination of guest, style and reader of the algebra is run once per round, the rounds
interleaved so that a slow moment of the host touches all rows alike; a row's figure is its
median. Seconds are the CPU time of this process. It does not know how a guest is assembled.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from time import process_time

from vtx.vmm.launch import RunOptions, drive, launch

STYLES = ("bare", "ept", "shadow")
READERS = ("reference", "evaluate")
"""The quick path, and the plain evaluator."""
EVALUATED = 20_000
"""Instructions the evaluator runs of a guest: it needs no warm-up, and time is dear."""

Progress = Callable[[int, int, str], None]
"""Called before each run: how many are done, of how many, what comes now."""


@dataclass(frozen=True)
class Row:
    """One combination and its runs, a speed per round."""

    guest: str
    style: str
    reader: str
    retired: int
    speeds: tuple[float, ...]
    """Instructions per second of CPU time."""

    @property
    def speed(self) -> float:
        """Median of the rounds."""
        return median(self.speeds)

    @property
    def spread(self) -> float:
        """Difference of the fastest and the slowest round as a part of the median."""
        return (max(self.speeds) - min(self.speeds)) / self.speed


def measure(
    images: Mapping[str, bytes],
    *,
    rounds: int,
    styles: Sequence[str] = STYLES,
    readers: Sequence[str] = READERS,
    on_progress: Progress | None = None,
) -> list[Row]:
    """Run every guest of `images` in every style with every reader, `rounds` times over."""
    places = [(g, s, r) for r in readers for g in images for s in styles]
    speeds: dict[tuple[str, str, str], list[float]] = {place: [] for place in places}
    retired: dict[tuple[str, str, str], int] = {}
    for number in range(rounds):
        for index, place in enumerate(places):
            guest, style, reader = place
            if on_progress is not None:
                done = number * len(places) + index
                on_progress(done, rounds * len(places), f"{guest} {style} {reader}")
            count, seconds = _timed(images[guest], guest, style, reader)
            retired[place] = count
            speeds[place].append(count / seconds)
    return [Row(*place, retired[place], tuple(speeds[place])) for place in places]


def _timed(image: bytes, guest: str, style: str, reader: str) -> tuple[int, float]:
    """Instructions retired by one run, and its seconds; loading the image is not counted."""
    launched = launch(RunOptions(image=image, image_name=guest, style=style, engine=reader))
    started = process_time()
    drive(launched.session, EVALUATED if reader == "evaluate" else None)
    return launched.session.retired, max(process_time() - started, 1e-9)
