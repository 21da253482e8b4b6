"""Do the styles agree? Run one guest in several and hold their ends against each other.

What must be equal is Popek and Goldberg's fidelity: console, memory with accessed and dirty
flags, registers as the guest reads them, retired instructions, exit status. Where two styles
differ, the first instruction after which they do is found by bisection: both are run again,
stopping at ever closer places.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from vtx.vmm.exit_sequences import ExitAlignment, ExitSequence, align_exits
from vtx.vmm.launch import (
    Launched,
    RunOptions,
    RunResult,
    check_styles,
    drive,
    finish,
    launch,
)
from vtx.vmm.session import Session

Progress = Callable[[str, int], None]
"""Called with a style's name and the instructions it has retired."""

_STEPS = 16
"""Places looked at in each round of the bisection."""
_MOST_SHOWN = 4


@dataclass(frozen=True)
class Difference:
    """Something that two styles do not agree on."""

    where: str
    """The two styles, `bare/shadow`."""
    what: str
    first_retired: int | None
    """Number of retired instructions after which the two first differ; None where they
    differ only in how they ended."""


@dataclass(frozen=True)
class Comparison:
    """The runs, in the order asked for, and where they differ from the first."""

    runs: list[RunResult]
    differences: list[Difference]
    exits: list[ExitAlignment] = field(default_factory=list)
    """Where it was asked for: each VMM's exits beside those of the first VMM."""

    @property
    def same(self) -> bool:
        return not self.differences


def compare(
    options: RunOptions,
    styles: list[str],
    on_progress: Progress | None = None,
    *,
    with_exits: bool = False,
) -> Comparison:
    """Run `options` in every style, and align the VMMs' exits if asked to (which takes as long
    as tracing). Raises LaunchError when a style cannot be started."""
    check_styles(options, styles)
    runs: list[RunResult] = []
    sequences = [ExitSequence() for _ in styles]
    for style, sequence in zip(styles, sequences, strict=True):
        launched = launch(replace(_for(options, style), trace=sequence if with_exits else None))
        report = _reporter(launched.style, on_progress)
        ending = drive(launched.session, options.max_instructions, report)
        runs.append(finish(launched, ending, None))
    differences: list[Difference] = []
    for run in runs[1:]:
        found = _ends_differ(runs[0], run)
        if found:
            first = _first_divergence(options, runs[0], run)
            pair = f"{runs[0].style}/{run.style}"
            differences += [Difference(pair, what, first) for what in found]
    return Comparison(runs, differences, _aligned(runs, sequences) if with_exits else [])


def _aligned(runs: list[RunResult], sequences: list[ExitSequence]) -> list[ExitAlignment]:
    """Every VMM's exits beside the first one's; the bare machine has none."""
    vmms = [
        (run.style, sequence.keys)
        for run, sequence in zip(runs, sequences, strict=True)
        if run.style != "bare"
    ]
    return [align_exits(f"{vmms[0][0]}/{name}", vmms[0][1], keys) for name, keys in vmms[1:]]


def _for(options: RunOptions, style: str) -> RunOptions:
    return replace(options, style=style, console=None, trace=None, on_progress=None)


def _reporter(style: str, on_progress: Progress | None) -> Callable[[int], None] | None:
    if on_progress is None:
        return None
    return lambda retired: on_progress(style, retired)


def _ends_differ(a: RunResult, b: RunResult) -> list[str]:
    """What differs between two finished runs, a line each."""
    found = []
    for name in ("ended", "exit_status", "retired", "memory_sha256"):
        left, right = getattr(a, name), getattr(b, name)
        if left != right:
            found.append(f"{name}: {left} and {right}")
    if a.console != b.console:
        found.append(f"console: {_first_difference(a.console, b.console)}")
    changed = [name for name in a.registers if a.registers[name] != b.registers[name]]
    for name in changed[:_MOST_SHOWN]:
        found.append(f"register {name}: {a.registers[name]:#x} and {b.registers[name]:#x}")
    if len(changed) > _MOST_SHOWN:
        found.append(f"and {len(changed) - _MOST_SHOWN} more registers")
    return found


def _first_difference(a: bytes, b: bytes) -> str:
    at = next(
        (n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )
    return f"byte {at}: {a[at : at + 16]!r} and {b[at : at + 16]!r}"


# --- bisection -------------------------------------------------------------------------------


def _first_divergence(options: RunOptions, a: RunResult, b: RunResult) -> int | None:
    """The number of retired instructions after which the two styles first differ."""
    low, high = 0, min(a.retired, b.retired)
    while high - low > 1:
        places = _places(low, high)
        left, right = (launch(_for(options, run.style)) for run in (a, b))
        agreed = low
        for place in places:
            if not _same_at(left, right, place):
                low, high = agreed, place
                break
            agreed = place
        else:
            return None if agreed == min(a.retired, b.retired) else high
    return high


def _places(low: int, high: int) -> list[int]:
    """Up to _STEPS numbers in (low, high], evenly spread, `high` the last."""
    count = min(_STEPS, high - low)
    return [low + (high - low) * (n + 1) // count for n in range(count)]


def _same_at(left: Launched, right: Launched, place: int) -> bool:
    """Run both on to `place` retired instructions and compare what they are then."""
    ends = [launched.session.run(place) for launched in (left, right)]
    if (ends[0] is None) != (ends[1] is None):
        return False
    return _digest(left.session) == _digest(right.session) and left.console == right.console


def _digest(session: Session) -> tuple[int, str, tuple[tuple[str, int], ...]]:
    registers = tuple(sorted(session.registers().items()))
    return session.retired, session.memory_sha256(), registers
