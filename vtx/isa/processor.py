"""The processor itself: CPUID, halting, TLB and cache invalidation, random numbers, FS and GS.

Sources: SDM 2A/2B, the instruction's own page; SDM 3C, Instructions That Cause VM Exits.
"""

from iced_x86 import Register

from vtx.isa.builder import Builder, Value, routine_
from vtx.isa.descriptors import is_canonical
from vtx.isa.exit_information import (
    displacement,
    exit_when,
    exit_when_secondary,
    memory_bits,
    register_bits,
    secondary,
    undefined_without,
)
from vtx.isa.instruction import GP, UD, Instruction, semantics
from vtx.isa.msrs import edx_eax, put_edx_eax
from vtx.isa.program import Flush, Service
from vtx.isa.rflags import AC
from vtx.spec import CONTROLS, EXITS
from vtx.spec.registers import CR4

EXIT_CPUID, EXIT_HLT, EXIT_INVD, EXIT_INVLPG, EXIT_MWAIT = (
    EXITS.CPUID,
    EXITS.HLT,
    EXITS.INVD,
    EXITS.INVLPG,
    EXITS.MWAIT,
)
EXIT_MONITOR, EXIT_PAUSE, EXIT_WBINVD, EXIT_XSETBV = (
    EXITS.MONITOR,
    EXITS.PAUSE,
    EXITS.WBINVD,
    EXITS.XSETBV,
)
EXIT_RDRAND, EXIT_INVPCID, EXIT_RDSEED = EXITS.RDRAND, EXITS.INVPCID, EXITS.RDSEED
HLT_EXITING, INVLPG_EXITING, MWAIT_EXITING = (
    CONTROLS.HLT_EXITING.mask,
    CONTROLS.INVLPG_EXITING.mask,
    CONTROLS.MWAIT_EXITING.mask,
)
MONITOR_EXITING, PAUSE_EXITING = CONTROLS.MONITOR_EXITING.mask, CONTROLS.PAUSE_EXITING.mask
WBINVD_EXITING, RDRAND_EXITING, RDSEED_EXITING = (
    CONTROLS.WBINVD_EXITING.mask,
    CONTROLS.RDRAND_EXITING.mask,
    CONTROLS.RDSEED_EXITING.mask,
)
ENABLE_INVPCID = CONTROLS.ENABLE_INVPCID.mask
PAUSE_LOOP_EXITING = CONTROLS.PAUSE_LOOP_EXITING.mask
CR4_FSGSBASE, CR4_PCIDE, CR4_OSXSAVE = CR4.FSGSBASE, CR4.PCIDE, CR4.OSXSAVE
HALTED = 1
BIOS_SIGNATURE = 0x28_0000_0000
"""What CPUID puts into IA32_BIOS_SIGN_ID: the microcode revision."""
XCR0_X87, XCR0_SSE, XCR0_AVX = 1, 2, 4
XCR0_BUILT = XCR0_X87
"""State components that the built instruction set has."""


@semantics("CPUID")
def cpuid(i: Instruction) -> None:
    i.always_exits(EXIT_CPUID)
    results = i.service(Service.CPUID, i.get("rax", 32), i.get("rcx", 32))
    for register, value in zip(("rax", "rbx", "rcx", "rdx"), results, strict=True):
        i.put(register, value)
    i.put("bios_sign_id", BIOS_SIGNATURE)


@semantics("HLT")
def hlt(i: Instruction) -> None:
    i.require_cpl(0)
    exit_when(i, HLT_EXITING, EXIT_HLT)
    i.put("activity", HALTED)
    i.resync()


@semantics("PAUSE")
def pause(i: Instruction) -> None:
    """PAUSE-loop exiting looks at code of CPL 0 only, and not where every PAUSE exits."""
    exit_when(i, PAUSE_EXITING, EXIT_PAUSE)
    if i.non_root and i.key.cpl == 0:
        with i.if_(secondary(i, PAUSE_LOOP_EXITING)):
            (exits,) = i.call("pause_loop", i.now())
            with i.if_(exits):
                i.vm_exit(EXIT_PAUSE)


@routine_(64, results=(1,))
def pause_loop(b: Builder, now: Value) -> None:
    """Whether this PAUSE, at virtual time `now`, ends a loop that lasts too long.

    SDM 3C, Changes to Instruction Behavior in VMX Non-Root Operation, PAUSE.
    """
    last = b.get("ple_last")
    b.put("ple_last", now + 1)
    with b.if_((last == 0) | b.get("ple_gap").ult(now + 1 - last)):
        b.put("ple_first", now)
        b.return_(b.const(1, 0))
    b.return_(b.get("ple_window").ult(now - b.get("ple_first")))


@semantics("MONITOR")
def monitor(i: Instruction) -> None:
    """Arms nothing: MWAIT returns at once, as it may for any reason."""
    if i.key.cpl > 0:
        i.undefined()
    exit_when(i, MONITOR_EXITING, EXIT_MONITOR)
    i.fault_if(i.get("rcx", 32) != 0, GP, 0)
    segment = _MONITORED.get(i.decoded.segment_prefix, "ds")
    offset = i.wrap_offset(i.get("rax"))
    i.probe(i.linear(segment, offset, 1), 1, i.access(segment))


_MONITORED = {
    Register.ES: "es", Register.CS: "cs", Register.SS: "ss", Register.FS: "fs", Register.GS: "gs",
}  # fmt: skip
"""Segment prefix -> the segment MONITOR uses; DS without one."""


@semantics("MWAIT")
def mwait(i: Instruction) -> None:
    if i.key.cpl > 0:
        i.undefined()
    exit_when(i, MWAIT_EXITING, EXIT_MWAIT)
    i.fault_if((i.get("rcx", 32) & ~1) != 0, GP, 0)


@semantics("INVD")
def invd(i: Instruction) -> None:
    i.require_cpl(0)
    i.always_exits(EXIT_INVD)


@semantics("WBINVD", "WBNOINVD")
def wbinvd(i: Instruction) -> None:
    """There are no caches to write back."""
    i.require_cpl(0)
    exit_when_secondary(i, WBINVD_EXITING, EXIT_WBINVD)


# --- TLB -------------------------------------------------------------------------------------


def _current_pcid(i: Instruction) -> Value:
    in_use = (i.get("cr4") & CR4_PCIDE) != 0
    return in_use.select(i.get("cr3") & 0xFFF, i.const(64, 0))


@semantics("INVLPG")
def invlpg(i: Instruction) -> None:
    """Forget one page; a non-canonical address does nothing, a segment's limit is not checked."""
    i.require_cpl(0)
    operand = i.memory_operand(0, 8)
    base = _segment_base(i, operand.segment)
    gva = i.wrap_linear(base + operand.offset)
    exit_when(i, INVLPG_EXITING, EXIT_INVLPG, gva)
    i.service(Service.FLUSH_TLB, int(Flush.PAGE), gva, _current_pcid(i))
    i.resync()


def _segment_base(i: Instruction, segment: str) -> Value:
    if i.key.bits == 64 and segment not in ("fs", "gs"):
        return i.const(64, 0)
    return i.get(f"{segment}_base")


@semantics("INVPCID")
def invpcid(i: Instruction) -> None:
    """Forget by PCID: 0 one page, 1 one PCID, 2 all with globals, 3 all without."""
    undefined_without(i, ENABLE_INVPCID)
    if i.key.v86:
        i.fault(GP, 0)
        return
    i.require_cpl(0)
    if i.non_root:
        info = memory_bits(i) | register_bits(i, 0, 28)
        exit_when(i, INVLPG_EXITING, EXIT_INVPCID, displacement(i), info)
    kind = i.dst.read().to(64)
    operand = i.memory_operand(1, 128)
    operand.linear(size=16)
    low, gva = operand.part(0, 64).read(), operand.part(8, 64).read()
    pcid = low & 0xFFF
    i.fault_if((kind >> 2) != 0, GP, 0)
    i.fault_if((low >> 12) != 0, GP, 0)
    by_page, by_pcid = kind == 0, kind == 1
    without_pcids = (i.get("cr4") & CR4_PCIDE) == 0
    i.fault_if((by_page | by_pcid) & without_pcids & (pcid != 0), GP, 0)
    i.fault_if(by_page & ~is_canonical(gva), GP, 0)
    first = by_page.select(gva, pcid)
    kinds = (Flush.PAGE_LOCAL, Flush.PCID_LOCAL, Flush.ALL, Flush.LOCAL)
    chosen = i.const(8, int(kinds[3]))
    for number in (2, 1, 0):
        chosen = (kind == number).select(i.const(8, int(kinds[number])), chosen)
    i.service(Service.FLUSH_TLB, chosen, first, pcid)
    i.resync()


# --- random numbers --------------------------------------------------------------------------

_RANDOM_SIZES = {16: 0, 32: 1, 64: 2}


@semantics("RDRAND", "RDSEED")
def random(i: Instruction) -> None:
    """A number from the machine's seeded source; it is always ready (CF = 1)."""
    width = i.dst.width
    seed = i.mnemonic == "RDSEED"
    info = register_bits(i, 0, 3) | _RANDOM_SIZES[width] << 11
    reason = EXIT_RDSEED if seed else EXIT_RDRAND
    exit_when_secondary(i, RDSEED_EXITING if seed else RDRAND_EXITING, reason, 0, info)
    (value,) = i.service(Service.RANDOM)
    i.dst.write(value.to(width))
    i.flags.set(cf=1, pf=0, af=0, zf=0, sf=0, of=0)


# --- flags of SMAP ---------------------------------------------------------------------------


@semantics("CLAC", "STAC")
def access_flag(i: Instruction) -> None:
    """Clear or set EFLAGS.AC, which lets supervisor code touch user pages."""
    if i.key.cpl > 0:
        i.undefined()
    rflags = i.get("rflags")
    i.put("rflags", rflags & ~AC if i.mnemonic == "CLAC" else rflags | AC)
    i.resync()


# --- bases of FS and GS ----------------------------------------------------------------------


@semantics("RDFSBASE", "RDGSBASE", "WRFSBASE", "WRGSBASE")
def segment_base(i: Instruction) -> None:
    if i.key.bits != 64:
        i.undefined()
    i.fault_if((i.get("cr4") & CR4_FSGSBASE) == 0, UD)
    slot = "fs_base" if i.mnemonic[2] == "F" else "gs_base"
    if i.mnemonic.startswith("RD"):
        i.dst.write(i.get(slot, i.dst.width))
        return
    value = i.dst.read().to(64)
    i.fault_if(~is_canonical(value), GP, 0)
    i.put(slot, value)


@semantics("SWAPGS")
def swapgs(i: Instruction) -> None:
    if i.key.bits != 64:
        i.undefined()
    i.require_cpl(0)
    base, kernel = i.get("gs_base"), i.get("kernel_gs_base")
    i.put("gs_base", kernel)
    i.put("kernel_gs_base", base)


# --- extended control registers --------------------------------------------------------------


def _require_osxsave(i: Instruction) -> None:
    i.fault_if((i.get("cr4") & CR4_OSXSAVE) == 0, UD)


@semantics("XGETBV")
def xgetbv(i: Instruction) -> None:
    _require_osxsave(i)
    i.fault_if(i.get("rcx", 32) != 0, GP, 0)
    put_edx_eax(i, i.get("xcr0"))


@semantics("XSETBV")
def xsetbv(i: Instruction) -> None:
    """Only components that are built may be enabled, x87 always."""
    _require_osxsave(i)
    i.require_cpl(0)
    i.always_exits(EXIT_XSETBV)
    value = edx_eax(i)
    wrong = (i.get("rcx", 32) != 0) | ((value & XCR0_X87) == 0) | ((value & ~XCR0_BUILT) != 0)
    i.fault_if(wrong, GP, 0)
    i.put("xcr0", value)
