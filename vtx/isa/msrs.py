"""Model-specific registers: RDMSR, WRMSR, and the time-stamp counter.

`read_msr` and `write_msr` are routines, for VM entry and exit load and store MSRs too. Which
MSRs there are and which of their bits may be written is the spec table; here stands what
reading and writing the unusual ones does.
Sources: SDM 2B, RDMSR; RDTSC; RDTSCP; RDPMC; SDM 2D, WRMSR; SDM 4, Architectural MSRs; SDM 3B,
Time-Stamp Counter; SDM 3C, MSR-Bitmap Address; Time-Stamp Counter Offset and Multiplier.
"""

from collections.abc import Callable, Sequence

from vtx.isa.builder import Builder, Value, routine_
from vtx.isa.descriptors import is_canonical
from vtx.isa.exit_information import exit_when, secondary, undefined_without
from vtx.isa.instruction import GP, Instruction, semantics
from vtx.isa.key import EFER_LMA
from vtx.isa.layout import SLOTS
from vtx.isa.primitives import Prim
from vtx.isa.program import Flush, Service
from vtx.spec import CONTROLS, EXITS, Msr, msrs
from vtx.spec.registers import CR0, CR4, EFER, MAXPHYADDR

EXIT_RDPMC, EXIT_RDTSC, EXIT_RDMSR, EXIT_WRMSR, EXIT_RDTSCP = (
    EXITS.RDPMC,
    EXITS.RDTSC,
    EXITS.RDMSR,
    EXITS.WRMSR,
    EXITS.RDTSCP,
)
USE_TSC_OFFSETTING, RDPMC_EXITING, RDTSC_EXITING = (
    CONTROLS.USE_TSC_OFFSETTING.mask,
    CONTROLS.RDPMC_EXITING.mask,
    CONTROLS.RDTSC_EXITING.mask,
)
USE_MSR_BITMAPS = CONTROLS.USE_MSR_BITMAPS.mask
ENABLE_RDTSCP, USE_TSC_SCALING = CONTROLS.ENABLE_RDTSCP.mask, CONTROLS.USE_TSC_SCALING.mask
CR4_TSD, CR4_PCE, CR4_VMXE = CR4.TSD, CR4.PCE, CR4.VMXE
EFER_LME, EFER_NXE = EFER.LME, EFER.NXE
CR0_PG = CR0.PG
X2APIC_FIRST, X2APIC_LAST, X2APIC_TPR = 0x800, 0x8FF, 0x808
VIRTUALIZE_X2APIC_MODE = CONTROLS.VIRTUALIZE_X2APIC_MODE.mask
VIRTUAL_TPR = 0x80
"""Offset of the task priority in the virtual-APIC page."""
VMX_FIRST, VMX_LAST = 0x480, 0x4FF

Reader = Callable[[Builder], Value]


def slot_of(row: Msr) -> str | None:
    """The state slot that holds an MSR, or None where something else does."""
    name = row.name.lower().removeprefix("ia32_")
    return name if name in SLOTS else None


def _is_vmx(row: Msr) -> bool:
    return VMX_FIRST <= row.index <= VMX_LAST


def _is_x2apic(row: Msr) -> bool:
    return X2APIC_FIRST <= row.index <= X2APIC_LAST


def tsc(b: Builder) -> Value:
    """The time-stamp counter of the CPU itself, without a VMM's offset."""
    return b.service(Service.NOW)[0] + b.get("tsc_adjust")


def _offset_tsc(b: Builder) -> Value:
    """The time-stamp counter as the present mode reads it: scaled, then offset.

    The multiplier has 48 fraction bits; without TSC offsetting it does nothing.
    """
    seen = b.var(64, tsc(b))
    with b.if_((b.get("vmx", 8) == 2) & ((b.get("proc_controls") & USE_TSC_OFFSETTING) != 0)):
        with b.if_(secondary(b, USE_TSC_SCALING)):
            count, multiplier = seen.get(), b.get("tsc_multiplier")
            high = b.pure(Prim.UMULH, 64, count, multiplier)
            seen.set(high << 16 | (count * multiplier) >> 48)
        seen.set(seen.get() + b.get("tsc_offset"))
    return seen.get()


# --- a decision tree over MSR indexes --------------------------------------------------------


def _choose(b: Builder, index: Value, rows: Sequence[Msr], leaf: Callable[[Msr], None]) -> None:
    """Run `leaf` for the row whose index is asked for, found by halves."""
    if len(rows) == 1:
        with b.if_(index == rows[0].index):
            leaf(rows[0])
        return
    middle = len(rows) // 2
    with b.if_(index.ult(rows[middle].index)):
        _choose(b, index, rows[:middle], leaf)
    with b.else_():
        _choose(b, index, rows[middle:], leaf)


def _rows() -> list[Msr]:
    return [row for row in msrs() if not _is_vmx(row) and not _is_x2apic(row)]


# --- reading ---------------------------------------------------------------------------------


def _tsc_deadline(b: Builder) -> Value:
    return b.service(Service.TSC_DEADLINE_READ)[0]


_READERS: dict[str, Reader] = {
    "IA32_TIME_STAMP_COUNTER": _offset_tsc,
    "IA32_TSC_DEADLINE": _tsc_deadline,
}


@routine_(32, results=(1, 64))
def read_msr(b: Builder, index: Value) -> None:
    """Whether the MSR may be read, and its value."""
    with b.if_((index & ~0xFF) == X2APIC_FIRST):
        b.return_(*b.service(Service.APIC_READ, index))
    with b.if_((index & ~0x7F) == VMX_FIRST):
        advertised = (b.get("cr4_allowed") & CR4_VMXE) != 0
        value = _capability(b, index)
        b.return_(advertised & (value != 0), value)

    def leaf(row: Msr) -> None:
        if row.access == "wo":
            return
        slot = slot_of(row)
        if row.name in _READERS:
            value = _READERS[row.name](b)
        elif slot is not None:
            value = b.get(slot)
        else:
            value = b.const(64, row.reset)
        b.return_(b.const(1, 1), value)

    _choose(b, index, _rows(), leaf)
    b.return_(b.const(1, 0), b.const(64, 0))


def _capability(b: Builder, index: Value) -> Value:
    """A VMX capability MSR; 0 where the CPU has none of that index."""
    key = (b.get("cpu_profile") << 16) | index.zext(64)
    return b.lookup(64, "vmx_capability", key, 0)


# --- writing ---------------------------------------------------------------------------------


def _write_tsc(b: Builder, value: Value) -> Value:
    b.put("tsc_adjust", value - b.service(Service.NOW)[0])
    b.service(Service.TSC_WRITTEN)
    return b.const(1, 1)


def _write_tsc_adjust(b: Builder, value: Value) -> Value:
    b.put("tsc_adjust", value)
    b.service(Service.TSC_WRITTEN)
    return b.const(1, 1)


def _write_tsc_deadline(b: Builder, value: Value) -> Value:
    b.service(Service.TSC_DEADLINE, value)
    return b.const(1, 1)


def _write_apic_base(b: Builder, value: Value) -> Value:
    (legal,) = b.service(Service.APIC_BASE, value)
    with b.if_(legal):
        b.put("apic_base", value)
    return legal


def _write_efer(b: Builder, value: Value) -> Value:
    """LME may change only while paging is off; LMA follows from CR0.PG."""
    old = b.get("efer")
    changed = (old ^ value) & ~EFER_LMA
    legal = ((changed & EFER_LME) == 0) | ((b.get("cr0") & CR0_PG) == 0)
    with b.if_(legal):
        b.put("efer", (value & ~EFER_LMA) | (old & EFER_LMA))
        with b.if_((changed & EFER_NXE) != 0):
            none = b.const(64, 0)
            b.service(Service.FLUSH_TLB, int(Flush.ALL), none, none)
    return legal


def _write_pat(b: Builder, value: Value) -> Value:
    """Memory types 2 and 3 are reserved (SDM 3A, Page Attribute Table)."""
    ones = 0x0101_0101_0101_0101
    second, third = (value >> 1) & ones, (value >> 2) & ones
    legal = (second & ~third) == 0
    with b.if_(legal):
        b.put("pat", value)
    return legal


def _write_feature_control(b: Builder, value: Value) -> Value:
    """Nothing may be written once the lock bit is 1."""
    legal = ((b.get("feature_control") & 1) == 0) & ((b.get("cr4_allowed") & CR4_VMXE) != 0)
    with b.if_(legal):
        b.put("feature_control", value)
    return legal


_WRITERS: dict[str, Callable[[Builder, Value], Value]] = {
    "IA32_TIME_STAMP_COUNTER": _write_tsc,
    "IA32_TSC_ADJUST": _write_tsc_adjust,
    "IA32_TSC_DEADLINE": _write_tsc_deadline,
    "IA32_APIC_BASE": _write_apic_base,
    "IA32_EFER": _write_efer,
    "IA32_PAT": _write_pat,
    "IA32_FEATURE_CONTROL": _write_feature_control,
}


@routine_(32, 64, results=(1,))
def write_msr(b: Builder, index: Value, value: Value) -> None:
    """Write an MSR; 0 where the MSR or the value is not legal, and then nothing happened."""
    b.is_resync = True
    with b.if_((index & ~0xFF) == X2APIC_FIRST):
        b.return_(*b.service(Service.APIC_WRITE, index, value))
    none = b.const(1, 0)

    def leaf(row: Msr) -> None:
        if row.access == "ro":
            return
        reserved = row.reserved(MAXPHYADDR)
        if reserved:
            with b.if_((value & reserved) != 0):
                b.return_(b.const(1, 0))
        if row.canonical:
            with b.if_(~is_canonical(value)):
                b.return_(b.const(1, 0))
        slot = slot_of(row)
        if row.name in _WRITERS:
            b.return_(_WRITERS[row.name](b, value))
            return
        if slot is not None:
            b.put(slot, value & row.writable)
        b.return_(b.const(1, 1))

    _choose(b, index, _rows(), leaf)
    b.return_(none)


# --- instructions ----------------------------------------------------------------------------


@routine_(32, 1, results=(1,))
def msr_bitmap_hit(b: Builder, index: Value, writes: Value) -> None:
    """Whether the MSR bitmaps make an access exit (SDM 3C, MSR-Bitmap Address)."""
    low = index.ult(0x2000)
    number = index & 0x1FFF
    high = index - number == 0xC000_0000
    with b.if_(~(low | high)):
        b.return_(b.const(1, 1))
    half = low.select(b.const(64, 0), b.const(64, 0x400))
    direction = writes.select(b.const(64, 0x800), b.const(64, 0))
    place = b.get("msr_bitmap") + half + direction + (number >> 3).zext(64)
    byte = b.load_physical(8, place)
    b.return_((byte >> (number.trunc(8) & 7)).bit(0))


def _exit_for_msr(i: Instruction, index: Value, *, writes: bool) -> None:
    if not i.non_root:
        return
    wanted = i.var(1, 1)
    with i.when_control("proc_controls", USE_MSR_BITMAPS):
        wanted.set(i.call("msr_bitmap_hit", index, int(writes))[0])
    with i.if_(wanted.get()):
        i.vm_exit(EXIT_WRMSR if writes else EXIT_RDMSR)


def put_edx_eax(i: Instruction, value: Value) -> None:
    """EDX:EAX, the upper halves of RDX and RAX cleared."""
    i.put("rax", value & 0xFFFF_FFFF)
    i.put("rdx", value >> 32)


def edx_eax(i: Instruction) -> Value:
    return (i.get("rdx") << 32) | (i.get("rax") & 0xFFFF_FFFF)


def _virtual_tpr(i: Instruction, index: Value) -> Value:
    """The access is to the task priority of the virtual APIC (1 bit). Non-root only."""
    return secondary(i, VIRTUALIZE_X2APIC_MODE) & (index == X2APIC_TPR)


def _write_virtual_tpr(i: Instruction, value: Value) -> None:
    """WRMSR of the task priority with "virtualize x2APIC mode", whatever mode the APIC is in.

    SDM 3C, Virtualizing MSR-Based APIC Accesses; TPR Virtualization. The exit comes behind it.
    """
    i.fault_if((value >> 8) != 0, GP, 0)
    i.store_physical(i.get("virtual_apic") + VIRTUAL_TPR, value)
    i.put("tpr_below_threshold", (value >> 4).ult(i.get("tpr_threshold") & 0xF))
    i.next()


@semantics("RDMSR")
def rdmsr(i: Instruction) -> None:
    i.require_cpl(0)
    index = i.get("rcx", 32)
    _exit_for_msr(i, index, writes=False)
    if i.non_root:
        with i.if_(_virtual_tpr(i, index)):
            put_edx_eax(i, i.load_physical(64, i.get("virtual_apic") + VIRTUAL_TPR))
            i.next()
    legal, value = i.call("read_msr", index)
    i.fault_if(~legal, GP, 0)
    put_edx_eax(i, value)


@semantics("WRMSR")
def wrmsr(i: Instruction) -> None:
    i.require_cpl(0)
    index = i.get("rcx", 32)
    _exit_for_msr(i, index, writes=True)
    if i.non_root:
        with i.if_(_virtual_tpr(i, index)):
            _write_virtual_tpr(i, edx_eax(i))
    (legal,) = i.call("write_msr", index, edx_eax(i))
    i.fault_if(~legal, GP, 0)
    i.resync()


def _require_tsc(i: Instruction) -> None:
    """#GP(0) above CPL 0 when CR4.TSD is 1."""
    if i.key.cpl > 0:
        i.fault_if((i.get("cr4") & CR4_TSD) != 0, GP, 0)


@semantics("RDTSC")
def rdtsc(i: Instruction) -> None:
    _require_tsc(i)
    exit_when(i, RDTSC_EXITING, EXIT_RDTSC)
    put_edx_eax(i, _offset_tsc(i) if i.non_root else tsc(i))


@semantics("RDTSCP")
def rdtscp(i: Instruction) -> None:
    undefined_without(i, ENABLE_RDTSCP)
    _require_tsc(i)
    exit_when(i, RDTSC_EXITING, EXIT_RDTSCP)
    put_edx_eax(i, _offset_tsc(i) if i.non_root else tsc(i))
    i.put("rcx", i.get("tsc_aux", 32))


@semantics("RDPID")
def rdpid(i: Instruction) -> None:
    undefined_without(i, ENABLE_RDTSCP)
    i.dst.write(i.get("tsc_aux", 32).to(i.dst.width))


@semantics("RDPMC")
def rdpmc(i: Instruction) -> None:
    """There are no performance counters: every counter number is #GP(0)."""
    if i.key.cpl > 0:
        i.fault_if((i.get("cr4") & CR4_PCE) == 0, GP, 0)
    exit_when(i, RDPMC_EXITING, EXIT_RDPMC)
    i.fault(GP, 0)
