"""The legal VMCS of the kit, the memory its guests see, and the bytes of its table.

Knows guests/kit/kit.s: where it keeps things and what it reads. Must not know any rule.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.vtx.vmx.bench import SECONDARY, controls
from vtx.spec import field as vmcs_field
from vtx.spec import fields, profile
from vtx.vmx.capability import REVISION, allowed_controls

PROFILE = "max"
PML4, PAGE_DIRECTORY, HOST_GDT, HOST_IDT, HOST_TSS = (
    0x200000,
    0x202000,
    0x207000,
    0x208000,
    0x209000,
)
VMCS = 0x211000
CODE, HANDLER, IDT, GDT, TSS = 0x30000, 0x31000, 0x32000, 0x33000, 0x34000
VIRTUAL_APIC, MSR_BITMAP, IO_BITMAP_A, IO_BITMAP_B = 0x35000, 0x36000, 0x37000, 0x38000
MSR_AREA, LINKED, SHADOW_LINKED, PDPT = 0x39000, 0x3A000, 0x3B000, 0x3C000
STACK, EPT_PML4 = 0x3F000, 0x40000
EPT_DIRECTORY = 0x42000
EPTP = EPT_PML4 | 3 << 3 | 6
TIMER = 0x1000
"""Instructions after which a guest that does nothing to end comes back, asleep or not."""
LSTAR = 0xC000_0082
ALL_EXCEPTIONS = 0xFFFF_FFFF

Edits = Mapping[str, int]
"""VMCS field -> value."""
Stores = Mapping[int, int]
"""Address -> 64-bit value."""


def legal_vmcs() -> dict[str, int]:
    """Every field that can be written: a 64-bit guest that goes through at once, a 64-bit host."""
    allowed = allowed_controls(profile(PROFILE))
    values = {row.name: 0 for row in fields() if row.exists(allowed) and not row.read_only}
    values |= {
        "PINBASED_CONTROLS": controls("pin", "PREEMPTION_TIMER"),
        "PREEMPTION_TIMER_VALUE": TIMER,
        "PROCBASED_CONTROLS": controls("proc"),
        "EXCEPTION_BITMAP": ALL_EXCEPTIONS,
        "VMEXIT_CONTROLS": controls("exit", "HOST_ADDRESS_SPACE_SIZE"),
        "VMENTRY_CONTROLS": controls("entry", "IA32E_MODE_GUEST"),
        "VMCS_LINK_POINTER": (1 << 64) - 1,
        "HOST_CR0": 0x8001_0031, "HOST_CR3": PML4, "HOST_CR4": 0x2020,
        "HOST_CS_SELECTOR": 8, "HOST_SS_SELECTOR": 0x10, "HOST_DS_SELECTOR": 0x10,
        "HOST_ES_SELECTOR": 0x10, "HOST_TR_SELECTOR": 0x30, "HOST_TR_BASE": HOST_TSS,
        "HOST_GDTR_BASE": HOST_GDT, "HOST_IDTR_BASE": HOST_IDT, "HOST_IA32_EFER": 0x500,
        "HOST_IA32_PAT": 0x0007_0406_0007_0406,
        "GUEST_CR0": 0x8001_0031, "GUEST_CR3": PML4, "GUEST_CR4": 0x2020, "GUEST_DR7": 0x400,
        "GUEST_RIP": CODE, "GUEST_RSP": STACK, "GUEST_RFLAGS": 2, "GUEST_IA32_EFER": 0x500,
        "GUEST_IA32_PAT": 0x0007_0406_0007_0406,
        "GUEST_GDTR_BASE": GDT, "GUEST_GDTR_LIMIT": 0x2F,
        "GUEST_IDTR_BASE": IDT, "GUEST_IDTR_LIMIT": 0xFFF,
        "GUEST_TR_SELECTOR": 0x18, "GUEST_TR_BASE": TSS, "GUEST_TR_LIMIT": 0x67,
        "GUEST_TR_ACCESS_RIGHTS": 0x8B, "GUEST_LDTR_ACCESS_RIGHTS": 0x10000,
        "VIRTUAL_APIC_ADDR": VIRTUAL_APIC, "MSR_BITMAP": MSR_BITMAP,
        "IO_BITMAP_A": IO_BITMAP_A, "IO_BITMAP_B": IO_BITMAP_B,
        "VMENTRY_MSR_LOAD_ADDR": MSR_AREA, "VMEXIT_MSR_LOAD_ADDR": MSR_AREA,
        "VMEXIT_MSR_STORE_ADDR": MSR_AREA + 0x100, "EPT_POINTER": EPTP, "VPID": 1,
        "GUEST_PDPTE0": PAGE_DIRECTORY | 1,
    }  # fmt: skip
    for name in ("CS", "SS", "DS", "ES", "FS", "GS"):
        values[f"GUEST_{name}_SELECTOR"] = 8 if name == "CS" else 0x10
        values[f"GUEST_{name}_LIMIT"] = 0xFFFF_FFFF
        values[f"GUEST_{name}_ACCESS_RIGHTS"] = 0xA09B if name == "CS" else 0xC093
    return values


def first_stores() -> dict[int, int]:
    """What lies in memory before the first case: a GDT, an IDT, MSR areas, two VMCS regions."""
    stores = {
        HANDLER: 0x010F_C101_0FC1_010F,  # vmcall, three of them, cut off
        GDT + 8: 0x00AF_9B00_0000_FFFF, GDT + 16: 0x00CF_9300_0000_FFFF,
        MSR_AREA: LSTAR, MSR_AREA + 8: 0x1234, MSR_AREA + 16: LSTAR, MSR_AREA + 24: 0x5678,
        MSR_AREA + 0x100: LSTAR, MSR_AREA + 0x110: LSTAR,
        LINKED: REVISION, SHADOW_LINKED: REVISION | 1 << 31, PDPT: PAGE_DIRECTORY | 1,
    }  # fmt: skip
    gate = HANDLER & 0xFFFF | 8 << 16 | 0x8E00 << 32 | HANDLER >> 16 << 48
    for vector in range(32):
        stores[IDT + 16 * vector] = gate
        stores[IDT + 16 * vector + 8] = 0
    return stores


@dataclass(frozen=True)
class Case:
    """One VMCS for the kit to enter. `stores` are made before and undone behind."""

    name: str
    edits: Edits
    stores: Stores = field(default_factory=dict)
    code: bytes = b""


def table(cases: Sequence[Case]) -> bytes:
    """The bytes that kit.s reads."""
    legal, first = legal_vmcs(), first_stores()
    parts = [struct.pack("<H", len(legal)), _fields(legal)]
    parts += [struct.pack("<B", len(first)), _stores(first), struct.pack("<H", len(cases))]
    for case in cases:
        undo = {address: first.get(address, _made_by_kit(address)) for address in case.stores}
        parts += [struct.pack("<B", len(case.edits)), _fields(case.edits)]
        for stores in (case.stores, undo):
            parts += [struct.pack("<B", len(stores)), _stores(stores)]
        parts += [struct.pack("<B", len(case.code)), case.code]
    return b"".join(parts)


def _made_by_kit(address: int) -> int:
    """What kit.s itself put there: the EPT; everything else is 0."""
    if EPT_DIRECTORY <= address < EPT_DIRECTORY + 0x1000:
        return (address - EPT_DIRECTORY) // 8 << 21 | 0xB7
    return 0


def _fields(values: Mapping[str, int]) -> bytes:
    return b"".join(
        struct.pack("<HQ", vmcs_field(name).encoding, value) for name, value in values.items()
    )


def _stores(stores: Stores) -> bytes:
    return b"".join(struct.pack("<IQ", address, value) for address, value in stores.items())


def secondary(*names: str) -> dict[str, int]:
    """Secondary controls, activated."""
    return {
        "PROCBASED_CONTROLS": controls("proc", SECONDARY),
        "SECONDARY_PROCBASED_CONTROLS": controls("sec", *names),
    }
