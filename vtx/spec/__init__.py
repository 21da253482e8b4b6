"""The architecture's facts, typed: rows of the TOML tables in `spec/`, read on first use.

Everything else in the house imports names and numbers from here. Must not know any behaviour:
nothing in this package executes, checks or builds machine state.
"""

from vtx.spec.checks import EntryCheck, entry_check, entry_checks
from vtx.spec.clocks import Clock, clock, clocks, rdrand_seed, rtc_epoch
from vtx.spec.controls import (
    CONTROLS,
    Control,
    ControlWord,
    control,
    control_word,
    control_words,
    controls,
)
from vtx.spec.cpuid import advertised, cpuid_words, read_cpuid, xcr0_supported
from vtx.spec.exceptions import VECTORS, ExceptionVector, exception, exceptions
from vtx.spec.exits import (
    EXITS,
    ExitReason,
    InstructionError,
    exit_reason,
    exit_reasons,
    instruction_error,
    instruction_errors,
)
from vtx.spec.features import Cache, Feature, Profile, feature, features, profile, profiles
from vtx.spec.fields import FIELDS, VmcsField, field, fields
from vtx.spec.layouts import Bits
from vtx.spec.msrs import MSRS, Msr, msr, msrs
from vtx.spec.places import PortRange, Region, port_range, port_ranges, region, regions
from vtx.spec.tables import SpecError

__all__ = [
    "CONTROLS",
    "EXITS",
    "FIELDS",
    "MSRS",
    "VECTORS",
    "Bits",
    "Cache",
    "Clock",
    "Control",
    "ControlWord",
    "EntryCheck",
    "ExceptionVector",
    "ExitReason",
    "Feature",
    "InstructionError",
    "Msr",
    "PortRange",
    "Profile",
    "Region",
    "SpecError",
    "VmcsField",
    "advertised",
    "clock",
    "clocks",
    "control",
    "control_word",
    "control_words",
    "controls",
    "cpuid_words",
    "entry_check",
    "entry_checks",
    "exception",
    "exceptions",
    "exit_reason",
    "exit_reasons",
    "feature",
    "features",
    "field",
    "fields",
    "instruction_error",
    "instruction_errors",
    "msr",
    "msrs",
    "port_range",
    "port_ranges",
    "profile",
    "profiles",
    "rdrand_seed",
    "read_cpuid",
    "region",
    "regions",
    "rtc_epoch",
    "xcr0_supported",
]
