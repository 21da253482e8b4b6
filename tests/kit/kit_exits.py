"""What a guest instruction does in VMX non-root operation: exits, its neighbours that do not, and
which of a fault and an exit comes first.

Each case says which rows of the tables it covers and what the SDM demands; the numbers here were
read in the manual (SDM 3C, Instructions That Cause VM Exits; Relative Priority of Faults and VM
Exits; 3D, Exit Qualification), not on vtx. A guest that goes through ends in VMCALL.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.kit.kit_checks import CONTEXTS
from tests.kit.kit_layout import (
    CODE,
    EPT_DIRECTORY,
    GDT,
    HANDLER,
    IO_BITMAP_A,
    MSR_AREA,
    MSR_BITMAP,
    PML4,
    TSS,
    VIRTUAL_APIC,
    Case,
    Edits,
    Stores,
    secondary,
)
from tests.vtx.vmx.bench import SECONDARY, controls
from vtx.spec import EXITS

DB, UD, GP, PF = 1, 6, 13, 14
RING_3 = CONTEXTS["ring3"]


@dataclass(frozen=True)
class Expected:
    """What the case must report; None: not defined, or not of interest."""

    reason: int
    qualification: int | None = None
    vector: int | None = None
    length: int | None = None
    rip: int | None = None


@dataclass(frozen=True)
class ExitCase:
    """A guest, what becomes of it, and the rows it covers: exit.NAME or control.word.NAME."""

    case: Case
    expected: Expected
    covers: tuple[str, ...]


CASES: list[ExitCase] = []


def _add(
    name: str, covers: str, code: str, expected: Expected, edits: Edits | None = None,
    stores: Stores | None = None,
) -> None:  # fmt: skip
    case = Case(name, edits or {}, stores or {}, bytes.fromhex(code))
    CASES.append(ExitCase(case, expected, tuple(covers.split())))


def _exits(name: str, qualification: int | None = 0, length: int | None = None) -> Expected:
    return Expected(EXITS.__getattr__(name), qualification, length=length)


def _faults(vector: int) -> Expected:
    return Expected(EXITS.EXCEPTION_OR_NMI, vector=vector)


THROUGH = _exits("VMCALL")


def _proc(*names: str) -> dict[str, int]:
    return {"PROCBASED_CONTROLS": controls("proc", *names)}


def _controlled(
    exit: str, control: str, code: str, qualification: int = 0, *, edits: Edits | None = None,
    privileged: bool = True,
) -> None:  # fmt: skip
    """An instruction that exits by one primary or secondary control, passes without, and is #GP
    at CPL 3 before it could exit."""
    word, name = control.split(".")
    wanted = _proc(name) if word == "proc" else secondary(name)
    rows = f"exit.{exit} control.{control}"
    more = dict(edits or {})
    length = len(bytes.fromhex(code))
    _add(f"{exit} by {control}", rows, code, _exits(exit, qualification, length), wanted | more)
    _add(f"no {exit} without {control}", rows, code, THROUGH, more)
    if privileged:
        ring = {**wanted, **more, **RING_3}
        _add(f"#GP before {exit}", rows, code, _faults(GP), ring)


def _always(exit: str, code: str, *, ring3_faults: bool) -> None:
    """An instruction that exits whatever the controls say."""
    length = len(bytes.fromhex(code))
    _add(f"{exit} always", f"exit.{exit}", code, _exits(exit, None, length))
    outcome = _faults(GP) if ring3_faults else _exits(exit, None, length)
    _add(f"{exit} at CPL 3", f"exit.{exit}", code, outcome, RING_3)
    _add(f"no {exit} by another instruction", f"exit.{exit}", "90", THROUGH)


# --- unconditional ---------------------------------------------------------------------------

_always("CPUID", "0fa2", ring3_faults=False)
_always("INVD", "0f08", ring3_faults=True)
_add("VMCALL always", "exit.VMCALL", "0f01c1", _exits("VMCALL", 0, 3))
_add("VMCALL at CPL 3", "exit.VMCALL", "0f01c1", _exits("VMCALL", 0, 3), RING_3)
_add("no VMCALL where UD2 comes first", "exit.VMCALL", "0f0b", _faults(UD))
# In VMX non-root operation these exit before they look at CPL.
for _name, _code in (
    ("VMCLEAR", "660fc730"), ("VMLAUNCH", "0f01c2"), ("VMPTRLD", "0fc730"), ("VMPTRST", "0fc738"),
    ("VMREAD", "0f78c0"), ("VMRESUME", "0f01c3"), ("VMWRITE", "0f79c0"), ("VMXOFF", "0f01c4"),
    ("VMXON", "f30fc730"), ("INVEPT", "660f388000"), ("INVVPID", "660f388100"),
):  # fmt: skip
    _always(_name, _code, ring3_faults=False)
_add(
    "#UD before an exit of VMLAUNCH in compatibility mode", "exit.VMLAUNCH", "0f01c2", _faults(UD),
    {"GUEST_CS_ACCESS_RIGHTS": 0xC09B},
)  # fmt: skip
_add("GETSEC without SMX is #UD", "exit.EXCEPTION_OR_NMI", "0f37", _faults(UD))
_add("VMFUNC not enabled is #UD", "exit.EXCEPTION_OR_NMI", "0f01d4", _faults(UD))

# --- by a control ----------------------------------------------------------------------------

_controlled("INVLPG", "proc.INVLPG_EXITING", "0f0138")
_controlled("RDTSC", "proc.RDTSC_EXITING", "0f31", privileged=False)
_add(
    "#GP by CR4.TSD before RDTSC", "exit.RDTSC", "0f31", _faults(GP),
    {**_proc("RDTSC_EXITING"), **RING_3, "GUEST_CR4": 0x2024},
)  # fmt: skip
_controlled("PAUSE", "proc.PAUSE_EXITING", "f390", privileged=False)
_controlled("DR_ACCESS", "proc.MOV_DR_EXITING", "0f21c0", 0x10, privileged=False)
_add(
    "#GP of MOV DR at CPL 3 where it does not exit", "exit.DR_ACCESS", "0f21c0", _faults(GP), RING_3
)
_add(
    "an exit of MOV DR before #GP for CPL", "exit.DR_ACCESS", "0f21c0", _exits("DR_ACCESS", 16),
    {**_proc("MOV_DR_EXITING"), **RING_3},
)  # fmt: skip
_add(
    "an exit of MOV DR before #UD of DR4 by CR4.DE", "exit.DR_ACCESS", "0f21e0",
    _exits("DR_ACCESS", 0x14), {**_proc("MOV_DR_EXITING"), "GUEST_CR4": 0x2028},
)  # fmt: skip
_add(
    "#UD of DR4 by CR4.DE where MOV DR does not exit", "exit.DR_ACCESS", "0f21e0", _faults(UD),
    {"GUEST_CR4": 0x2028},
)  # fmt: skip
_add(
    "an exit of MOV DR before general detect", "exit.DR_ACCESS", "0f21c0", _exits("DR_ACCESS", 16),
    {
        **_proc("MOV_DR_EXITING"), "GUEST_DR7": 0x2400,
        "VMENTRY_CONTROLS": controls("entry", "IA32E_MODE_GUEST", "LOAD_DEBUG_CONTROLS"),
    },
)  # fmt: skip
_add(
    "general detect without MOV-DR exiting", "control.entry.LOAD_DEBUG_CONTROLS", "0f21c0",
    _faults(DB),
    {
        "GUEST_DR7": 0x2400,
        "VMENTRY_CONTROLS": controls("entry", "IA32E_MODE_GUEST", "LOAD_DEBUG_CONTROLS"),
    },
)  # fmt: skip
_controlled("WBINVD", "sec.WBINVD_EXITING", "0f09")
_controlled("RDRAND", "sec.RDRAND_EXITING", "0fc7f0", privileged=False)
_controlled("RDSEED", "sec.RDSEED_EXITING", "0fc7f8", privileged=False)
_controlled("GDTR_IDTR_ACCESS", "sec.DESCRIPTOR_TABLE_EXITING", "0f0100", privileged=False)
_controlled("LDTR_TR_ACCESS", "sec.DESCRIPTOR_TABLE_EXITING", "0f00d0")
_add(
    "#GP before an exit of LGDT", "exit.GDTR_IDTR_ACCESS", "0f0110", _faults(GP),
    {**secondary("DESCRIPTOR_TABLE_EXITING"), **RING_3},
)  # fmt: skip
_add(
    "secondary controls count only when activated",
    "control.proc.ACTIVATE_SECONDARY_CONTROLS", "0f09", THROUGH,
    {"SECONDARY_PROCBASED_CONTROLS": controls("sec", "WBINVD_EXITING")},
)  # fmt: skip
_add(
    "and do when activated", "control.proc.ACTIVATE_SECONDARY_CONTROLS", "0f09", _exits("WBINVD"),
    secondary("WBINVD_EXITING"),
)  # fmt: skip

for _exit, _code in (("MWAIT", "0f01c9"), ("MONITOR", "0f01c8")):
    _add(
        f"{_exit} without the feature is #UD, whatever its control says",
        f"exit.{_exit} control.proc.{_exit}_EXITING", _code, _faults(UD),
        _proc(f"{_exit}_EXITING"),
    )  # fmt: skip
_add("XSETBV without CR4.OSXSAVE is #UD", "exit.XSETBV", "0f01d1", _faults(UD))

_HLT = "exit.HLT control.proc.HLT_EXITING"
_add("HLT by its control", _HLT, "f4", _exits("HLT", 0, 1), _proc("HLT_EXITING"))
_add("without it the guest sleeps", _HLT, "f4", _exits("PREEMPTION_TIMER", None))
_add("#GP before HLT", _HLT, "f4", _faults(GP), {**_proc("HLT_EXITING"), **RING_3})

_RDPMC = "exit.RDPMC control.proc.RDPMC_EXITING"
_add("RDPMC by its control", _RDPMC, "0f33", _exits("RDPMC", 0, 2), _proc("RDPMC_EXITING"))
_add("#GP before RDPMC", _RDPMC, "0f33", _faults(GP), {**_proc("RDPMC_EXITING"), **RING_3})
_add(
    "RDPMC without its control does not exit", _RDPMC, "0f33", _faults(GP), RING_3,
)  # fmt: skip

_TIMER = "exit.PREEMPTION_TIMER control.pin.PREEMPTION_TIMER"
_add("a guest without end", _TIMER, "ebfe", _exits("PREEMPTION_TIMER"))
_add("a guest with an end before", _TIMER, "90", THROUGH)
_add("without the timer", _TIMER, "90", THROUGH, {"PINBASED_CONTROLS": controls("pin"),
     "PREEMPTION_TIMER_VALUE": 0})  # fmt: skip

# --- RDTSCP, INVPCID: enabled by one control, exiting by another ------------------------------


def _with_secondary(*names: str, primary: tuple[str, ...] = ()) -> dict[str, int]:
    return {**secondary(*names), "PROCBASED_CONTROLS": controls("proc", SECONDARY, *primary)}


for _exit, _enable, _primary, _code in (
    ("RDTSCP", "ENABLE_RDTSCP", "RDTSC_EXITING", "0f01f9"),
    ("INVPCID", "ENABLE_INVPCID", "INVLPG_EXITING", "660f38820425f0cf0300"),  # [0x3cff0]
):
    _rows = f"exit.{_exit} control.sec.{_enable} control.proc.{_primary}"
    _length = len(bytes.fromhex(_code))
    _both = _with_secondary(_enable, primary=(_primary,))
    _told = 0x3CFF0 if _exit == "INVPCID" else 0  # the displacement
    _add(f"{_exit} by its two controls", _rows, _code, _exits(_exit, _told, _length), _both)
    _add(f"{_exit} enabled", _rows, _code, THROUGH, _with_secondary(_enable))
    _add(f"{_exit} not enabled is #UD", _rows, _code, _faults(UD), _proc(_primary))
_add(
    "#GP before INVPCID", "exit.INVPCID", "660f388200", _faults(GP),
    {**_with_secondary("ENABLE_INVPCID", primary=("INVLPG_EXITING",)), **RING_3},
)  # fmt: skip

# --- control registers -----------------------------------------------------------------------

_LOAD = "exit.CR_ACCESS control.proc.CR3_LOAD_EXITING"
_STORE = "exit.CR_ACCESS control.proc.CR3_STORE_EXITING"
_reload = "0f20d80f22d8"  # mov rax, cr3; mov cr3, rax
_add("MOV to CR3", _LOAD, _reload, Expected(EXITS.CR_ACCESS, 3, rip=CODE + 3),
     _proc("CR3_LOAD_EXITING"))  # fmt: skip
_add("not without CR3-load exiting", _LOAD, _reload, THROUGH)
_add("not for a CR3-target value", _LOAD, _reload, THROUGH,
     {**_proc("CR3_LOAD_EXITING"), "CR3_TARGET_COUNT": 1, "CR3_TARGET_VALUE_0": PML4})  # fmt: skip
_add("#GP before MOV to CR3", _LOAD, "0f22d8", _faults(GP),
     {**_proc("CR3_LOAD_EXITING"), **RING_3})  # fmt: skip
_add("MOV from CR3", _STORE, "0f20d8", _exits("CR_ACCESS", 0x13, 3), _proc("CR3_STORE_EXITING"))
_add("not without CR3-store exiting", _STORE, "0f20d8", THROUGH)
_add("MOV to CR8", "control.proc.CR8_LOAD_EXITING", "440f22c0", _exits("CR_ACCESS", 8, 4),
     _proc("CR8_LOAD_EXITING"))  # fmt: skip
_add("not without CR8-load exiting", "control.proc.CR8_LOAD_EXITING", "440f22c0", THROUGH)
_add("MOV from CR8", "control.proc.CR8_STORE_EXITING", "440f20c0", _exits("CR_ACCESS", 0x18, 4),
     _proc("CR8_STORE_EXITING"))  # fmt: skip
_add("not without CR8-store exiting", "control.proc.CR8_STORE_EXITING", "440f20c0", THROUGH)
_add("CLTS of a bit the VMM owns", "exit.CR_ACCESS", "0f06", _exits("CR_ACCESS", 0x20, 2),
     {"CR0_GUEST_HOST_MASK": 8, "CR0_READ_SHADOW": 8})  # fmt: skip
_add("CLTS of a bit the guest owns", "exit.CR_ACCESS", "0f06", THROUGH)
_SHADOW = "exit.TPR_BELOW_THRESHOLD control.proc.USE_TPR_SHADOW"
_add("CR8 below the threshold", _SHADOW, "440f22c0", _exits("TPR_BELOW_THRESHOLD"),
     {**_proc("USE_TPR_SHADOW"), "TPR_THRESHOLD": 4}, {VIRTUAL_APIC + 0x80: 0x50})  # fmt: skip
_add("CR8 at the threshold", _SHADOW, "b804000000440f22c0", THROUGH,
     {**_proc("USE_TPR_SHADOW"), "TPR_THRESHOLD": 4}, {VIRTUAL_APIC + 0x80: 0x50})  # fmt: skip

# --- I/O and MSRs ----------------------------------------------------------------------------

_IO = "exit.IO_INSTRUCTION control.proc.UNCONDITIONAL_IO_EXITING"
_BITMAP = "exit.IO_INSTRUCTION control.proc.USE_IO_BITMAPS"
_in = "e480"  # in al, 0x80
_NO_PORTS = {TSS + 0x60: 0xFFFF << 48}
_add("IN", _IO, _in, _exits("IO_INSTRUCTION", 0x0080_0048, 2), _proc("UNCONDITIONAL_IO_EXITING"))
_add("IN without I/O exiting", _IO, _in, THROUGH)
_add("#GP before IN", _IO, _in, _faults(GP),
     {**_proc("UNCONDITIONAL_IO_EXITING"), **RING_3}, _NO_PORTS)  # fmt: skip
_add("a port whose bit is 1", _BITMAP, _in, _exits("IO_INSTRUCTION", 0x0080_0048, 2),
     _proc("USE_IO_BITMAPS"), {IO_BITMAP_A + 0x10: 1})  # fmt: skip
_add("a port whose bit is 0", _BITMAP, _in, THROUGH,
     _proc("USE_IO_BITMAPS"), {IO_BITMAP_A + 0x10: 2})  # fmt: skip
_add("bitmaps count, unconditional I/O exiting does not", _BITMAP, _in, THROUGH,
     _proc("USE_IO_BITMAPS", "UNCONDITIONAL_IO_EXITING"))  # fmt: skip
_MSRS = "control.proc.USE_MSR_BITMAPS"
_sysenter_cs = "b974010000"  # mov ecx, 0x174
for _exit, _code, _place in (("RDMSR", "0f32", 0), ("WRMSR", "0f30", 0x800)):
    _rows, _code = f"exit.{_exit} {_MSRS}", _sysenter_cs + _code
    _bit = {MSR_BITMAP + _place + 0x28: 1 << (0x174 - 0x140)}
    _there = Expected(EXITS.__getattr__(_exit), 0, length=2, rip=CODE + 5)
    _add(f"{_exit} without a bitmap", _rows, _code, _there)
    _add(f"{_exit} whose bit is 0", _rows, _code, THROUGH, _proc("USE_MSR_BITMAPS"))
    _add(f"{_exit} whose bit is 1", _rows, _code, _there, _proc("USE_MSR_BITMAPS"), _bit)
    _add(f"#GP before {_exit}", _rows, _code, _faults(GP), RING_3)
    _add(f"{_exit} of an MSR in neither range", _rows, f"b900004d40{_code[-4:]}", _there,
         _proc("USE_MSR_BITMAPS"))  # fmt: skip

# --- events ----------------------------------------------------------------------------------

_EXCEPTION = "exit.EXCEPTION_OR_NMI"
_add("an exception that the bitmap selects", _EXCEPTION, "0f0b", _faults(UD))
_add("one that it does not reaches the guest", _EXCEPTION, "0f0b",
     Expected(EXITS.VMCALL, rip=HANDLER), {"EXCEPTION_BITMAP": 0})  # fmt: skip
_beyond = "8b042500000040"  # mov eax, [0x40000000]
_add("a page fault with its address", _EXCEPTION, _beyond,
     Expected(EXITS.EXCEPTION_OR_NMI, 0x4000_0000, vector=PF))  # fmt: skip
_add("a page fault that mask and match leave out", _EXCEPTION, _beyond,
     Expected(EXITS.VMCALL, rip=HANDLER),
     {"PF_ERROR_CODE_MASK": 2, "PF_ERROR_CODE_MATCH": 2})  # fmt: skip
_add("a triple fault", "exit.TRIPLE_FAULT", "0f0b", _exits("TRIPLE_FAULT"),
     {"EXCEPTION_BITMAP": 0, "GUEST_IDTR_LIMIT": 0})  # fmt: skip
_add("no triple fault where the IDT is whole", "exit.TRIPLE_FAULT", "0f0b",
     Expected(EXITS.VMCALL, rip=HANDLER), {"EXCEPTION_BITMAP": 0})  # fmt: skip
_WINDOW = "exit.INTERRUPT_WINDOW control.proc.INTERRUPT_WINDOW_EXITING"
_window = _proc("INTERRUPT_WINDOW_EXITING")
_add("an open interrupt window", _WINDOW, "90", _exits("INTERRUPT_WINDOW"),
     {**_window, "GUEST_RFLAGS": 0x202})  # fmt: skip
_add("shut by IF", _WINDOW, "90", THROUGH, _window)
_add("not asked for", _WINDOW, "90", THROUGH, {"GUEST_RFLAGS": 0x202})
_add("open one instruction behind STI", _WINDOW, "9090",
     Expected(EXITS.INTERRUPT_WINDOW, 0, rip=CODE + 1),
     {**_window, "GUEST_RFLAGS": 0x202, "GUEST_INTERRUPTIBILITY_STATE": 1})  # fmt: skip
_NMI = "exit.NMI_WINDOW control.proc.NMI_WINDOW_EXITING control.pin.VIRTUAL_NMIS"
_nmi = CONTEXTS["nmi-window"]
_add("an open NMI window", _NMI, "90", _exits("NMI_WINDOW"), _nmi)
_add("shut by blocking", _NMI, "90", THROUGH, {**_nmi, "GUEST_INTERRUPTIBILITY_STATE": 8})
_add("an NMI window not asked for", _NMI, "90", THROUGH, CONTEXTS["virtual-nmis"])
_MTF = "exit.MONITOR_TRAP_FLAG control.proc.MONITOR_TRAP_FLAG"
_add("behind one instruction", _MTF, "9090", Expected(EXITS.MONITOR_TRAP_FLAG, 0, rip=CODE + 1),
     _proc("MONITOR_TRAP_FLAG"))  # fmt: skip
_add("no monitor trap without the flag", _MTF, "9090", THROUGH)
_add("injected", _MTF, "90", Expected(EXITS.MONITOR_TRAP_FLAG, 0, rip=CODE),
     CONTEXTS["inject-other"])  # fmt: skip
_add("an exit of the instruction instead", _MTF, "0fa2", _exits("CPUID", 0, 2),
     _proc("MONITOR_TRAP_FLAG"))  # fmt: skip
_TASK = "exit.TASK_SWITCH"
_jump = "ea000000002000"  # jmp 0x20:0
_TSS_DESCRIPTOR = 0x67 | (TSS & 0xFFFF) << 16 | (TSS >> 16) << 32 | 0x89 << 40
_add("a far jump to a TSS", _TASK, _jump, _exits("TASK_SWITCH", 2 << 30 | 0x20, 7),
     CONTEXTS["pae"], {GDT + 0x20: _TSS_DESCRIPTOR})  # fmt: skip
_add("#GP where it is in IA-32e mode", _TASK, "ff2c2500000300", _faults(GP),
     {"GUEST_RIP": CODE}, {GDT + 0x20: _TSS_DESCRIPTOR})  # fmt: skip

# --- translation -----------------------------------------------------------------------------

_EPT = "exit.EPT_VIOLATION control.sec.ENABLE_EPT"
_load = "8b042500004000"  # mov eax, [0x400000]
_PAGE = EPT_DIRECTORY + 2 * 8
_add("a page that is not present", _EPT, _load, _exits("EPT_VIOLATION", 0x781),
     CONTEXTS["ept"], {_PAGE: 0})  # fmt: skip
_add("a page that may be read", _EPT, _load, THROUGH, CONTEXTS["ept"])
_add("without EPT", _EPT, _load, THROUGH, {}, {_PAGE: 0})
_add("an entry with an unsupported setting", "exit.EPT_MISCONFIGURATION", _load,
     _exits("EPT_MISCONFIGURATION"), CONTEXTS["ept"], {_PAGE: 0x40_00B6})  # fmt: skip
_add("an entry with none", "exit.EPT_MISCONFIGURATION", _load, THROUGH, CONTEXTS["ept"])

# --- what controls do to a guest --------------------------------------------------------------

_tsc = "0f31c1ea0883e20175020f0b"  # rdtsc; bit 8 of edx: on, else ud2
_OFFSET = {"TSC_OFFSET": 1 << 40}
_add("the TSC with its offset", "control.proc.USE_TSC_OFFSETTING", _tsc, THROUGH,
     {**_proc("USE_TSC_OFFSETTING"), **_OFFSET})  # fmt: skip
_add("the TSC without", "control.proc.USE_TSC_OFFSETTING", _tsc, _faults(UD), _OFFSET)
_add("an unrestricted guest keeps paging off", "control.sec.UNRESTRICTED_GUEST", "0f20c00f22c0",
     THROUGH, CONTEXTS["unpaged"])  # fmt: skip
_off = "0f20c025ffffff7f0f22c0"  # CR0.PG off in 32-bit code
_add("a restricted one may not turn it off", "control.sec.UNRESTRICTED_GUEST", _off, _faults(GP),
     CONTEXTS["pae"])  # fmt: skip
_add("a 64-bit guest", "control.entry.IA32E_MODE_GUEST", "4890", THROUGH)
_add("a 32-bit guest", "control.entry.IA32E_MODE_GUEST", "4090", THROUGH, CONTEXTS["pae"])
_BACK = {"VMEXIT_CONTROLS": controls("exit", "HOST_ADDRESS_SPACE_SIZE", "LOAD_EFER", "LOAD_PAT")}
_EFER = controls("entry", "IA32E_MODE_GUEST", "LOAD_EFER")
_read_efer = "b9800000c00f32a80175020f0b"  # rdmsr IA32_EFER; SCE on, else ud2
_no_exit = _proc("USE_MSR_BITMAPS")
_add("IA32_EFER loaded", "control.entry.LOAD_EFER", _read_efer, THROUGH,
     {**_no_exit, **_BACK, "VMENTRY_CONTROLS": _EFER, "GUEST_IA32_EFER": 0x501})  # fmt: skip
_add("IA32_EFER not loaded", "control.entry.LOAD_EFER", _read_efer, _faults(UD),
     {**_no_exit, "GUEST_IA32_EFER": 0x501})  # fmt: skip
_PAT = controls("entry", "IA32E_MODE_GUEST", "LOAD_PAT")
_read_pat = "b9770200000f3284c075020f0b"  # rdmsr IA32_PAT; low byte not 0, else ud2
_add("IA32_PAT loaded", "control.entry.LOAD_PAT", _read_pat, _faults(UD),
     {**_no_exit, **_BACK, "VMENTRY_CONTROLS": _PAT, "GUEST_IA32_PAT": 0x0100})  # fmt: skip
_add("IA32_PAT not loaded", "control.entry.LOAD_PAT", _read_pat, THROUGH,
     {**_no_exit, "GUEST_IA32_PAT": 0x0100})  # fmt: skip

# --- MSR areas that cannot be loaded ---------------------------------------------------------

_AREA = {"VMENTRY_MSR_LOAD_COUNT": 2}
_FAILED = Expected(1 << 31 | EXITS.ENTRY_FAIL_MSR_LOADING, 2)
_ROW = "exit.ENTRY_FAIL_MSR_LOADING"
_second = MSR_AREA + 16
_add("IA32_FS_BASE is not loaded", f"{_ROW} check.msr-load.fs-gs-base", "", _FAILED, _AREA,
     {_second: 0xC000_0100, _second + 8: 0})  # fmt: skip
_add("an SMM-only MSR is not loaded", f"{_ROW} check.msr-load.smm-only", "", _FAILED, _AREA,
     {_second: 0x9E, _second + 8: 0})  # fmt: skip
_add("reserved bits of an entry", f"{_ROW} check.msr-load.reserved", "", _FAILED, _AREA,
     {_second: 1 << 32 | 0xC000_0082, _second + 8: 0})  # fmt: skip
_add("a value that WRMSR refuses", f"{_ROW} check.msr-load.wrmsr", "", _FAILED, _AREA,
     {_second: 0xC000_0082, _second + 8: 1 << 63})  # fmt: skip
_add("a legal area", _ROW, "90", THROUGH, _AREA)
