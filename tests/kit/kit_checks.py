"""For every VM-entry rule a VMCS that breaks it and no other, and a near one that passes.

Both are searched for with the predicates themselves: from a dozen legal VMCSs of different kinds
one or two fields are changed, by values that the rule's own predicate suggests, until `violated`
says that this rule alone is broken.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from tests.kit.kit_layout import (
    CODE,
    EPTP,
    LINKED,
    PDPT,
    PROFILE,
    VMCS,
    Case,
    first_stores,
    legal_vmcs,
    secondary,
)
from tests.vtx.vmx.bench import controls
from vtx.machine.paging import MAXPHYADDR
from vtx.vmx.capability import REVISION
from vtx.vmx.checks import Check, checks, violated
from vtx.vmx.explain import broken_checks
from vtx.vmx.nearest import Changes, candidates
from vtx.vmx.predicate import Predicate, predicate_of

VALID, ERROR = 1 << 31, 1 << 11
DATA = ("SS", "DS", "ES", "FS", "GS")
SEGMENTS = ("CS", *DATA)
STATE = {"efer": 0x500, "vmcs_pointer": VMCS}


def _inject(info: int, **more: int) -> dict[str, int]:
    return {"VMENTRY_INTERRUPTION_INFO": VALID | info, **more}


def _entry(*names: str, **more: int) -> dict[str, int]:
    return {"VMENTRY_CONTROLS": controls("entry", "IA32E_MODE_GUEST", *names), **more}


def _exit(*names: str, **more: int) -> dict[str, int]:
    return {"VMEXIT_CONTROLS": controls("exit", "HOST_ADDRESS_SPACE_SIZE", *names), **more}


def _proc(*names: str, **more: int) -> dict[str, int]:
    return {"PROCBASED_CONTROLS": controls("proc", *names), **more}


def _pin(*names: str, **more: int) -> dict[str, int]:
    return {"PINBASED_CONTROLS": controls("pin", "PREEMPTION_TIMER", *names), **more}


_RING_3 = {
    **{f"GUEST_{name}_ACCESS_RIGHTS": 0xA0FB if name == "CS" else 0xC0F3 for name in SEGMENTS},
    **{f"GUEST_{name}_SELECTOR": 0xB if name == "CS" else 0x13 for name in SEGMENTS},
}
_32_BIT = {
    "VMENTRY_CONTROLS": controls("entry"), "GUEST_CS_ACCESS_RIGHTS": 0xC09B, "GUEST_IA32_EFER": 0,
    "GUEST_CR4": 0x2020, "GUEST_CR3": PDPT,
}  # fmt: skip
_UNRESTRICTED = {**secondary("ENABLE_EPT", "UNRESTRICTED_GUEST"), **_32_BIT, "GUEST_CR0": 0x31}
_REAL_SEGMENTS = {
    f"GUEST_{name}_{part}": value
    for name in SEGMENTS
    for part, value in (
        ("SELECTOR", CODE >> 4), ("BASE", CODE), ("LIMIT", 0xFFFF),
        ("ACCESS_RIGHTS", 0x9B if name == "CS" else 0x93),
    )
}  # fmt: skip
_V86 = {
    **_32_BIT, **_REAL_SEGMENTS, "GUEST_RIP": 0, "GUEST_RSP": 0x8000, "GUEST_RFLAGS": 1 << 17 | 2,
    **{f"GUEST_{name}_ACCESS_RIGHTS": 0xF3 for name in SEGMENTS},
}  # fmt: skip

_TOP = 1 << MAXPHYADDR

CONTEXTS: Mapping[str, Changes] = {
    "long": {},
    "ring3": _RING_3,
    "io-bitmaps": _proc("USE_IO_BITMAPS"),
    "msr-bitmap": _proc("USE_MSR_BITMAPS"),
    "tpr-shadow": _proc("USE_TPR_SHADOW"),
    "virtual-nmis": _pin("NMI_EXITING", "VIRTUAL_NMIS"),
    "nmi-window": _pin("NMI_EXITING", "VIRTUAL_NMIS") | _proc("NMI_WINDOW_EXITING"),
    "ept": secondary("ENABLE_EPT"),
    "vpid": secondary("ENABLE_VPID"),
    "pml": secondary("ENABLE_EPT", "ENABLE_PML"),
    "mode-based-execute": secondary("ENABLE_EPT", "MODE_BASED_EPT_EXECUTE"),
    "eptp-switching": {
        **secondary("ENABLE_EPT", "ENABLE_VM_FUNCTIONS"), "VM_FUNCTION_CONTROLS": 1,
    },
    "virtualization-exceptions": secondary("ENABLE_EPT", "EPT_VIOLATION_VE"),
    "vmcs-shadowing": secondary("VMCS_SHADOWING"),
    "tsc-scaling": {**secondary("USE_TSC_SCALING"), "TSC_MULTIPLIER": 1 << 48},
    "no-timer": {"PINBASED_CONTROLS": controls("pin")},
    "save-timer": _exit("SAVE_PREEMPTION_TIMER"),
    "host-pat-efer": _exit("LOAD_PAT", "LOAD_EFER"),
    "guest-debug-pat-efer": _entry("LOAD_DEBUG_CONTROLS", "LOAD_PAT", "LOAD_EFER"),
    "msr-store": {"VMEXIT_MSR_STORE_COUNT": 2},
    "msr-exit-load": {"VMEXIT_MSR_LOAD_COUNT": 2},
    "msr-entry-load": {"VMENTRY_MSR_LOAD_COUNT": 2},
    "msr-store-top": {"VMEXIT_MSR_STORE_COUNT": 2, "VMEXIT_MSR_STORE_ADDR": _TOP - 32},
    "msr-exit-load-top": {"VMEXIT_MSR_LOAD_COUNT": 2, "VMEXIT_MSR_LOAD_ADDR": _TOP - 32},
    "msr-entry-load-top": {"VMENTRY_MSR_LOAD_COUNT": 2, "VMENTRY_MSR_LOAD_ADDR": _TOP - 32},
    "inject-interrupt": _inject(0x20 - 1, GUEST_RFLAGS=0x202),
    "inject-nmi": _inject(2 << 8 | 2),
    "inject-nmi-if": _inject(2 << 8 | 2, GUEST_RFLAGS=0x202),
    "inject-exception": _inject(3 << 8 | 6),
    "inject-error-code": _inject(ERROR | 3 << 8 | 13, VMENTRY_EXCEPTION_ERROR_CODE=0x18),
    "inject-int": _inject(4 << 8 | 0x11, VMENTRY_INSTRUCTION_LENGTH=2),
    "inject-other": _inject(7 << 8),
    "halted": {"GUEST_ACTIVITY_STATE": 1},
    "halted-nmi": _inject(2 << 8 | 2, GUEST_ACTIVITY_STATE=1),
    "conforming": {"GUEST_CS_ACCESS_RIGHTS": 0xA09F},
    "sti": {"GUEST_INTERRUPTIBILITY_STATE": 1, "GUEST_RFLAGS": 0x202},
    "mov-ss": {"GUEST_INTERRUPTIBILITY_STATE": 2},
    "virtual-nmi": _inject(2 << 8 | 2) | _pin("NMI_EXITING", "VIRTUAL_NMIS"),
    "single-step": {
        "GUEST_INTERRUPTIBILITY_STATE": 2, "GUEST_RFLAGS": 0x102,
        "GUEST_PENDING_DBG_EXCEPTIONS": 1 << 14,
    },
    "linked": {"VMCS_LINK_POINTER": LINKED},
    "ldt": {"GUEST_LDTR_ACCESS_RIGHTS": 0x82, "GUEST_LDTR_LIMIT": 0xFF},
    "pae": _32_BIT,
    "pae-ept": {**_32_BIT, **secondary("ENABLE_EPT"), "EPT_POINTER": EPTP},
    "unpaged": _UNRESTRICTED,
    "unrestricted-long": secondary("ENABLE_EPT", "UNRESTRICTED_GUEST"),
    "real": {**_UNRESTRICTED, **_REAL_SEGMENTS, "GUEST_RIP": 0, "GUEST_CR0": 0x30},
    "real-data-cs": {
        **_UNRESTRICTED, **_REAL_SEGMENTS, "GUEST_RIP": 0, "GUEST_CR0": 0x30,
        "GUEST_CS_ACCESS_RIGHTS": 0x93,
    },
    "v86": _V86,
}  # fmt: skip
"""Legal VMCSs of different kinds, as edits of the first."""

NEAR: Mapping[str, Changes] = {
    "exit-control.msr-store-end": {"VMEXIT_MSR_STORE_COUNT": 0},
    "exit-control.msr-load-end": {"VMEXIT_MSR_LOAD_COUNT": 0},
    "entry-control.msr-load-end": {"VMENTRY_MSR_LOAD_COUNT": 0},
}
"""Where a nearer value passes VM entry, but there is no RAM that it could go on with."""

HELD_BY_OTHERS: Mapping[str, str] = {
    "control.eptp-accessed-dirty": "every profile with EPT has its accessed and dirty flags",
    "control.x2apic-not-with-apic-accesses": "APIC accesses are not built: a reserved control",
    "entry-control.smm": "the reserved bits of the VM-entry controls refuse the same",
    "entry-control.event-error-code-protected-mode": "so does the rule for the vector",
    "host.ss-nonzero": "a 32-bit host; a 64-bit one breaks the address-space size, too",
    "host.address-space-size-outside-ia32e": "a 32-bit host",
    "host.ia32e-guest-needs-64-bit-host": "in IA-32e mode the host has to be 64-bit anyway",
    "host.cr4-pcide": "a 32-bit host",
    "host.rip-32-bit": "a 32-bit host",
    "guest.cr4-cet-needs-wp": "no profile has CET, so the fixed bits of CR4 refuse it",
}
"""Rules that a 64-bit host cannot break alone, and why."""


@dataclass(frozen=True)
class Pair:
    """A rule with a VMCS that breaks it alone, and a near one that breaks none."""

    rule: Check
    context: str
    broken: Case
    near: Case


@cache
def _memory() -> Mapping[int, int]:
    return {**first_stores(), VMCS: REVISION}


def reader(width: int, hpa: int) -> int:
    """Physical memory as the predicates read it."""
    return _memory().get(hpa & ~7, 0) >> 8 * (hpa & 7) & (1 << width) - 1


def violated_by(values: Mapping[str, int]) -> list[str]:
    return [rule.id for rule in violated({**values, **STATE}, PROFILE, reader)]


@cache
def rules() -> tuple[tuple[Check, Predicate], ...]:
    return tuple((rule, predicate_of(rule, PROFILE)) for rule in checks() if rule.reachable)


@cache
def pairs() -> Mapping[str, Pair]:
    """Rule id -> its pair, for every rule that can be broken alone."""
    found = {}
    for rule, predicate in rules():
        if rule.id not in HELD_BY_OTHERS:
            pair = _pair(rule, predicate)
            if pair is not None:
                found[rule.id] = pair
    return found


def _pair(rule: Check, predicate: Predicate) -> Pair | None:
    """One bit changed in the first context that allows it, else the fewest bits in any."""
    best: tuple[int, str, Changes] | None = None
    for search in (_bits, _values):
        for context, edits in CONTEXTS.items():
            values = {**legal_vmcs(), **edits, **STATE}
            for bits, changes in search(predicate, values):
                if best is not None and bits >= best[0]:
                    break
                if _breaks_only(rule, predicate, {**values, **changes}, changes):
                    best = bits, context, changes
            if best is not None and best[0] == 1:
                return _made(rule, *best)
    return None if best is None else _made(rule, *best)


def _bits(predicate: Predicate, values: Mapping[str, int]) -> Iterator[tuple[int, Changes]]:
    """Changes of one bit of one field."""
    for name, width in predicate.inputs.items():
        if name.isupper():
            yield from ((1, {name: values.get(name, 0) ^ 1 << n}) for n in range(width))


def _values(predicate: Predicate, values: Mapping[str, int]) -> list[tuple[int, Changes]]:
    """Changes of one field to what the predicate suggests, those of the fewest bits first."""
    found = [
        ((value ^ values.get(name, 0)).bit_count(), {name: value})
        for name in predicate.inputs
        if name.isupper()
        for value in candidates(predicate, values, name)
    ]
    return sorted(found, key=lambda item: item[0])


@cache
def _readers(name: str) -> tuple[tuple[Check, Predicate], ...]:
    return tuple(pair for pair in rules() if name in pair[1].inputs)


def _breaks_only(
    rule: Check, predicate: Predicate, values: Mapping[str, int], changed: Changes
) -> bool:
    """The context breaks no rule, so only those that read a changed field can be broken."""
    if predicate.holds(values, reader):
        return False
    return all(
        other.id == rule.id or read.holds(values, reader)
        for name in changed
        for other, read in _readers(name)
    )


def _made(rule: Check, bits: int, context: str, changes: Changes) -> Pair:
    edits = {**CONTEXTS[context], **changes}
    passing = dict(CONTEXTS[context])
    if rule.id in NEAR:
        passing = {**edits, **NEAR[rule.id]}
    elif bits > 1 and not _of_the_host(rule):
        passing = {**edits, **_nearest(edits)}
    return Pair(rule, context, Case(f"{rule.id} broken", edits), Case(f"{rule.id} near", passing))


def _of_the_host(rule: Check) -> bool:
    """What is loaded by VM exits must be what the kit needs to go on."""
    return rule.group == "host" or any(name.startswith("VMEXIT_") for name in rule.fields)


def _nearest(edits: Changes) -> Changes:
    values = {**legal_vmcs(), **edits, **STATE}
    (broken,) = broken_checks(values, PROFILE, reader)
    return broken.nearest[0]
