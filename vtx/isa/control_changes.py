"""Writing CR0, CR3 and CR4: what a value must satisfy and what follows from the change.

The routines fault with #GP(0) and otherwise commit the register, EFER.LMA, the PDPTE registers
and the TLB. Interception by a VMM has happened before.
Sources: SDM 3A, Control Registers; Operations that Invalidate TLBs; Switching Out of Real-
Address Mode; Initializing IA-32e Mode; PDPTE Registers; SDM 3D, VMX-Fixed Bits in CR0 and CR4.
"""

from vtx.isa.builder import Builder, Value, routine_
from vtx.isa.key import AR_L, EFER_LMA
from vtx.isa.program import Flush, Service
from vtx.spec import CONTROLS
from vtx.spec.registers import CR0, CR4, EFER, MAXPHYADDR

GP = 13
CR0_PE, CR0_ET, CR0_NE, CR0_WP = CR0.PE, CR0.ET, CR0.NE, CR0.WP
CR0_NW, CR0_CD, CR0_PG = CR0.NW, CR0.CD, CR0.PG
CR0_DEFINED = 0xE005_003F
CR4_PSE, CR4_PAE, CR4_PGE, CR4_VMXE = CR4.PSE, CR4.PAE, CR4.PGE, CR4.VMXE
CR4_PCIDE, CR4_SMEP, CR4_SMAP = CR4.PCIDE, CR4.SMEP, CR4.SMAP
EFER_LME = EFER.LME
UNRESTRICTED_GUEST = CONTROLS.UNRESTRICTED_GUEST.mask
ACTIVATE_SECONDARY = CONTROLS.ACTIVATE_SECONDARY_CONTROLS.mask
VMX_CR0_FIXED = CR0_PE | CR0_NE | CR0_PG
"""Bits of CR0 that must be 1 in VMX operation."""
CR3_NO_FLUSH = 1 << 63
_CR0_REMAPS = CR0_PE | CR0_WP | CR0_PG
_CR4_REMAPS = CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCIDE | CR4_SMEP | CR4_SMAP
_CR4_LOADS_PDPTES = CR4_PSE | CR4_PAE | CR4_PGE | CR4_SMEP
_TSS16_BUSY = 3


def _has(value: Value, mask: int) -> Value:
    return (value & mask) != 0


def _vmx_fixed(b: Builder) -> Value:
    """Bits of CR0 that VMX operation keeps 1: an unrestricted guest may clear PE and PG."""
    vmx = b.get("vmx", 8)
    secondary = _has(b.get("proc_controls"), ACTIVATE_SECONDARY)
    unrestricted = (vmx == 2) & secondary & _has(b.get("proc2_controls"), UNRESTRICTED_GUEST)
    fixed = unrestricted.select(b.const(64, CR0_NE), b.const(64, VMX_CR0_FIXED))
    return (vmx != 0).select(fixed, b.const(64, 0))


def _flush_everything(b: Builder) -> None:
    none = b.const(64, 0)
    b.service(Service.CONTEXT)
    b.service(Service.FLUSH_TLB, int(Flush.ALL), none, none)


@routine_(64)
def write_cr0(b: Builder, value: Value) -> None:
    """MOV to CR0."""
    b.is_resync = True
    old, cr4, efer = b.get("cr0"), b.get("cr4"), b.get("efer")
    b.fault_if((value >> 32) != 0, GP, 0)
    new = (value & CR0_DEFINED) | CR0_ET
    pg, pe = _has(new, CR0_PG), _has(new, CR0_PE)
    had_pg = _has(old, CR0_PG)
    enters, leaves = pg & ~had_pg, ~pg & had_pg
    lme, code_64bit = _has(efer, EFER_LME), _has(b.get("cs_ar"), AR_L)
    fixed = _vmx_fixed(b)
    wrong = b.any_of(
        pg & ~pe,
        _has(new, CR0_NW) & ~_has(new, CR0_CD),
        enters & lme & (~_has(cr4, CR4_PAE) | code_64bit),
        enters & lme & ((b.get("tr_ar") & 0x1F) == _TSS16_BUSY),
        leaves & _has(efer, EFER_LMA) & code_64bit,
        ~pg & _has(cr4, CR4_PCIDE),
        (new & fixed) != fixed,
    )
    b.fault_if(wrong, GP, 0)
    lma = pg & lme
    changed = old ^ new
    pae_paging = pg & _has(cr4, CR4_PAE) & ~lma
    with b.if_(pae_paging & _has(changed, CR0_PG | CR0_CD | CR0_NW)):
        (legal,) = b.call("load_pdptes", b.get("cr3"))
        b.fault_if(~legal, GP, 0)
    b.put("cr0", new)
    b.put("efer", (efer & ~EFER_LMA) | lma.select(b.const(64, EFER_LMA), b.const(64, 0)))
    with b.if_(_has(changed, _CR0_REMAPS)):
        _flush_everything(b)
    b.return_()


@routine_(64)
def write_cr3(b: Builder, value: Value) -> None:
    """MOV to CR3; bit 63 keeps the new PCID's translations when PCIDs are in use."""
    cr4 = b.get("cr4")
    long = _has(b.get("efer"), EFER_LMA)
    pcide = _has(cr4, CR4_PCIDE)
    keeps = pcide & value.bit(63)
    new = pcide.select(value & ~CR3_NO_FLUSH, value)
    b.fault_if(long & ((new >> MAXPHYADDR) != 0), GP, 0)
    with b.if_(_has(b.get("cr0"), CR0_PG) & _has(cr4, CR4_PAE) & ~long):
        (legal,) = b.call("load_pdptes", new)
        b.fault_if(~legal, GP, 0)
    b.put("cr3", new)
    b.service(Service.CONTEXT)
    with b.if_(~keeps):
        pcid = pcide.select(new & 0xFFF, b.const(64, 0))
        b.service(Service.FLUSH_TLB, int(Flush.PCID_LOCAL), pcid, b.const(64, 0))
    b.return_()


@routine_(64)
def write_cr4(b: Builder, value: Value) -> None:
    """MOV to CR4; the bits that may be 1 follow from the CPU's features."""
    b.is_resync = True
    old, long = b.get("cr4"), _has(b.get("efer"), EFER_LMA)
    changed = old ^ value
    sets_pcide = _has(changed & value, CR4_PCIDE)
    wrong = b.any_of(
        (value & ~b.get("cr4_allowed")) != 0,
        long & ~_has(value, CR4_PAE),
        sets_pcide & (~long | _has(b.get("cr3"), 0xFFF)),
        (b.get("vmx", 8) != 0) & ~_has(value, CR4_VMXE),
    )
    b.fault_if(wrong, GP, 0)
    pae_paging = _has(b.get("cr0"), CR0_PG) & _has(value, CR4_PAE) & ~long
    with b.if_(pae_paging & _has(changed, _CR4_LOADS_PDPTES)):
        (legal,) = b.call("load_pdptes", b.get("cr3"))
        b.fault_if(~legal, GP, 0)
    b.put("cr4", value)
    with b.if_(_has(changed, _CR4_REMAPS)):
        _flush_everything(b)
    b.return_()
