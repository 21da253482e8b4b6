"""Runs many cases of every form past two executors and collects where they differ."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

from oracle_case import CODE, CODE_16, CODE_16_SIZE, CODE_SIZE, Case, Outcome
from oracle_forms import Instance, forms, instance
from oracle_states import case

_SPACING = 128


@dataclass(slots=True)
class Tally:
    """How much ran, and what disagreed."""

    forms: int = 0
    instances: int = 0
    examples: int = 0
    faults: int = 0
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.forms} forms, {self.instances} instances, {self.examples} examples, "
            f"{self.faults} of them faults"
        )

    def report(self) -> str:
        """The first few disagreements."""
        return f"{len(self.failures)} disagreements\n" + "\n".join(self.failures[:8])


@dataclass(frozen=True, slots=True)
class Size:
    """How many instances of each form, and states of each instance."""

    instances: int
    states: int
    seed: int = 1


def instances(bits: int, size: Size, *, host: bool = False) -> Iterator[Instance]:
    """Instances of every form, each at a fresh address."""
    random = Random(size.seed)
    start, size_of_code = (CODE_16, CODE_16_SIZE) if bits == 16 else (CODE, CODE_SIZE)
    ip = start
    for code in forms(bits):
        for _ in range(size.instances):
            ip += _SPACING
            if ip >= start + size_of_code:
                ip = start
            yield instance(code, bits, ip, random, host=host)


def run(
    bits: int,
    size: Size,
    check: Callable[[Case], tuple[Outcome, list[str]] | None],
    *,
    host: bool = False,
    wanted: Callable[[Instance], bool] = lambda one: True,
) -> Tally:
    """`check` every case; it gives our outcome and the differences, or None to leave it out."""
    tally, random = Tally(), Random(size.seed + 1)
    ran: set[str] = set()
    for one in instances(bits, size, host=host):
        if not wanted(one):
            continue
        tally.instances += 1
        for _ in range(size.states):
            example = case(one, random)
            answer = check(example)
            if answer is None:
                continue
            outcome, found = answer
            tally.examples += 1
            tally.faults += outcome.fault is not None
            ran.add(one.form)
            if found:
                tally.failures.append(f"{example}\n  {'; '.join(found)}")
    tally.forms = len(ran)
    return tally
