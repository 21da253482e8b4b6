"""VM-entry checks: each rule broken alone gives its own result, and is explained by its id."""

import pytest

from tests.vtx.engines import EVERY_ENGINE
from tests.vtx.vmx.bench import SECONDARY, VMCS, Bench, controls, legal_fields
from vtx.spec import entry_check, entry_checks
from vtx.vmx.capability import REVISION
from vtx.vmx.checks import checks, unbuilt_checks, violated

NON_CANONICAL = 1 << 60
BEYOND = 1 << 39
VALID = 1 << 31
EPTP = 0x3001E
_CODE_32, _DATA_32 = 0xC09B, 0xC093


def proc(*names: str) -> int:
    return controls("proc", *names)


def secondary(*names: str) -> dict[str, int]:
    return {
        "PROCBASED_CONTROLS": proc(SECONDARY),
        "SECONDARY_PROCBASED_CONTROLS": controls("sec", *names),
    }


def ept(**fields: int) -> dict[str, int]:
    return {**secondary("ENABLE_EPT"), "EPT_POINTER": EPTP, **fields}


def entry(*names: str) -> dict[str, int]:
    return {"VMENTRY_CONTROLS": controls("entry", "IA32E_MODE_GUEST", *names)}


def exits(*names: str) -> dict[str, int]:
    return {"VMEXIT_CONTROLS": controls("exit", "HOST_ADDRESS_SPACE_SIZE", *names)}


def inject(info: int, **fields: int) -> dict[str, int]:
    return {"VMENTRY_INTERRUPTION_INFO": VALID | info, **fields}


GUEST_32 = {
    "VMENTRY_CONTROLS": controls("entry"),
    "GUEST_IA32_EFER": 0,
    "GUEST_CS_ACCESS_RIGHTS": _CODE_32,
    "GUEST_CR4": 0x2000,
}
V86 = {
    **GUEST_32,
    "GUEST_RFLAGS": 1 << 17 | 2,
    **{
        f"GUEST_{name}_{part}": value
        for name in ("CS", "SS", "DS", "ES", "FS", "GS")
        for part, value in (
            ("SELECTOR", 0x100), ("BASE", 0x1000), ("LIMIT", 0xFFFF), ("ACCESS_RIGHTS", 0xF3),
        )
    },
}  # fmt: skip

BROKEN: list[tuple[str, dict[str, int]]] = [
    ("control.pin-reserved", {"PINBASED_CONTROLS": controls("pin") | 1 << 8}),
    ("control.pin-reserved", {"PINBASED_CONTROLS": 0}),
    ("control.proc-reserved", {"PROCBASED_CONTROLS": proc() | 1 << 17}),
    ("control.sec-reserved", {**secondary(), "SECONDARY_PROCBASED_CONTROLS": 1 << 29}),
    ("control.cr3-target-count", {"CR3_TARGET_COUNT": 5}),
    ("control.io-bitmap-a", {"PROCBASED_CONTROLS": proc("USE_IO_BITMAPS"), "IO_BITMAP_A": 1}),
    ("control.io-bitmap-b", {"PROCBASED_CONTROLS": proc("USE_IO_BITMAPS"), "IO_BITMAP_B": BEYOND}),
    ("control.msr-bitmap", {"PROCBASED_CONTROLS": proc("USE_MSR_BITMAPS"), "MSR_BITMAP": 8}),
    ("control.virtual-apic-address",
     {"PROCBASED_CONTROLS": proc("USE_TPR_SHADOW"), "VIRTUAL_APIC_ADDR": 0x8010}),
    ("control.tpr-threshold-reserved",
     {"PROCBASED_CONTROLS": proc("USE_TPR_SHADOW"), "VIRTUAL_APIC_ADDR": 0x8000,
      "TPR_THRESHOLD": 0x10}),
    ("control.tpr-threshold-vtpr",
     {"PROCBASED_CONTROLS": proc("USE_TPR_SHADOW"), "VIRTUAL_APIC_ADDR": 0x8000,
      "TPR_THRESHOLD": 1}),
    ("control.virtual-nmis-need-nmi-exiting",
     {"PINBASED_CONTROLS": controls("pin", "VIRTUAL_NMIS")}),
    ("control.nmi-window-needs-virtual-nmis", {"PROCBASED_CONTROLS": proc("NMI_WINDOW_EXITING")}),
    ("control.vpid-nonzero", secondary("ENABLE_VPID")),
    ("control.eptp-memory-type", ept(EPT_POINTER=EPTP & ~7 | 1)),
    ("control.eptp-walk-length", ept(EPT_POINTER=0x30016)),
    ("control.eptp-reserved", ept(EPT_POINTER=EPTP | 1 << 8)),
    ("control.eptp-reserved", ept(EPT_POINTER=EPTP | BEYOND)),
    ("control.unrestricted-guest-needs-ept", secondary("UNRESTRICTED_GUEST")),
    ("exit-control.reserved", {"VMEXIT_CONTROLS": controls("exit") & ~1}),
    ("exit-control.save-preemption-timer", exits("SAVE_PREEMPTION_TIMER")),
    ("exit-control.msr-store-address",
     {"VMEXIT_MSR_STORE_COUNT": 1, "VMEXIT_MSR_STORE_ADDR": 0x8008}),
    ("exit-control.msr-store-end",
     {"VMEXIT_MSR_STORE_COUNT": 2, "VMEXIT_MSR_STORE_ADDR": BEYOND - 16}),
    ("exit-control.msr-load-address",
     {"VMEXIT_MSR_LOAD_COUNT": 1, "VMEXIT_MSR_LOAD_ADDR": BEYOND}),
    ("exit-control.msr-load-end",
     {"VMEXIT_MSR_LOAD_COUNT": 2, "VMEXIT_MSR_LOAD_ADDR": BEYOND - 16}),
    ("entry-control.reserved", {"VMENTRY_CONTROLS": controls("entry") | 1 << 16}),
    ("entry-control.event-type", inject(1 << 8 | 32)),
    ("entry-control.event-vector-nmi", inject(2 << 8 | 3)),
    ("entry-control.event-vector-exception", inject(3 << 8 | 32)),
    ("entry-control.event-vector-other", inject(7 << 8 | 1)),
    ("entry-control.event-error-code-vector", inject(3 << 8 | 13)),
    ("entry-control.event-error-code-vector", inject(1 << 11 | 3 << 8 | 6)),
    ("entry-control.event-error-code-reserved",
     inject(1 << 11 | 3 << 8 | 13, VMENTRY_EXCEPTION_ERROR_CODE=1 << 16)),
    ("entry-control.event-reserved", inject(1 << 12 | 3 << 8 | 6)),
    ("entry-control.event-instruction-length", inject(4 << 8 | 0x80)),
    ("entry-control.event-instruction-length",
     inject(6 << 8 | 3, VMENTRY_INSTRUCTION_LENGTH=16)),
    ("entry-control.msr-load-address",
     {"VMENTRY_MSR_LOAD_COUNT": 1, "VMENTRY_MSR_LOAD_ADDR": 1}),
    ("entry-control.msr-load-end",
     {"VMENTRY_MSR_LOAD_COUNT": 2, "VMENTRY_MSR_LOAD_ADDR": BEYOND - 16}),
    ("host.cr0-fixed", {"HOST_CR0": 0x8001_0011}),
    ("host.cr4-fixed", {"HOST_CR4": 0x20}),
    ("host.cr3-width", {"HOST_CR3": BEYOND}),
    ("host.sysenter-esp-canonical", {"HOST_IA32_SYSENTER_ESP": NON_CANONICAL}),
    ("host.sysenter-eip-canonical", {"HOST_IA32_SYSENTER_EIP": NON_CANONICAL}),
    ("host.pat", {**exits("LOAD_PAT"), "HOST_IA32_PAT": 0x02}),
    ("host.efer-reserved", {**exits("LOAD_EFER"), "HOST_IA32_EFER": 0x502}),
    ("host.efer-lma-lme", {**exits("LOAD_EFER"), "HOST_IA32_EFER": 0x100}),
    ("host.selector-rpl-ti", {"HOST_DS_SELECTOR": 3}),
    ("host.cs-nonzero", {"HOST_CS_SELECTOR": 0}),
    ("host.tr-nonzero", {"HOST_TR_SELECTOR": 0}),
    ("host.base-canonical", {"HOST_GS_BASE": NON_CANONICAL}),
    ("host.address-space-size-in-ia32e",
     {**GUEST_32, "VMEXIT_CONTROLS": controls("exit")}),
    ("host.cr4-pae", {"HOST_CR4": 0x2000}),
    ("host.rip-canonical", {"HOST_RIP": NON_CANONICAL}),
    ("guest.cr0-fixed", {"GUEST_CR0": 0x8001_0011}),
    ("guest.cr4-fixed", {"GUEST_CR4": 0x20}),
    ("guest.ia32e-needs-pae", {"GUEST_CR4": 0x2000}),
    ("guest.no-ia32e-pcide", {**GUEST_32, "GUEST_CR4": 0x2_2020}),
    ("guest.cr3-width", {"GUEST_CR3": BEYOND}),
    ("guest.debugctl", {**entry("LOAD_DEBUG_CONTROLS"), "GUEST_IA32_DEBUGCTL": 1 << 20}),
    ("guest.dr7-high", {**entry("LOAD_DEBUG_CONTROLS"), "GUEST_DR7": 1 << 32}),
    ("guest.sysenter-esp-canonical", {"GUEST_IA32_SYSENTER_ESP": NON_CANONICAL}),
    ("guest.sysenter-eip-canonical", {"GUEST_IA32_SYSENTER_EIP": NON_CANONICAL}),
    ("guest.pat", {**entry("LOAD_PAT"), "GUEST_IA32_PAT": 0x0300}),
    ("guest.efer-reserved", {**entry("LOAD_EFER"), "GUEST_IA32_EFER": 0x502}),
    ("guest.efer-lma", {**entry("LOAD_EFER"), "GUEST_IA32_EFER": 0}),
    ("guest.efer-lme", {**entry("LOAD_EFER"), "GUEST_IA32_EFER": 0x400}),
    ("guest.tr-selector-ti", {"GUEST_TR_SELECTOR": 0x1C}),
    ("guest.ldtr-selector-ti",
     {"GUEST_LDTR_SELECTOR": 4, "GUEST_LDTR_ACCESS_RIGHTS": 0x82}),
    ("guest.ss-selector-rpl", {"GUEST_CS_SELECTOR": 9}),
    ("guest.v86-base", {**V86, "GUEST_DS_BASE": 0}),
    ("guest.v86-limit", {**V86, "GUEST_DS_LIMIT": 0xFFFFF}),
    ("guest.v86-access-rights", {**V86, "GUEST_DS_ACCESS_RIGHTS": 0x93}),
    ("guest.tr-base-canonical", {"GUEST_TR_BASE": NON_CANONICAL}),
    ("guest.fs-base-canonical", {"GUEST_FS_BASE": NON_CANONICAL}),
    ("guest.gs-base-canonical", {"GUEST_GS_BASE": NON_CANONICAL}),
    ("guest.ldtr-base-canonical",
     {"GUEST_LDTR_BASE": NON_CANONICAL, "GUEST_LDTR_ACCESS_RIGHTS": 0x82}),
    ("guest.cs-base-high", {"GUEST_CS_BASE": 1 << 32}),
    ("guest.ss-base-high", {"GUEST_SS_BASE": 1 << 32}),
    ("guest.ds-base-high", {"GUEST_DS_BASE": 1 << 32}),
    ("guest.es-base-high", {"GUEST_ES_BASE": 1 << 32}),
    ("guest.cs-type", {"GUEST_CS_ACCESS_RIGHTS": 0xA09A}),
    ("guest.ss-type", {"GUEST_SS_ACCESS_RIGHTS": 0xC091}),
    ("guest.data-type", {"GUEST_DS_ACCESS_RIGHTS": 0xC092}),
    ("guest.segment-s", {"GUEST_ES_ACCESS_RIGHTS": 0xC083}),
    ("guest.cs-dpl", {"GUEST_CS_ACCESS_RIGHTS": 0xA0BB}),
    ("guest.data-dpl", {"GUEST_DS_SELECTOR": 0x13}),
    ("guest.segment-present", {"GUEST_FS_ACCESS_RIGHTS": 0xC013}),
    ("guest.segment-reserved", {"GUEST_GS_ACCESS_RIGHTS": 0xC193}),
    ("guest.cs-db-l", {"GUEST_CS_ACCESS_RIGHTS": 0xE09B}),
    ("guest.segment-granularity", {"GUEST_DS_ACCESS_RIGHTS": 0x4093}),
    ("guest.segment-granularity", {"GUEST_DS_LIMIT": 0xFFFF_FFFE}),
    ("guest.tr-type", {"GUEST_TR_ACCESS_RIGHTS": 0x89}),
    ("guest.tr-access-rights", {"GUEST_TR_ACCESS_RIGHTS": 0x1008B}),
    ("guest.ldtr-access-rights", {"GUEST_LDTR_ACCESS_RIGHTS": 0x8B}),
    ("guest.gdtr-base-canonical", {"GUEST_GDTR_BASE": NON_CANONICAL}),
    ("guest.idtr-base-canonical", {"GUEST_IDTR_BASE": NON_CANONICAL}),
    ("guest.gdtr-limit", {"GUEST_GDTR_LIMIT": 0x1_0000}),
    ("guest.idtr-limit", {"GUEST_IDTR_LIMIT": 0x1_0000}),
    ("guest.rip-32-bit", {"GUEST_CS_ACCESS_RIGHTS": _CODE_32, "GUEST_RIP": 1 << 32}),
    ("guest.rip-canonical", {"GUEST_RIP": NON_CANONICAL}),
    ("guest.rflags-reserved", {"GUEST_RFLAGS": 0}),
    ("guest.rflags-reserved", {"GUEST_RFLAGS": 0x8002}),
    ("guest.rflags-if", inject(0x20)),
    ("guest.activity-state", {"GUEST_ACTIVITY_STATE": 4}),
    ("guest.activity-blocking",
     {"GUEST_ACTIVITY_STATE": 1, "GUEST_INTERRUPTIBILITY_STATE": 2}),
    ("guest.activity-injection", inject(3 << 8 | 6, GUEST_ACTIVITY_STATE=1)),
    ("guest.interruptibility-reserved", {"GUEST_INTERRUPTIBILITY_STATE": 1 << 5}),
    ("guest.sti-and-mov-ss",
     {"GUEST_INTERRUPTIBILITY_STATE": 3, "GUEST_RFLAGS": 0x202}),
    ("guest.sti-needs-if", {"GUEST_INTERRUPTIBILITY_STATE": 1}),
    ("guest.blocking-external-interrupt",
     inject(0x20, GUEST_RFLAGS=0x202, GUEST_INTERRUPTIBILITY_STATE=1)),
    ("guest.blocking-nmi-mov-ss", inject(2 << 8 | 2, GUEST_INTERRUPTIBILITY_STATE=2)),
    ("guest.blocking-nmi-sti",
     inject(2 << 8 | 2, GUEST_INTERRUPTIBILITY_STATE=1, GUEST_RFLAGS=0x202)),
    ("guest.blocking-smi", {"GUEST_INTERRUPTIBILITY_STATE": 4}),
    ("guest.virtual-nmi-blocking",
     inject(2 << 8 | 2, GUEST_INTERRUPTIBILITY_STATE=8,
            PINBASED_CONTROLS=controls("pin", "NMI_EXITING", "VIRTUAL_NMIS"))),
    ("guest.enclave-interruption", {"GUEST_INTERRUPTIBILITY_STATE": 16}),
    ("guest.pending-debug-reserved", {"GUEST_PENDING_DBG_EXCEPTIONS": 1 << 5}),
    ("guest.pending-debug-bs",
     {"GUEST_INTERRUPTIBILITY_STATE": 2, "GUEST_RFLAGS": 0x102}),
    ("guest.link-pointer-address", {"VMCS_LINK_POINTER": BEYOND}),
    ("guest.link-pointer-revision", {"VMCS_LINK_POINTER": 0x9000}),
    ("guest.link-pointer-current", {"VMCS_LINK_POINTER": VMCS}),
    ("guest.pdpte-reserved",
     {**GUEST_32, "GUEST_CR4": 0x2020, **ept(GUEST_PDPTE2=3)}),
]  # fmt: skip
"""A rule, and what to change in a legal VMCS so that it is the first one broken."""

PML, VE, VMFUNC = "ENABLE_PML", "EPT_VIOLATION_VE", "ENABLE_VM_FUNCTIONS"
_LINK = {**secondary("VMCS_SHADOWING")}
ON_MAX: list[tuple[str, dict[str, int]]] = [
    ("control.pml-needs-ept", secondary(PML)),
    ("control.pml-address", {**ept(PML_ADDRESS=0x9008), **secondary("ENABLE_EPT", PML)}),
    ("control.ve-information-address",
     {**ept(VE_INFO_ADDR=BEYOND), **secondary("ENABLE_EPT", VE)}),
    ("control.mbe-needs-ept", secondary("MODE_BASED_EPT_EXECUTE")),
    ("control.tsc-multiplier", secondary("USE_TSC_SCALING")),
    ("control.vmread-bitmap", {**_LINK, "VMREAD_BITMAP_ADDR": 0x9001}),
    ("control.vmwrite-bitmap", {**_LINK, "VMWRITE_BITMAP_ADDR": BEYOND}),
    ("control.tpr-shadow-needed", secondary("VIRTUALIZE_X2APIC_MODE")),
    ("control.vm-function-controls",
     {**ept(VM_FUNCTION_CONTROLS=2), **secondary("ENABLE_EPT", VMFUNC)}),
    ("control.eptp-switching-needs-ept", {**secondary(VMFUNC), "VM_FUNCTION_CONTROLS": 1}),
    ("control.eptp-list-address",
     {**ept(VM_FUNCTION_CONTROLS=1, EPTP_LIST_ADDR=0x9010), **secondary("ENABLE_EPT", VMFUNC)}),
]  # fmt: skip
"""The same, for rules on controls that only the newest CPU has."""


@EVERY_ENGINE
@pytest.mark.parametrize(("rule", "change"), ON_MAX, ids=[rule for rule, _ in ON_MAX])
def test_a_broken_rule_on_later_controls_gives_its_result(
    engine: str, rule: str, change: dict[str, int]
) -> None:
    bench = Bench(engine, profile="max", fields=change)
    assert (bench.enter(), bench.error, bench.word("vmx")) == (2, 7, 1)
    values = {**legal_fields(), **change, "efer": 0x500, "vmcs_pointer": VMCS}
    broken = violated(values, "max", memory=lambda width, hpa: {VMCS: REVISION}.get(hpa, 0))
    assert broken[0].id == rule


IDS = [f"{rule}-{n}" for n, (rule, _) in enumerate(BROKEN)]
COVERING = [
    pytest.param(rule, change, id=id, marks=pytest.mark.covers(f"check.{rule}"))
    for (rule, change), id in zip(BROKEN, IDS, strict=True)
]


@EVERY_ENGINE
@pytest.mark.parametrize(("rule", "change"), COVERING)
def test_a_broken_rule_gives_its_result(engine: str, rule: str, change: dict[str, int]) -> None:
    bench = Bench(engine, fields=change)
    row = entry_check(rule)
    status = bench.enter()
    if row.error_number is not None:
        assert (status, bench.error, bench.word("vmx")) == (2, row.error_number, 1)
    else:
        assert status == 0
        assert bench.word("vmx") == 1
        assert bench.vmread("EXIT_REASON") == 1 << 31 | 33
        assert bench.vmread("EXIT_QUALIFICATION") == row.qualification
        assert bench.word("rip") == legal_fields()["HOST_RIP"]
    assert bench.cpu.bus.load(VMCS + 8, 64) == 0, "the VMCS stays clear"


@pytest.mark.parametrize(("rule", "change"), BROKEN, ids=IDS)
def test_a_broken_rule_is_explained_first(rule: str, change: dict[str, int]) -> None:
    values = {**legal_fields(), **change, "efer": 0x500, "vmcs_pointer": VMCS}
    memory = {VMCS: REVISION}
    broken = violated(values, memory=lambda width, hpa: memory.get(hpa, 0))
    assert broken[0].id == rule


def test_the_legal_vmcs_breaks_no_rule() -> None:
    assert violated({**legal_fields(), "efer": 0x500, "vmcs_pointer": VMCS}) == []


def test_v86_and_32_bit_guests_break_no_rule() -> None:
    for change in (GUEST_32, V86):
        values = {**legal_fields(), **change, "efer": 0x500, "vmcs_pointer": VMCS}
        assert violated(values) == []


def test_every_row_of_the_table_is_kept_by_something() -> None:
    assert unbuilt_checks() == ()


NO_EFER = {"efer": 0}
NEVER_FIRST: list[tuple[str, dict[str, int]]] = [
    ("control.x2apic-not-with-apic-accesses",
     secondary("VIRTUALIZE_X2APIC_MODE", "VIRTUALIZE_APIC_ACCESSES")),
    ("entry-control.smm", {"VMENTRY_CONTROLS": controls("entry", "IA32E_MODE_GUEST") | 1 << 10}),
    ("entry-control.event-error-code-protected-mode",
     {**ept(GUEST_CR0=0x30), **inject(1 << 11 | 3 << 8 | 13),
      "SECONDARY_PROCBASED_CONTROLS": controls("sec", "ENABLE_EPT", "UNRESTRICTED_GUEST")}),
    ("host.ss-nonzero", {**NO_EFER, "VMEXIT_CONTROLS": controls("exit"), "HOST_SS_SELECTOR": 0}),
    ("host.address-space-size-outside-ia32e", NO_EFER),
    ("host.ia32e-guest-needs-64-bit-host", {"VMEXIT_CONTROLS": controls("exit")}),
    ("host.cr4-pcide", {**NO_EFER, "VMEXIT_CONTROLS": controls("exit"), "HOST_CR4": 0x2_2020}),
    ("host.rip-32-bit", {**NO_EFER, "VMEXIT_CONTROLS": controls("exit"), "HOST_RIP": 1 << 32}),
    ("guest.cr0-pg-needs-pe", {"GUEST_CR0": 0x8001_0030}),
    ("guest.cr4-cet-needs-wp", {"GUEST_CR0": 0x8000_0031, "GUEST_CR4": 0x80_2020}),
    ("guest.ia32e-needs-pg", {"GUEST_CR0": 0x31}),
    ("guest.ss-dpl-rpl", {"GUEST_SS_ACCESS_RIGHTS": 0xC0F3}),
    ("guest.ss-dpl-real", {"GUEST_CR0": 0x30, "GUEST_SS_ACCESS_RIGHTS": 0xC0F3}),
    ("guest.rflags-vm", {**V86, "VMENTRY_CONTROLS": controls("entry", "IA32E_MODE_GUEST")}),
    ("guest.activity-hlt-dpl",
     {"GUEST_ACTIVITY_STATE": 1, "GUEST_SS_ACCESS_RIGHTS": 0xC0F3}),
    ("guest.pending-debug-rtm", {"GUEST_PENDING_DBG_EXCEPTIONS": 1 << 16}),
    ("guest.link-pointer-shadow", {"VMCS_LINK_POINTER": 0x9000}),
]  # fmt: skip
"""Rules that another CPU mode or another broken rule goes with."""


@pytest.mark.parametrize(
    ("rule", "change"),
    [
        pytest.param(rule, change, id=rule, marks=pytest.mark.covers(f"check.{rule}"))
        for rule, change in NEVER_FIRST
    ],
)
def test_a_rule_broken_among_others_is_explained(rule: str, change: dict[str, int]) -> None:
    values = {**legal_fields(), "efer": 0x500, "vmcs_pointer": VMCS, **change}
    memory = {0x9000: REVISION | 1 << 31}
    broken = violated(values, memory=lambda width, hpa: memory.get(hpa, 0))
    assert rule in {check.id for check in broken}


def test_every_rule_that_some_cpu_can_break_is_broken_here() -> None:
    """All profiles with EPT have its accessed and dirty flags, so that rule always holds."""
    reachable = {rule.id for rule in checks() if rule.reachable}
    broken = {rule for rule, _ in (*BROKEN, *ON_MAX, *NEVER_FIRST)}
    assert reachable - broken == {"control.eptp-accessed-dirty"}


def test_the_registry_stands_in_the_order_of_the_manual() -> None:
    orders = [rule.row.order for rule in checks()]
    assert orders == sorted(orders)
    assert {rule.id for rule in checks()} <= {row.id for row in entry_checks()}


def test_a_rule_knows_the_fields_it_reads() -> None:
    (rule,) = (rule for rule in checks() if rule.id == "guest.rflags-if")
    assert rule.fields == ("VMENTRY_INTERRUPTION_INFO", "GUEST_RFLAGS")
