"""VM-entry checks as named predicates: the registry, and what a predicate may look at.

A predicate takes a `View` of the fields and writes a pure expression of the algebra that is 1
where the rule holds. From this one definition the entry routine is generated, a failing check
is explained (`violated`), and a rule can be broken on purpose. A predicate must not use `if_`,
so that every view can evaluate it. The ids and words of the rules are in `spec`.
Source: SDM 3C, VM Entries.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Protocol

from vtx.isa.builder import Builder, Value
from vtx.isa.layout import SLOTS
from vtx.machine.paging import MAXPHYADDR
from vtx.spec import EntryCheck, control, control_word, entry_check, entry_checks, profiles
from vtx.spec import field as vmcs_field
from vtx.vmx.capability import allowed_controls, capability, capability_msrs
from vtx.vmx.vmcs import NO_VMCS, read_field

ALL_ONES = NO_VMCS


class View(Protocol):
    """Where a predicate's values come from: the current VMCS, or a table of numbers."""

    b: Builder

    def __getitem__(self, name: str) -> Value:
        """The VMCS field `name`, in its own width."""

    def capability(self, index: int) -> Value:
        """A VMX capability MSR (64 bits)."""

    def state(self, slot: str) -> Value:
        """A word of the CPU's present state (64 bits)."""

    def load(self, width: int, hpa: Value, when: Value) -> Value:
        """Physical memory; 0, and nothing is read, unless `when` (1 bit)."""


Predicate = Callable[[View], Value]


@dataclass(frozen=True, slots=True)
class Check:
    """One VM-entry rule with its predicate; `needs` is the control without which it is moot."""

    row: EntryCheck
    predicate: Predicate
    needs: str = ""

    @property
    def id(self) -> str:
        return self.row.id

    @property
    def group(self) -> str:
        """control, exit-control, entry-control, host or guest."""
        return self.row.stage

    @property
    def section(self) -> str:
        """Where the SDM states the rule."""
        return self.row.see

    @property
    def fields(self) -> tuple[str, ...]:
        """The VMCS fields that the predicate reads."""
        view = NumberView({})
        self.predicate(view)
        return tuple(view.seen)

    @property
    def reachable(self) -> bool:
        """Some CPU profile allows the control that the rule is about."""
        return not self.needs or any(self.needs in allowed_controls(p) for p in profiles())


_CHECKS: dict[str, Check] = {}


def check(check_id: str, needs: str = "") -> Callable[[Predicate], Predicate]:
    """Register a predicate as the meaning of the check with this id in spec."""
    row = entry_check(check_id)

    def decorate(predicate: Predicate) -> Predicate:
        if check_id in _CHECKS:
            raise ValueError(f"check {check_id} is registered twice")
        _CHECKS[check_id] = Check(row, predicate, needs)
        return predicate

    return decorate


@cache
def checks(*groups: str) -> tuple[Check, ...]:
    """The registered checks of the groups (all without arguments), in the order of the manual."""
    from vtx.vmx import checks_controls, checks_guest, checks_host, checks_segments

    assert checks_controls and checks_guest and checks_host and checks_segments
    found = [c for c in _CHECKS.values() if not groups or c.group in groups]
    return tuple(sorted(found, key=lambda c: c.row.order))


BUILT_AS_CODE: Mapping[str, str] = {
    "before.protected-mode": "vtx.vmx.instructions",
    "before.vmx-operation": "vtx.vmx.instructions",
    "before.not-compatibility-mode": "vtx.vmx.instructions",
    "before.root-operation": "vtx.vmx.instructions",
    "before.cpl": "vtx.vmx.instructions",
    "basic.current-vmcs": "vtx.vmx.entry",
    "basic.not-shadow-vmcs": "vtx.vmx.entry",
    "basic.blocking-by-mov-ss": "vtx.vmx.entry",
    "basic.vmlaunch-clear": "vtx.vmx.entry",
    "basic.vmresume-launched": "vtx.vmx.entry",
    "msr-load.fs-gs-base": "vtx.vmx.msr_areas",
    "msr-load.x2apic": "vtx.vmx.msr_areas",
    "msr-load.smm-only": "vtx.vmx.msr_areas",
    "msr-load.not-loadable": "vtx.vmx.msr_areas",
    "msr-load.reserved": "vtx.vmx.msr_areas",
    "msr-load.wrmsr": "vtx.vmx.msr_areas",
    "commit.launched": "vtx.vmx.entry",
    "commit.inject": "vtx.vmx.entry",
    "commit.pending-exits": "vtx.engine.boundary",
}
"""Rows that are no predicate over fields, and the module that keeps them."""


def unbuilt_checks() -> tuple[EntryCheck, ...]:
    """The rows of spec that nothing keeps yet."""
    built = {c.id for c in checks()} | set(BUILT_AS_CODE)
    return tuple(row for row in entry_checks() if row.id not in built)


# --- views -----------------------------------------------------------------------------------


@dataclass
class VmcsView:
    """The current VMCS at run time; each field is read once per routine."""

    b: Builder
    fields: dict[str, Value] = field(default_factory=dict)
    """What was read so far."""
    _capabilities: dict[int, Value] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Value:
        if name not in self.fields:
            self.fields[name] = read_field(self.b, name)
        return self.fields[name]

    def capability(self, index: int) -> Value:
        if index not in self._capabilities:
            self._capabilities[index] = capability(self.b, index)
        return self._capabilities[index]

    def state(self, slot: str) -> Value:
        return self.b.get(slot)

    def load(self, width: int, hpa: Value, when: Value) -> Value:
        loaded = self.b.var(width, 0)
        with self.b.if_(when):
            loaded.set(self.b.load_physical(width, hpa))
        return loaded.get()


class NumberView:
    """Fields given as numbers: every expression folds to a constant.

    `values` has fields by name and may have state slots by name; what it lacks is 0. `memory`
    reads physical memory (width, address).
    """

    def __init__(
        self,
        values: Mapping[str, int],
        profile: str = "haswell",
        memory: Callable[[int, int], int] = lambda width, hpa: 0,
    ) -> None:
        self.b = Builder("explain")
        self._values = values
        self._memory = memory
        self._msrs = capability_msrs(next(p for p in profiles() if p.name == profile))
        self.seen: dict[str, None] = {}

    def __getitem__(self, name: str) -> Value:
        self.seen[name] = None
        return self.b.const(vmcs_field(name).bits, self._values.get(name, 0))

    def capability(self, index: int) -> Value:
        return self.b.const(64, self._msrs.get(index, 0))

    def state(self, slot: str) -> Value:
        assert slot in SLOTS
        return self.b.const(64, self._values.get(slot, 0))

    def load(self, width: int, hpa: Value, when: Value) -> Value:
        assert hpa.const is not None and when.const is not None
        return self.b.const(width, self._memory(width, hpa.const) if when.const else 0)

    def holds(self, rule: Check) -> bool:
        """Whether the rule holds for these numbers."""
        result = rule.predicate(self).const
        assert result is not None, f"{rule.id} is not an expression of fields alone"
        return bool(result)


def violated(
    values: Mapping[str, int],
    profile: str = "haswell",
    memory: Callable[[int, int], int] = lambda width, hpa: 0,
) -> list[Check]:
    """The checks that these field values break, in the order of the manual.

    `values`: VMCS fields by name, and CPU state by slot name (`efer`, `vmcs_pointer`) where the
    rules look at it. `memory(width, hpa)` reads physical memory.
    """
    view = NumberView(values, profile, memory)
    return [rule for rule in checks() if rule.reachable and not view.holds(rule)]


# --- words of the predicates -----------------------------------------------------------------


def implies(condition: Value, consequence: Value) -> Value:
    """1 unless `condition` holds and `consequence` does not."""
    return ~condition | consequence


def has(v: View, name: str) -> Value:
    """Whether control `word.NAME` is in effect: 1, and its word activated (1 bit)."""
    row = control(name)
    bit = v[control_word(row.word).field].bit(row.bit)
    if row.word == "sec":
        return bit & v["PROCBASED_CONTROLS"].bit(control("ACTIVATE_SECONDARY_CONTROLS").bit)
    if row.word == "ter":
        return bit & v["PROCBASED_CONTROLS"].bit(control("ACTIVATE_TERTIARY_CONTROLS").bit)
    return bit


def canonical(value: Value) -> Value:
    """48-bit canonical form."""
    top = value.sar(47)
    return (top == 0) | (top == ALL_ONES)


def physical(address: Value, alignment: int) -> Value:
    """Aligned to `alignment` bytes and within the physical-address width."""
    beyond = ALL_ONES & ~((1 << MAXPHYADDR) - 1)
    return (address & (beyond | (alignment - 1))) == 0


def within_width(address: Value) -> Value:
    return (address >> MAXPHYADDR) == 0


def high_half_zero(value: Value) -> Value:
    return (value >> 32) == 0


def legal_pat(pat: Value) -> Value:
    """Every byte of an IA32_PAT value is a memory type: 0, 1, 4, 5, 6 or 7."""
    reserved = (pat & 0xF8F8_F8F8_F8F8_F8F8) == 0
    # Types 2 and 3 have bit 1 without bit 2.
    two_or_three = (pat >> 1) & ~(pat >> 2) & 0x0101_0101_0101_0101
    return reserved & (two_or_three == 0)


def allowed(setting: Value, capability_msr: Value) -> Value:
    """A 32-bit control word keeps to the allowed settings of its capability MSR."""
    must, may = capability_msr.trunc(32), (capability_msr >> 32).trunc(32)
    return ((setting & must) == must) & ((setting & ~may) == 0)


def fixed(value: Value, must: Value, may: Value) -> Value:
    """A control register keeps the bits fixed in VMX operation."""
    return ((value & must) == must) & ((value & ~may) == 0)
