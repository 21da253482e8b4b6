"""Many generated programs in one process, with their count on a file.

Several processes share a campaign by seeds: each gets a range of its own and a file of its own.
"""

import gc
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from lockstep_generate import generate
from lockstep_places import MODES
from lockstep_program import Program

_MOST_SLICES = 80
"""Of one program: all state is compared behind each, and a block that a slice cuts short is
translated once more for it. Programs of one-instruction slices would take most of the time."""
_TELL_EVERY = 500

Explain = Callable[[Program], str | None]
"""What differs when a program is run on two engines; None when nothing does."""


def brief(program: Program) -> Program:
    """The program with no more than `_MOST_SLICES` slices, about."""
    mean = sum(program.budgets) / len(program.budgets)
    return replace(program, most=min(program.most, max(40, int(_MOST_SLICES * mean))))


@dataclass(slots=True)
class Campaign:
    """The programs of the seeds from `first` on. The file at `log`, if any, always has the count
    of those that were run, and what was found."""

    what: str
    first: int
    many: int
    explain: Explain
    settle: Callable[[], None] = lambda: None
    """Called once, after the first programs."""
    log: Path | None = None
    found: list[str] = field(default_factory=list)
    done: int = 0

    def run(self) -> list[str]:
        """What diverges, as texts."""
        start, names = time.monotonic(), list(MODES)
        # What was imported and translated at the start stays; looking through it costs time.
        gc.collect()
        gc.freeze()
        for number in range(self.first, self.first + self.many):
            text = self.explain(brief(generate(number, names[number % len(names)])))
            self.done += 1
            if text is not None:
                self.found.append(text)
                self._tell(text)
            if self.done == _TELL_EVERY:
                self.settle()
            if self.done % _TELL_EVERY == 0 or self.done == self.many:
                self._tell(self._progress(time.monotonic() - start))
        gc.unfreeze()
        return self.found

    def _progress(self, seconds: float) -> str:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        return (
            f"{time.strftime('%H:%M:%S')} {self.what}: {self.done} of {self.many} programs, seeds "
            f"{self.first} to {self.first + self.done - 1}, {len(self.found)} diverge, "
            f"{1000 * seconds / self.done:.1f} ms each, peak {peak} MiB"
        )

    def _tell(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)
        if self.log is not None:
            with self.log.open("a") as file:
                file.write(line + "\n")
