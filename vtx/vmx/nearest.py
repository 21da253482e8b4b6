"""The nearest field values with which a broken VM-entry rule would hold.

Nothing here knows a rule: candidates come from the value itself (one bit changed, cut, rounded,
extended) and from the numbers that stand in the rule's own predicate; each is tried on the
predicate, then drawn as close to the present value as the rule lets it. Where no one field can
mend the rule without breaking another, its conjuncts are mended field by field.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import combinations, product

from vtx.spec import SpecError
from vtx.spec import field as vmcs_field
from vtx.vmx.predicate import Memory, Predicate

Changes = dict[str, int]
"""VMCS field -> new value."""

SHOWN = 3
_BITS_FOR_NEARNESS = 3
"""A value nearer as a number is worth showing if it changes at most so many bits more."""
_PAIRED_FIELDS = 4
"""A rule over more fields than these is not searched for pairs of single bits."""


def nearest(
    rule: Predicate,
    values: Mapping[str, int],
    memory: Memory,
    harm: Callable[[Changes], int] = lambda changes: 0,
) -> tuple[Changes, ...]:
    """Up to three changes, best first, after which the rule holds.

    Best: the fewest other rules newly broken (`harm` counts them), then the fewest fields, then
    the fewest bits. Empty where the search finds nothing.
    """
    return _Search(rule, values, memory, harm).found()


def candidates(rule: Predicate, values: Mapping[str, int], name: str) -> tuple[int, ...]:
    """Values of the field `name` worth a try, without the one it has, in no particular order."""
    width, value = rule.inputs[name], values.get(name, 0)
    full = (1 << width) - 1
    constants = sorted(number & full for number in rule.constants)
    found = {value ^ 1 << n for n in range(width)}
    for n in range(width):
        low = (1 << n) - 1
        found |= {value & low, (value | ~low) & full, value & ~low, (value | low) + 1 & full}
    for number in constants:
        found |= {number, value & number, value & ~number, value | number, number + 1 & full}
    found |= {(value | must) & may for must, may in product(constants, repeat=2)}
    for other in rule.inputs:
        for shift in (0, *(number for number in constants if number < width)):
            found.add(values.get(other, 0) << shift & full)
    return tuple(sorted(found - {value}))


class _Search:
    """One broken rule on one set of values."""

    def __init__(
        self,
        rule: Predicate,
        values: Mapping[str, int],
        memory: Memory,
        harm: Callable[[Changes], int],
    ) -> None:
        self._rule, self._values, self._memory, self._harm = rule, values, memory, harm
        self._fields = [name for name in rule.inputs if _is_field(name)]

    def found(self) -> tuple[Changes, ...]:
        changes = [{name: value} for name in self._fields for value in self._alone(name)]
        harmless = [change for change in changes if self._harm(change) == 0]
        if harmless:
            changes = harmless
        else:
            together = self._together()
            if together is not None and together not in changes:
                changes.append(together)
        if not changes:
            changes = list(self._pairs())
        return tuple(sorted(changes, key=self._cost)[:SHOWN])

    # --- measures ----------------------------------------------------------------------------
    def _present(self, name: str) -> int:
        return self._values.get(name, 0)

    def _passes(self, changes: Changes) -> bool:
        return self._rule.holds({**self._values, **changes}, self._memory)

    def _bits(self, changes: Changes) -> int:
        return sum((value ^ self._present(name)).bit_count() for name, value in changes.items())

    def _cost(self, changes: Changes) -> tuple[int, int, int, int, int]:
        """The later a rule reads a field, the nearer that field is to what the rule is about."""
        order = list(self._rule.inputs)
        distance = sum(abs(value - self._present(name)) for name, value in changes.items())
        last_read = max(order.index(name) for name in changes)
        return self._harm(changes), len(changes), self._bits(changes), -last_read, distance

    # --- one field ---------------------------------------------------------------------------
    def _alone(self, name: str) -> Iterator[int]:
        """The values of one field that mend the rule: nearest in bits, nearest as a number."""
        present = self._present(name)
        passing = [v for v in candidates(self._rule, self._values, name) if self._passes({name: v})]
        if not passing:
            return
        few_bits = self._few_bits(name, self._harmless(name, passing), {})
        yield few_bits
        near = self._near(name, min(passing, key=lambda value: abs(value - present)))
        more_bits = (near ^ present).bit_count() - (few_bits ^ present).bit_count()
        if near != few_bits and (more_bits <= _BITS_FOR_NEARNESS or abs(near - present) == 1):
            yield near

    def _harmless(self, name: str, passing: list[int]) -> int:
        """The value with the fewest bits changed among those that break least else."""
        present, least = self._present(name), -1
        best = passing[0]
        for value in sorted(passing, key=lambda value: ((value ^ present).bit_count(), value)):
            harm = self._harm({name: value})
            if least < 0 or harm < least:
                best, least = value, harm
            if harm == 0:
                break
        return best

    def _few_bits(self, name: str, value: int, others: Changes) -> int:
        """`value` with every changed bit put back that neither this rule nor another needs."""
        harm = self._harm({**others, name: value})
        before = -1
        while before != value:
            before = value
            difference = value ^ self._present(name)
            while difference:
                bit = 1 << difference.bit_length() - 1
                closer = {**others, name: value ^ bit}
                if self._passes(closer) and self._harm(closer) <= harm:
                    value ^= bit
                difference ^= bit
        return value

    def _near(self, name: str, passing: int) -> int:
        """A passing value beside one that does not pass, between the present one and `passing`."""
        failing = self._present(name)
        while abs(passing - failing) > 1:
            middle = (passing + failing) // 2
            if self._passes({name: middle}):
                passing = middle
            else:
                failing = middle
        return passing

    # --- several fields ----------------------------------------------------------------------
    def _together(self) -> Changes | None:
        """Mend one conjunct after the other, each time by the change that does least else."""
        changes: Changes = {}
        while not self._passes(changes):
            step = self._next_step(changes)
            if step is None:
                return None
            changes |= step
        for name in list(changes):
            without = {other: value for other, value in changes.items() if other != name}
            if self._passes(without):
                changes = without
        for name in changes:
            changes[name] = self._few_bits(name, changes[name], changes)
        return changes

    def _next_step(self, changes: Changes) -> Changes | None:
        """One more field changed so that more conjuncts hold than before."""
        now = {**self._values, **changes}
        held = self._rule.conjuncts_held(now, self._memory)
        better = [
            {name: value}
            for name in self._fields
            for value in candidates(self._rule, now, name)
            if self._rule.conjuncts_held({**now, name: value}, self._memory) > held
        ]
        if not better:
            return None
        return min(better, key=lambda step: (self._harm({**changes, **step}), self._bits(step)))

    def _pairs(self) -> Iterator[Changes]:
        """One bit in each of two fields."""
        if len(self._fields) > _PAIRED_FIELDS:
            return
        for one, other in combinations(self._fields, 2):
            bits = product(range(self._rule.inputs[one]), range(self._rule.inputs[other]))
            for low, high in bits:
                changes = {
                    one: self._present(one) ^ 1 << low, other: self._present(other) ^ 1 << high,
                }  # fmt: skip
                if self._passes(changes):
                    yield changes
                    break


def _is_field(name: str) -> bool:
    """Whether an input of a rule is a VMCS field, which software may change, and not CPU state."""
    try:
        vmcs_field(name)
    except SpecError:
        return False
    return True
