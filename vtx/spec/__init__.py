"""The architecture's facts, typed: rows of the TOML tables in `spec/`, read on first use.

Everything else in the house imports names and numbers from here. Must not know any behaviour:
nothing in this package executes, checks or builds machine state.
"""

from vtx.spec.controls import (
    CONTROLS,
    Control,
    ControlWord,
    control,
    control_word,
    control_words,
    controls,
)
from vtx.spec.exits import (
    EXITS,
    ExitReason,
    InstructionError,
    exit_reason,
    exit_reasons,
    instruction_error,
    instruction_errors,
)
from vtx.spec.fields import FIELDS, VmcsField, field, fields
from vtx.spec.layouts import Bits
from vtx.spec.msrs import MSRS, Msr, msr, msrs
from vtx.spec.tables import SpecError

__all__ = [
    "CONTROLS",
    "EXITS",
    "FIELDS",
    "MSRS",
    "Bits",
    "Control",
    "ControlWord",
    "ExitReason",
    "InstructionError",
    "Msr",
    "SpecError",
    "VmcsField",
    "control",
    "control_word",
    "control_words",
    "controls",
    "exit_reason",
    "exit_reasons",
    "field",
    "fields",
    "instruction_error",
    "instruction_errors",
    "msr",
    "msrs",
]
