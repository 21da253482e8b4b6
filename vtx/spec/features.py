"""CPUID feature bits and CPU profiles: what a kind of silicon has, before asking what is built.

Must not know which features this machine implements; that set is given by its caller.
"""

from dataclasses import dataclass, replace
from dataclasses import field as attribute
from functools import cache
from typing import Literal

from vtx.spec.tables import SpecError, lookup, no_such, read_table, rows, typed

Register = Literal["eax", "ebx", "ecx", "edx"]


@dataclass(frozen=True, slots=True)
class Feature:
    """One CPUID feature bit (SDM 2A, CPUID). `dynamic`: the bit follows the machine's state."""

    name: str
    leaf: int
    subleaf: int
    register: Register
    bit: int
    meaning: str
    dynamic: bool = False

    @property
    def mask(self) -> int:
        """The bit as a mask in its register."""
        return 1 << self.bit


@dataclass(frozen=True, slots=True)
class Cache:
    """One cache level as CPUID leaf 4 describes it; type 1 data, 2 instruction, 3 unified."""

    level: int
    type: Literal[1, 2, 3]
    size_kib: int
    ways: int
    line: int
    inclusive: bool = False
    complex: bool = False

    @property
    def sets(self) -> int:
        """Number of sets."""
        return self.size_kib * 1024 // (self.ways * self.line)


@dataclass(frozen=True, slots=True)
class Profile:
    """One CPU: identification, address widths, feature names and VMX controls (word.NAME)."""

    name: str
    meaning: str
    vendor: str
    brand: str
    family: int
    model: int
    stepping: int
    maxphyaddr: int
    linear_bits: int
    max_basic_leaf: int
    max_extended_leaf: int
    ept_vpid_cap: int
    cache_descriptors: tuple[int, int, int, int]
    caches: tuple[Cache, ...]
    features: frozenset[str]
    controls: frozenset[str]

    @property
    def has_ept(self) -> bool:
        """Whether the silicon has extended page tables."""
        return "sec.ENABLE_EPT" in self.controls

    @property
    def signature(self) -> int:
        """EAX of CPUID leaf 1: extended model and family, model, stepping."""
        extended_family = max(self.family - 15, 0)
        family = min(self.family, 15)
        low = (self.model & 15) << 4 | family << 8 | self.stepping
        return extended_family << 20 | (self.model >> 4) << 16 | low


@dataclass(frozen=True, slots=True)
class _Derived:
    """A profile row that changes another one."""

    name: str
    meaning: str
    based_on: str
    ept_vpid_cap: int | None = None
    max_basic_leaf: int | None = None
    with_features: frozenset[str] = attribute(default_factory=frozenset)
    without_features: frozenset[str] = attribute(default_factory=frozenset)
    with_controls: frozenset[str] = attribute(default_factory=frozenset)
    without_controls: frozenset[str] = attribute(default_factory=frozenset)

    def apply(self, base: Profile) -> Profile:
        cap, leaf = self.ept_vpid_cap, self.max_basic_leaf
        return replace(
            base,
            name=self.name,
            meaning=self.meaning,
            ept_vpid_cap=base.ept_vpid_cap if cap is None else cap,
            max_basic_leaf=base.max_basic_leaf if leaf is None else leaf,
            features=(base.features | self.with_features) - self.without_features,
            controls=(base.controls | self.with_controls) - self.without_controls,
        )


@cache
def features() -> tuple[Feature, ...]:
    """All CPUID feature bits known, in order of leaf, register and bit."""
    return rows("cpuid", "features", Feature)


@cache
def _by_name() -> dict[str, Feature]:
    return {row.name: row for row in features()}


def feature(name: str) -> Feature:
    """The CPUID feature bit called `name`, e.g. "SMEP"; SpecError if there is none."""
    return lookup("CPU feature", _by_name(), name)


@cache
def _profiles() -> dict[str, Profile]:
    known: dict[str, Profile] = {}
    for row in read_table("cpuid")["profiles"]:
        name = str(row.get("name"))
        if "based_on" not in row:
            known[name] = typed(row, Profile, f"cpuid.toml, {name}")
            continue
        derived = typed(row, _Derived, f"cpuid.toml, {name}")
        if derived.based_on not in known:
            raise SpecError(no_such("CPU profile", derived.based_on, known))
        known[name] = derived.apply(known[derived.based_on])
    return known


def profiles() -> tuple[Profile, ...]:
    """All CPU profiles."""
    return tuple(_profiles().values())


def profile(name: str) -> Profile:
    """The CPU profile called `name`, e.g. "haswell"; SpecError if there is none."""
    if name in _profiles():
        return _profiles()[name]
    raise SpecError(no_such("CPU profile", name, _profiles()))
