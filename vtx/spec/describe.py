"""Rows of the tables in a few plain-English lines, and as values for JSON.

Pure functions from a name to text; every fact in the text comes from the tables. Must not know
where the text is printed.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

from vtx.spec.checks import entry_check
from vtx.spec.controls import control, control_word
from vtx.spec.exits import exit_reason, instruction_error
from vtx.spec.features import feature
from vtx.spec.fields import VmcsField, field, fields
from vtx.spec.formats import layout, qualification
from vtx.spec.layouts import Bits
from vtx.spec.msrs import Msr, msr
from vtx.spec.tables import SpecError

KIND_IN_WORDS = {
    "unconditional": "Always exits in VMX non-root operation.",
    "controlled": "Exits where a control asks for it.",
    "dual-monitor": "Happens only under the dual-monitor treatment of SMIs and SMM.",
    "entry-failure": "Reports a failed VM entry; bit 31 of EXIT_REASON is 1.",
}
GROUP_IN_WORDS = {
    "control": "control field",
    "read-only": "exit-information field",
    "guest": "guest-state field",
    "host": "host-state field",
}


def describe_field(name: str | int) -> list[str]:
    """A VMCS field by name or encoding, in words; SpecError if there is none."""
    row = field(name)
    width = "natural width (64 bits)" if row.width == "natural" else f"{row.bits} bits"
    head = f"{row.name} ({row.encoding:#06x}): {GROUP_IN_WORDS[row.group]}, {width}"
    return [
        f"{head}, index {row.index}.",
        *_sentence(row.meaning),
        *_high_half(row),
        "Exists on every CPU with VMX."
        if not row.exists_if
        else f"Exists where the CPU allows {' or '.join(row.exists_if)}.",
        "VMWRITE may change it only where IA32_VMX_MISC[29] is 1."
        if row.read_only
        else "VMREAD and VMWRITE may access it.",
        *_source(row.see),
    ]


def _high_half(row: VmcsField) -> list[str]:
    if row.high_encoding is None:
        return []
    return [f"Encoding {row.high_encoding:#06x} accesses bits 63:32 alone."]


def describe_exit(name: str | int) -> list[str]:
    """A basic exit reason by name or number, in words; SpecError if there is none."""
    row = exit_reason(name)
    lines = [f"{row.name} (exit reason {row.number}).", *_sentence(row.meaning)]
    lines.append(KIND_IN_WORDS[row.kind])
    if row.when:
        lines.append(f"Condition: {row.when}.")
    lines.append(f"Delivery: {row.delivery}.")
    found = qualification(row.number)
    if found:
        lines += [f"Exit qualification, {found.title}:", *_ranges(found.bits)]
    else:
        lines.append(f"Exit qualification: {row.qualification or 'none'}.")
    lines.append(f"Instruction length: {row.instruction_length}.")
    if row.info_layout:
        lines.append("Instruction information:")
        lines += _ranges(layout(row.info_layout).bits)
    return [*lines, *_sentence(row.notes), *_source(row.see)]


def describe_control(name: str) -> list[str]:
    """A VMX control, in words; SpecError if there is none or the name needs its word."""
    row = control(name)
    word = control_word(row.word)
    msr_names = [n for n in (word.capability_msr, word.true_capability_msr) if n]
    lines = [
        f"{row.id}: bit {row.bit} (mask {row.mask:#x}) of {word.field}.",
        *_sentence(row.meaning),
        f"Allowed settings: {' and '.join(msr_names)}.",
    ]
    if row.default1:
        lines.append(f"In the default1 class: only {msr_names[-1]} can allow the setting 0.")
    dependent = [found.name for found in fields() if row.id in found.exists_if]
    if dependent:
        lines.append(f"Brings these VMCS fields: {', '.join(dependent)}.")
    return [*lines, *_source(word.see)]


def describe_msr(name: str | int) -> list[str]:
    """An MSR by name or index, in words; SpecError if there is none."""
    row = msr(name)
    return [
        f"{row.name} (MSR {row.index:#x}): {_access(row)}.",
        *_sentence(row.meaning),
        "Value at reset: computed from the machine."
        if row.computed
        else f"Value at reset: {row.reset:#x}.",
        *_ranges(row.bits),
        *_sentence(row.notes),
        *_source(row.see),
    ]


def _access(row: Msr) -> str:
    if row.access == "ro":
        return "read-only, WRMSR raises #GP"
    must = ", the value must be canonical" if row.canonical else ""
    only = "write-only, RDMSR raises #GP, " if row.access == "wo" else ""
    return f"{only}writable bits {row.writable:#x}{must}"


def describe_check(check_id: str) -> list[str]:
    """A VM-entry check by its id, in words; SpecError if there is none."""
    row = entry_check(check_id)
    lines = [f"{row.id}: {row.text}."]
    if row.result != "-":
        lines.append(f"Otherwise: {row.result}.")
    if row.error_number is not None:
        lines += _sentence(instruction_error(row.error_number).meaning)
    return [*lines, *_source(row.see)]


def describe_feature(name: str) -> list[str]:
    """A CPUID feature bit, in words; SpecError if there is none."""
    row = feature(name)
    place = f"CPUID leaf {row.leaf:#x}, subleaf {row.subleaf}, {row.register.upper()}[{row.bit}]"
    return [f"{row.name}: {place}.", *_sentence(row.meaning)]


def describe_error(number: int) -> list[str]:
    """A VM-instruction error by number, in words; SpecError if there is none."""
    row = instruction_error(number)
    return [f"VM-instruction error {row.number}.", *_sentence(row.meaning)]


def to_dict(row: object) -> dict[str, Any]:
    """A row as a JSON-ready dict: its columns, and derived ones such as mask and high_encoding."""
    if not dataclasses.is_dataclass(row) or isinstance(row, type):
        raise SpecError(f"{row!r} is not a row of a spec table")
    columns = {column.name: _plain(getattr(row, column.name)) for column in dataclasses.fields(row)}
    derived = (name for name in vars(type(row)) if isinstance(vars(type(row))[name], property))
    return columns | {name: _plain(getattr(row, name)) for name in derived}


def _plain(value: object) -> Any:
    """A column's value as JSON knows it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_dict(value)
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, tuple):
        return [_plain(inner) for inner in value]
    return value


def _sentence(text: str) -> list[str]:
    """`text` as one line that begins with a capital and ends with a full stop; [] for ""."""
    return [f"{text[0].upper()}{text[1:]}."] if text else []


def _source(see: str) -> list[str]:
    return [f"Source: {see}."] if see else []


def _ranges(bits: Iterable[Bits]) -> list[str]:
    """One indented line for each bit range: place, name, meaning, settings."""
    lines = []
    for part in bits:
        settings = "; ".join(f"{number} {name}" for number, name in part.values.items() if name)
        words = ", ".join(text for text in (part.meaning, settings) if text)
        lines.append(f"  {part.span:>7}  {part.name}{': ' if words else ''}{words}")
    return lines
