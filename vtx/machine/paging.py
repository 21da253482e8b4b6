"""Address translation, written in the algebra: paging off, 32-bit, PAE and 4-level.

`translate` is what every TLB miss runs. In VMX non-root operation with EPT each address the
walk uses is guest-physical and goes through `guest_physical` (vtx.vmx.ept); without EPT that
routine returns its argument. The walk sets accessed and dirty flags only when the whole
translation succeeds. Nothing is cached here: that is the TLB's work.
Sources: SDM 3A, Paging; Access Rights; Page-Fault Exceptions; Accessed and Dirty Flags.
"""

from dataclasses import dataclass

from vtx.isa.builder import Builder, Value, Variable, routine_
from vtx.spec.registers import CR0, CR4, EFER, MAXPHYADDR

WRITE, USER, FETCH, IMPLICIT, AC_SUSPENDS, STACK = 1, 2, 4, 8, 16, 32
"""Bits of the `access` argument: what is done, for whom."""

P, RW, US, PWT, PCD, A, D, PS, G = (1 << n for n in range(9))
PF_P, PF_W, PF_U, PF_RSVD, PF_ID = 1, 2, 4, 8, 16

_FRAME = ((1 << MAXPHYADDR) - 1) & ~0xFFF
_HIGH_RESERVED = ((1 << 52) - 1) & ~((1 << MAXPHYADDR) - 1)

CR0_WP, CR0_PG = CR0.WP, CR0.PG
CR4_PSE, CR4_PAE, CR4_PGE, CR4_SMEP, CR4_SMAP = CR4.PSE, CR4.PAE, CR4.PGE, CR4.SMEP, CR4.SMAP
EFER_LMA, EFER_NXE = EFER.LMA, EFER.NXE

# How an entry is reached by the walk, for `guest_physical`.
TABLE_ACCESS = 0
FINAL_ACCESS = 8


@dataclass
class _Used:
    """An entry the walk went through: where it is and what it held."""

    hpa: Value
    writable: Value
    gpa: Value
    entry: Value
    width: int


class _Walk:
    """The state of one walk while its program is written."""

    def __init__(self, b: Builder, gva: Value, access: Value) -> None:
        self.b = b
        self.gva = gva
        self.access = access
        self.user = b.var(1, 1)
        self.writable = b.var(1, 1)
        self.no_execute = b.var(1, 0)
        self.nxe = (b.get("efer") & EFER_NXE) != 0
        self.used: list[_Used] = []

    def page_fault(self, code: Value | int) -> None:
        """#PF with `code` completed by what the access was (SDM 3A, Page-Fault Exceptions)."""
        b = self.b
        smep = (b.get("cr4") & CR4_SMEP) != 0
        tells_fetch = (self.nxe & ((b.get("cr4") & CR4_PAE) != 0)) | smep
        error = b.value(code, 32)
        error = error | (self.access & WRITE).zext(32) << 1
        error = error | (self.access & USER).zext(32) << 1
        fetch = ((self.access & FETCH) != 0) & tells_fetch
        error = error | fetch.zext(32) << 4
        b.put("fault_cr2", self.gva)
        b.fault(14, error)

    def fault_if(self, condition: Value, code: int) -> None:
        with self.b.if_(condition):
            self.page_fault(code)

    def load(self, gpa: Value, width: int, level: str) -> Value:
        """Read one paging-structure entry, noting it for the accessed flags."""
        b = self.b
        hpa, writable = b.call("guest_physical", gpa, TABLE_ACCESS, self.gva)
        entry = b.walk_load(width, hpa, level)
        value = entry.zext(64)
        self.used.append(_Used(hpa, writable, gpa, value, width))
        return value

    def check_entry(self, entry: Value, reserved: Value) -> None:
        """Present and no reserved bit set, else #PF; then narrow the rights."""
        self.fault_if((entry & P) == 0, 0)
        self.fault_if((entry & reserved) != 0, PF_P | PF_RSVD)
        self.user.set(self.user.get() & entry.bit(2))
        self.writable.set(self.writable.get() & entry.bit(1))
        self.no_execute.set(self.no_execute.get() | entry.bit(63) & self.nxe)

    def finish(self, entry: Value, gpa: Value) -> None:
        """Rights, accessed and dirty flags, the final EPT walk, and the result."""
        self._check_rights()
        self._set_accessed()
        b = self.b
        final = FINAL_ACCESS | 16
        kind = (self.access & (WRITE | FETCH)) | final
        # What the tables say of the linear address, for mode-based execute control and for VMMs.
        kind = kind | self.user.get().zext(8) << 1 | self.writable.get().zext(8) << 6
        kind = kind | self.no_execute.get().zext(8) << 7
        # The whole address, so that an EPT violation can tell it; the TLB holds its page.
        hpa, _ = b.call("guest_physical", gpa | (self.gva & 0xFFF), kind, self.gva)
        hpa = hpa & ~0xFFF
        is_global = entry.bit(8) & ((b.get("cr4") & CR4_PGE) != 0)
        b.return_(hpa, is_global.zext(8))

    def _check_rights(self) -> None:
        """SDM 3A, Determination of Access Rights."""
        b, access = self.b, self.access
        cr0, cr4 = b.get("cr0"), b.get("cr4")
        is_write, is_fetch = access.bit(0), access.bit(2)
        as_user = access.bit(1)
        user_page, writable = self.user.get(), self.writable.get()
        write_protect = as_user | ((cr0 & CR0_WP) != 0)
        smap = ((cr4 & CR4_SMAP) != 0) & ~is_fetch & (access.bit(3) | ~access.bit(4))
        smep = ((cr4 & CR4_SMEP) != 0) & is_fetch
        denied = b.any_of(
            as_user & ~user_page,
            is_write & ~writable & write_protect,
            is_fetch & self.no_execute.get(),
            ~as_user & user_page & (smap | smep),
        )
        self.fault_if(denied, PF_P)

    def _set_accessed(self) -> None:
        """Set A where it is clear, and D on a leaf that is written."""
        b = self.b
        for used in self.used:
            wanted: Value = b.const(64, A)
            if used is self.used[-1]:
                wanted = self.access.bit(0).select(b.const(64, A | D), wanted)
            with b.if_((used.entry & wanted) != wanted):
                with b.if_(~used.writable):
                    b.call("ept_write_denied", used.gpa, self.gva)
                b.store_physical(used.hpa, (used.entry | wanted).to(used.width))


def _index(gva: Value, shift: int, bits: int, entry_size: int) -> Value:
    return ((gva >> shift) & ((1 << bits) - 1)) << (entry_size.bit_length() - 1)


def _page(w: _Walk, entry: Value, shift: int) -> Value:
    """Guest-physical address of the 4 KiB page that the access touches in a large page."""
    inside = (1 << shift) - 1
    return (entry & (_FRAME & ~inside)) | (w.gva & (inside & ~0xFFF))


@routine_(64, 8, results=(64, 8))
def walk_4level(b: Builder, gva: Value, access: Value) -> None:
    """4-level paging: 48-bit linear addresses, pages of 4 KiB, 2 MiB and 1 GiB."""
    w = _Walk(b, gva, access)
    no_nx = w.nxe.select(b.const(64, 0), b.const(64, 1 << 63))
    table = b.get("cr3") & _FRAME
    pml4e = w.load(table + _index(gva, 39, 9, 8), 64, "pml4e")
    w.check_entry(pml4e, no_nx | (_HIGH_RESERVED | PS))
    pdpte = w.load((pml4e & _FRAME) + _index(gva, 30, 9, 8), 64, "pdpte")
    giant = (pdpte & PS) != 0
    large_reserved = giant.select(b.const(64, 0x3FFF_E000), b.const(64, 0))
    w.check_entry(pdpte, no_nx | _HIGH_RESERVED | large_reserved)
    with b.if_(giant):
        w.finish(pdpte, _page(w, pdpte, 30))
    pde = w.load((pdpte & _FRAME) + _index(gva, 21, 9, 8), 64, "pde")
    _last_levels(w, pde, no_nx | _HIGH_RESERVED)


def _last_levels(w: _Walk, pde: Value, reserved: Value) -> None:
    """A PDE that maps 2 MiB or points at a page table, 64-bit entries."""
    b = w.b
    large = (pde & PS) != 0
    large_reserved = large.select(b.const(64, 0x1F_E000), b.const(64, 0))
    w.check_entry(pde, reserved | large_reserved)
    with b.if_(large):
        w.finish(pde, _page(w, pde, 21))
    pte = w.load((pde & _FRAME) + _index(w.gva, 12, 9, 8), 64, "pte")
    w.check_entry(pte, reserved)
    w.finish(pte, pte & _FRAME)


@routine_(64, 8, results=(64, 8))
def walk_pae(b: Builder, gva: Value, access: Value) -> None:
    """PAE paging: the four PDPTEs are registers, loaded with CR3."""
    w = _Walk(b, gva, access)
    which = gva.bits(31, 30)
    low = which.bit(0)
    upper = low.select(b.get("pdpte3"), b.get("pdpte2"))
    pdpte = which.bit(1).select(upper, low.select(b.get("pdpte1"), b.get("pdpte0")))
    w.fault_if((pdpte & P) == 0, 0)
    no_nx = w.nxe.select(b.const(64, 0), b.const(64, 1 << 63))
    reserved = no_nx | (_HIGH_RESERVED | (0x7FF << 52))
    pde = w.load((pdpte & _FRAME) + _index(gva, 21, 9, 8), 64, "pde")
    _last_levels(w, pde, reserved)


@routine_(64, 8, results=(64, 8))
def walk_32bit(b: Builder, gva: Value, access: Value) -> None:
    """32-bit paging: 4 KiB pages, and 4 MiB ones with CR4.PSE (PSE-36)."""
    w = _Walk(b, gva, access)
    table = b.get("cr3") & 0xFFFF_F000
    pde = w.load(table + _index(gva, 22, 10, 4), 32, "pde")
    large = ((pde & PS) != 0) & ((b.get("cr4") & CR4_PSE) != 0)
    beyond = 0x3FE000 & ~((1 << (MAXPHYADDR - 19)) - 1)  # bits 21:(MAXPHYADDR-19)
    w.check_entry(pde, large.select(b.const(64, beyond), b.const(64, 0)))
    with b.if_(large):
        high = pde.bits(20, 13) << 32
        frame = (pde & 0xFFC0_0000) | high | (gva & 0x3F_F000)
        w.finish(pde, frame & _FRAME)
    pte = w.load((pde & 0xFFFF_F000) + _index(gva, 12, 10, 4), 32, "pte")
    w.check_entry(pte, b.const(64, 0))
    w.finish(pte, pte & 0xFFFF_F000)


@routine_(64, 8, results=(64, 8))
def translate(b: Builder, gva: Value, access: Value) -> None:
    """Physical address of the 4 KiB page that holds `gva`, and bit 0: a global page.

    `access` says what is done and for whom. Ends with #GP or #SS for a non-canonical address,
    #PF, or an EPT violation or misconfiguration.
    """
    long = (b.get("efer") & EFER_LMA) != 0
    top = gva.sar(47)
    with b.if_(long & (top != 0) & (top != (1 << 64) - 1)):
        with b.if_(access.bit(5)):
            b.fault(12, 0)
        b.fault(13, 0)
    with b.if_((b.get("cr0") & CR0_PG) == 0):
        # Without paging every linear address is a user-mode one that may be written and executed.
        kind = (access & (WRITE | FETCH)) | (FINAL_ACCESS | 16 | 2 | 64)
        hpa, _ = b.call("guest_physical", gva & 0xFFFF_FFFF, kind, gva)
        b.return_(hpa & ~0xFFF, b.const(8, 0))
    with b.if_(long):
        b.return_(*b.call("walk_4level", gva, access))
    with b.if_((b.get("cr4") & CR4_PAE) != 0):
        b.return_(*b.call("walk_pae", gva, access))
    b.return_(*b.call("walk_32bit", gva, access))


@routine_(64, results=(1,))
def load_pdptes(b: Builder, cr3: Value) -> None:
    """Load the PAE page-directory-pointer-table entries; 0 when one has reserved bits set.

    SDM 3A, PDPTE Registers. Nothing is loaded unless all four are legal.
    """
    base = cr3 & 0xFFFF_FFE0
    entries = []
    legal: Value = b.const(1, 1)
    reserved = 0x1E6 | _HIGH_RESERVED | (0xFFF << 52)
    for n in range(4):
        hpa, _ = b.call("guest_physical", base + 8 * n, TABLE_ACCESS | 32, b.const(64, 0))
        entry = b.load_physical(64, hpa)
        entries.append(entry)
        legal = legal & (((entry & P) == 0) | ((entry & reserved) == 0))
    with b.if_(legal):
        for n, entry in enumerate(entries):
            b.put(f"pdpte{n}", entry)
    b.return_(legal)


__all__ = ["MAXPHYADDR", "Variable", "load_pdptes", "translate"]
