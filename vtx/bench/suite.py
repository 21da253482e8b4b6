"""Kernels against contestants: how many iterations, rounds interleaved, seconds an iteration.

Every run is made twice a round, with few iterations and with many. The difference of the two
is what the iterations cost: starting a machine, a process or a translator drops out. A slow
moment of the host touches all contestants alike, because each round has a run of each.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from vtx.bench.contestant import Contestant, Run, RunError
from vtx.bench.image import KernelImage
from vtx.bench.kernels import BASELINE, PLAIN, Kernel

Images = Mapping[tuple[str, str], KernelImage]
"""By name and variant of the kernel."""
Progress = Callable[[int, int, str], None]
"""Called before each run: how many are done, of how many, what comes now."""

_MOST_ITERATIONS = 1 << 31
_FIRST_GUESS = 4
_MOST_GROWTH = 64
_MOST_PATIENCE = 5


@dataclass(frozen=True)
class Effort:
    """`seconds` a run of many iterations is to take; `rounds` of all runs."""

    seconds: float = 0.3
    rounds: int = 5


@dataclass(frozen=True)
class Lane:
    """One contestant on one variant of one kernel, with the iterations of its two runs."""

    image: KernelImage
    contestant: Contestant
    few: int
    many: int

    @property
    def label(self) -> str:
        variant = f" ({self.image.variant})" if self.image.variant else ""
        return f"{self.image.kernel.name}{variant} {self.contestant.name}"


@dataclass
class Row:
    """What came of a lane: seconds of one iteration, a sample for each round."""

    kernel: Kernel
    contestant: str
    variant: str
    iterations: int
    """Between the two runs of a round."""
    instructions: float | None
    """Guest instructions of one iteration, where one of vtx's runs counted them."""
    samples: list[float] = field(default_factory=list)
    problem: str | None = None
    """Why there are no samples, or none to be trusted."""

    @property
    def seconds(self) -> float | None:
        """Median seconds of an iteration; None without good samples, or lost in the noise."""
        if not self.samples or self.problem is not None:
            return None
        middle = median(self.samples)
        return middle if middle > 0 else None


@dataclass(frozen=True)
class Suite:
    """Everything measured, and what was left out: kernel, contestant, reason."""

    rows: list[Row]
    skipped: list[tuple[str, str, str]]


def run_suite(
    kernels: Sequence[Kernel],
    contestants: Sequence[Contestant],
    images: Images,
    effort: Effort,
    on_progress: Progress | None = None,
) -> Suite:
    """Measure every kernel with every contestant that takes it. What goes wrong is in the rows."""
    pairs = [(k, c) for k in kernels for c in contestants]
    skipped = [(k.name, c.name, why) for k, c in pairs if (why := c.refusal(k)) is not None]
    wanted = [
        (images[k.name, variant], c)
        for k, c in pairs
        if c.refusal(k) is None
        for variant in c.variants(k)
    ]
    ticker = _Ticker(len(wanted) * (1 + effort.rounds), on_progress)
    referee = _Referee()
    lanes: list[tuple[Lane, Row]] = []
    for image, contestant in wanted:
        ticker.tick(f"calibrating {image.kernel.name} {contestant.name}")
        lanes.append(_calibrated(image, contestant, effort, referee))
    for _ in range(effort.rounds):
        for lane, row in lanes:
            ticker.tick(lane.label)
            if row.problem is None:
                _sample(lane, row, referee)
    return Suite([row for _, row in lanes], skipped)


class _Ticker:
    """Tells how far it is."""

    def __init__(self, total: int, on_progress: Progress | None) -> None:
        self._done, self._total, self._on_progress = 0, total, on_progress

    def tick(self, what: str) -> None:
        if self._on_progress is not None:
            self._on_progress(self._done, self._total, what)
        self._done += 1


class _Referee:
    """Who computes otherwise than the others is out, however quick."""

    def __init__(self) -> None:
        self._checksums: dict[tuple[str, str, int], tuple[int, str]] = {}

    def check(self, lane: Lane, iterations: int, checksum: int) -> None:
        """Raises RunError when someone else got another checksum for the same work."""
        image = lane.image
        key = image.kernel.name, image.variant, iterations
        known, who = self._checksums.setdefault(key, (checksum, lane.contestant.name))
        if known != checksum:
            raise RunError(f"{lane.label}: checksum {checksum:#x}, but {who} has {known:#x}")


def _calibrated(
    image: KernelImage, contestant: Contestant, effort: Effort, referee: _Referee
) -> tuple[Lane, Row]:
    """A lane that takes about as long as it should. A slow contestant gets two iterations."""
    row = Row(image.kernel, contestant.name, image.variant, 0, None)
    if image.kernel.kind == "cold":
        return _with_iterations(Lane(image, contestant, 0, 1), row)
    lane = Lane(image, contestant, 1, _FIRST_GUESS)
    try:
        many = _iterations_for(lane, effort, referee)
    except RunError as error:
        row.problem = str(error)
        return lane, row
    return _with_iterations(Lane(image, contestant, max(1, many // 16), many), row)


def _iterations_for(lane: Lane, effort: Effort, referee: _Referee) -> int:
    """Iterations that take about the wished time: more and more until it can be measured."""
    _run(lane, 1, referee)  # whatever is slow the first time only
    start = _run(lane, 1, referee).seconds
    # What starting takes varies, too: it must not drown what the iterations take.
    wished = max(effort.seconds, min(start, _MOST_PATIENCE * effort.seconds))
    many = lane.many
    while True:
        seconds = _run(lane, many, referee).seconds - start
        if seconds >= wished / 4 or many >= _MOST_ITERATIONS:
            break
        growth = wished / max(seconds, wished / _MOST_GROWTH)
        many = min(int(many * growth), _MOST_ITERATIONS)
    return min(max(2, int(many * wished / max(seconds, 1e-9))), _MOST_ITERATIONS)


def _with_iterations(lane: Lane, row: Row) -> tuple[Lane, Row]:
    row.iterations = lane.many - lane.few
    return lane, row


def _run(lane: Lane, iterations: int, referee: _Referee) -> Run:
    """Raises RunError, also for a wrong checksum."""
    run = lane.contestant.run(lane.image, iterations)
    referee.check(lane, iterations, run.checksum)
    return run


def _sample(lane: Lane, row: Row, referee: _Referee) -> None:
    """Two runs, and the difference into the row."""
    try:
        few, many = _run(lane, lane.few, referee), _run(lane, lane.many, referee)
    except RunError as error:
        row.problem = str(error)
        return
    row.samples.append((many.seconds - few.seconds) / row.iterations)
    if many.retired is not None and few.retired is not None:
        row.instructions = (many.retired - few.retired) / row.iterations


def instructions_of(rows: Iterable[Row]) -> dict[tuple[str, str], float]:
    """Instructions of one iteration by kernel and variant: all who run a kernel retire as many."""
    return {
        (row.kernel.name, row.variant): row.instructions
        for row in rows
        if row.instructions is not None
    }


def event_seconds(rows: Sequence[Row], kernel: Kernel, contestant: str) -> float | None:
    """Seconds of one event: the kernel less the same without, for each event."""
    found = {
        row.variant: row.seconds
        for row in rows
        if row.kernel is kernel and row.contestant == contestant
    }
    plain, without = found.get(PLAIN), found.get(BASELINE)
    if plain is None or without is None:
        return None
    difference = (plain - without) / kernel.events
    return difference if difference > 0 else None  # lost in the noise
