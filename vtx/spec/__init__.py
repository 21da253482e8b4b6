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
from vtx.spec.formats import (
    AreaPart,
    EptBits,
    Layout,
    area_parts,
    decode_instruction_info,
    decode_layout,
    decode_qualification,
    ept_bits,
    format_instruction_info,
    format_layout,
    format_qualification,
    layout,
    layouts,
    qualification,
    qualifications,
)
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
    "AreaPart",
    "Bits",
    "Cache",
    "Clock",
    "Control",
    "ControlWord",
    "EntryCheck",
    "EptBits",
    "ExceptionVector",
    "ExitReason",
    "Feature",
    "InstructionError",
    "Layout",
    "Msr",
    "PortRange",
    "Profile",
    "Region",
    "SpecError",
    "VmcsField",
    "advertised",
    "area_parts",
    "clock",
    "clocks",
    "control",
    "control_word",
    "control_words",
    "controls",
    "cpuid_words",
    "decode_instruction_info",
    "decode_layout",
    "decode_qualification",
    "entry_check",
    "entry_checks",
    "ept_bits",
    "exception",
    "exceptions",
    "exit_reason",
    "exit_reasons",
    "feature",
    "features",
    "field",
    "fields",
    "format_instruction_info",
    "format_layout",
    "format_qualification",
    "instruction_error",
    "instruction_errors",
    "layout",
    "layouts",
    "msr",
    "msrs",
    "port_range",
    "port_ranges",
    "profile",
    "profiles",
    "qualification",
    "qualifications",
    "rdrand_seed",
    "read_cpuid",
    "region",
    "regions",
    "rtc_epoch",
    "xcr0_supported",
]
