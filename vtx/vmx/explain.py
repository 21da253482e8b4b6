"""Every VM-entry rule that a VMCS breaks: its fields, the rule in words, what would pass.

The rules are the ones VM entry itself is made of (vtx.vmx.checks). Works on plain numbers, so
it serves a VMCS from anywhere: a file, another hypervisor, the CPU's own current one. Must not
know where the numbers came from or how they are shown.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from vtx.spec import SpecError, VmcsField, instruction_error
from vtx.spec import field as vmcs_field
from vtx.spec import profile as profile_row
from vtx.vmx.checks import Check, NumberView, checks
from vtx.vmx.nearest import Changes, nearest
from vtx.vmx.predicate import Memory, Predicate, predicate_of

IA32E_HOST = 0x500
"""IA32_EFER of a CPU in IA-32e mode, as that of nearly every hypervisor is."""
_NO_LINK = (1 << 64) - 2
"""Taken as the current-VMCS pointer where it is not known: no link pointer is equal to it."""


@dataclass(frozen=True)
class BrokenCheck:
    """One rule that the VMCS breaks."""

    check: Check
    fields: dict[str, int]
    """The VMCS fields the rule reads, in its order."""
    state: dict[str, int]
    """The CPU state it reads."""
    memory: dict[int, tuple[int, int]]
    """The physical memory it reads: address -> (width in bits, value)."""
    nearest: tuple[Changes, ...]
    """The nearest values with which it would hold, best first; each was tried."""

    @property
    def id(self) -> str:
        return self.check.id

    def as_dict(self) -> dict[str, Any]:
        """For JSON; 64-bit numbers as text, because many readers would round them."""
        row = self.check.row
        return {
            "id": row.id,
            "stage": row.stage,
            "rule": row.text,
            "result": row.result,
            "see": row.see,
            "fields": _as_hex(self.fields),
            "state": _as_hex(self.state),
            "memory": {f"{hpa:#x}": f"{value:#x}" for hpa, (_, value) in self.memory.items()},
            "nearest": [_as_hex(change) for change in self.nearest],
        }


def _as_hex(numbers: Mapping[str, int]) -> dict[str, str]:
    return {name: f"{number:#x}" for name, number in numbers.items()}


def explain(
    vmcs: Mapping[str | int, int],
    *,
    profile: str = "haswell",
    efer: int = IA32E_HOST,
    vmcs_pointer: int | None = None,
    memory: Memory | Mapping[int, bytes] | None = None,
) -> tuple[BrokenCheck, ...]:
    """Every VM-entry rule that these field values break, in the order of the manual.

    `vmcs`: values by field name or encoding; a field that is left out is 0, and a negative value
    stands for its two's complement. `profile`: the CPU profile; `efer`: IA32_EFER of the CPU that
    executes VMLAUNCH; `vmcs_pointer`: where the VMCS itself is. `memory`: what some rules look at
    in physical memory, as bytes by address or as a function of width in bits and address; the
    rest of memory is 0. Raises SpecError for a field, value or profile that cannot be.
    """
    values = field_values(vmcs)
    values["efer"] = efer
    values["vmcs_pointer"] = _NO_LINK if vmcs_pointer is None else vmcs_pointer
    return tuple(broken_checks(values, profile_row(profile).name, _reader(memory)))


def field_values(vmcs: Mapping[str | int, int]) -> dict[str, int]:
    """Values by field name from values by name or encoding, high halves put in their place."""
    values: dict[str, int] = {}
    for key, number in vmcs.items():
        row = vmcs_field(key)
        if is_high_half(row, key):
            low = values.get(row.name, 0) & 0xFFFF_FFFF
            values[row.name] = low | _fitting(key, number, 32) << 32
        else:
            values[row.name] = _fitting(key, number, row.bits)
    return values


def is_high_half(row: VmcsField, key: str | int) -> bool:
    """Whether `key` is the encoding that reaches bits 63:32 of the field alone."""
    try:
        number = key if isinstance(key, int) else int(key, 0)
    except ValueError:
        return False
    return number == row.high_encoding


def _fitting(key: str | int, number: int, bits: int) -> int:
    if not -(1 << bits - 1) <= number < 1 << bits:
        name = f"{key:#x}" if isinstance(key, int) else key
        raise SpecError(f"{name} = {number:#x} does not fit into {bits} bits")
    return number & (1 << bits) - 1


def _reader(memory: Memory | Mapping[int, bytes] | None) -> Memory:
    if callable(memory):
        return memory
    known = {
        start + n: byte for start, chunk in (memory or {}).items() for n, byte in enumerate(chunk)
    }

    def read(width: int, hpa: int) -> int:
        return int.from_bytes(bytes(known.get(hpa + n, 0) for n in range(width // 8)), "little")

    return read


def broken_checks(
    values: Mapping[str, int], profile: str, memory: Memory, search: int | None = None
) -> Iterator[BrokenCheck]:
    """The rules that these values break, one after the other; `values` has CPU state too.

    What would pass is searched for the first `search` of them (None: for all).
    """
    holding = {
        rule.id: predicate
        for rule, predicate in _predicates(profile)
        if predicate.holds(values, memory)
    }

    def harm(changes: Changes) -> int:
        """How many rules that hold now would not, after the changes."""
        changed = {**values, **changes}
        touched = {check for name in changes for check in _readers(profile).get(name, ())}
        return sum(
            not holding[check].holds(changed, memory) for check in touched if check in holding
        )

    broken = [pair for pair in _predicates(profile) if pair[0].id not in holding]
    for number, (rule, predicate) in enumerate(broken):
        wanted = search is None or number < search
        found = nearest(predicate, values, memory, harm) if wanted else ()
        shown = {name: values.get(name, 0) for name in predicate.inputs}
        yield BrokenCheck(
            check=rule,
            fields={name: number for name, number in shown.items() if name.isupper()},
            state={name: number for name, number in shown.items() if not name.isupper()},
            memory=predicate.loads(values, memory),
            nearest=tuple(c for c in found if _holds_after(rule, c, values, profile, memory)),
        )


def _holds_after(
    rule: Check, changes: Changes, values: Mapping[str, int], profile: str, memory: Memory
) -> bool:
    """The registered predicate itself, and not the program the search worked on, says so."""
    return NumberView({**values, **changes}, profile, memory).holds(rule)


@cache
def _predicates(profile: str) -> tuple[tuple[Check, Predicate], ...]:
    return tuple((rule, predicate_of(rule, profile)) for rule in checks() if rule.reachable)


@cache
def _readers(profile: str) -> Mapping[str, tuple[str, ...]]:
    """VMCS field -> the ids of the rules that read it."""
    found: dict[str, tuple[str, ...]] = {}
    for rule, predicate in _predicates(profile):
        for name in predicate.inputs:
            found[name] = (*found.get(name, ()), rule.id)
    return found


def result_in_words(rule: Check) -> str:
    """What VM entry does when this is the first rule broken."""
    number = rule.row.error_number
    if number is None:
        return rule.row.result
    return f"{rule.row.result}: {instruction_error(number).meaning}"
