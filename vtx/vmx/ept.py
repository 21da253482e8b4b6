"""Extended page tables, written in the algebra: guest-physical to host-physical.

`guest_physical` is what the page walk calls for every address it uses. Outside VMX non-root
operation, or without EPT, it returns its argument. Sources: SDM 3C, The Extended Page Table
Mechanism (EPT); EPT Violations; EPT Misconfigurations; Accessed and Dirty Flags for EPT.
"""

from vtx.isa.builder import Builder, Value, routine_
from vtx.machine.paging import MAXPHYADDR
from vtx.spec import CONTROLS, EXITS, MSRS
from vtx.vmx import page_log as page_log
from vtx.vmx import virtualization_exception as virtualization_exception
from vtx.vmx.capability import capability

READ, WRITE, EXECUTE, USER_EXECUTE = 1, 2, 4, 1 << 10
LARGE, ACCESSED, DIRTY = 1 << 7, 1 << 8, 1 << 9
_RIGHTS = 7
_FRAME = ((1 << MAXPHYADDR) - 1) & ~0xFFF
_HIGH_RESERVED = ((1 << 52) - 1) & ~((1 << MAXPHYADDR) - 1)

SECONDARY = CONTROLS.ACTIVATE_SECONDARY_CONTROLS.mask
ENABLE_EPT = CONTROLS.ENABLE_EPT.mask
MODE_BASED_EPT_EXECUTE = CONTROLS.MODE_BASED_EPT_EXECUTE.mask
ENABLE_PML, EPT_VIOLATION_VE = CONTROLS.ENABLE_PML.mask, CONTROLS.EPT_VIOLATION_VE.mask
SUPPRESS_VE = 63
"""Bit of an EPT entry that maps a page or is not present."""
EPT_VIOLATION, EPT_MISCONFIGURATION = EXITS.EPT_VIOLATION, EXITS.EPT_MISCONFIGURATION

KIND_WRITE, KIND_USER, KIND_FETCH, KIND_FINAL, KIND_NO_GVA = 1, 2, 4, 8, 32
KIND_WRITABLE, KIND_NO_EXECUTE = 64, 128
"""Bits of `kind`: a write, a fetch, the final translation of an access (else a paging-structure
access), no linear address belongs to it (a PDPTE load). And what the guest's own tables say of
the linear address of a final translation: user-mode, read/write, execute-disable."""

QUALIFICATION_GVA_VALID, QUALIFICATION_FINAL = 1 << 7, 1 << 8
ADVANCED_INFORMATION = 22
"""Bit of IA32_VMX_EPT_VPID_CAP."""


@routine_(64, 8, 64, results=(64, 1))
def guest_physical(b: Builder, gpa: Value, kind: Value, gva: Value) -> None:
    """Host-physical address of `gpa`, and whether EPT lets it be written."""
    non_root = b.get("vmx", 8) == 2
    secondary = (b.get("proc_controls") & SECONDARY) != 0
    enabled = (b.get("proc2_controls") & ENABLE_EPT) != 0
    with b.if_(non_root & secondary & enabled):
        b.return_(*b.call("ept_walk", gpa, kind, gva))
    b.return_(gpa, b.const(1, 1))


def _advanced(b: Builder, kind: Value, final: Value) -> Value:
    """Bits 11:9, advanced VM-exit information; 0 where the CPU has none or they mean nothing."""
    user, rest = (kind & KIND_USER).zext(64) << 8, (kind & KIND_WRITABLE).zext(64) << 4
    bits = user | rest | (kind & KIND_NO_EXECUTE).zext(64) << 4
    has = capability(b, MSRS.IA32_VMX_EPT_VPID_CAP).bit(ADVANCED_INFORMATION)
    return (has & final).select(bits, b.const(64, 0))


def _violation(
    b: Builder, gpa: Value, kind: Value, gva: Value, rights: Value, ad: Value, entry: Value
) -> None:
    """EPT violation (SDM 3C, Exit Qualification for EPT Violations), met at `entry`."""
    final = (kind & KIND_FINAL) != 0
    fetch = (kind & KIND_FETCH) != 0
    write = (kind & KIND_WRITE) != 0
    # With EPT accessed and dirty flags, walk accesses count as reads and writes at once.
    walk_writes = ~final & ad
    read_bit = (~(final & (fetch | write))).zext(64) | (walk_writes.zext(64))
    access = (read_bit & 1) | ((write | walk_writes).zext(64) << 1) | (fetch.zext(64) << 2)
    has_gva = (kind & KIND_NO_GVA) == 0
    where = has_gva.zext(64) << 7 | (final & has_gva).zext(64) << 8
    user_execute = (rights & USER_EXECUTE) >> 4
    told = access | (rights & _RIGHTS) << 3 | user_execute | where | _advanced(b, kind, final)
    gla = has_gva.select(gva, b.const(64, 0))
    with b.if_(((b.get("proc2_controls") & EPT_VIOLATION_VE) != 0) & ~entry.bit(SUPPRESS_VE)):
        b.call("raise_virtualization_exception", told, gla, gpa)
    b.put("exit_qualification", told)
    b.put("exit_gpa", gpa)
    b.put("exit_gla", gla)
    b.put("exit_length", b.const(64, 0))
    b.put("exit_info", b.const(64, 0))
    b.exit(EPT_VIOLATION)


def _misconfigured(b: Builder, gpa: Value) -> None:
    b.put("exit_qualification", b.const(64, 0))
    b.put("exit_gpa", gpa)
    b.put("exit_gla", b.const(64, 0))
    b.put("exit_length", b.const(64, 0))
    b.put("exit_info", b.const(64, 0))
    b.exit(EPT_MISCONFIGURATION)


def _check(b: Builder, gpa: Value, entry: Value, reserved: Value, leaf: Value) -> None:
    """A present entry with an illegal combination is a misconfiguration."""
    writable_only = (entry & (READ | WRITE)) == WRITE
    memory_type = entry.bits(5, 3)
    bad_type = (memory_type == 2) | (memory_type == 3) | (memory_type == 7)
    wrong = writable_only | ((entry & (reserved | _HIGH_RESERVED)) != 0) | (leaf & bad_type)
    with b.if_(wrong):
        _misconfigured(b, gpa)


@routine_(64, 8, 64, results=(64, 1))
def ept_walk(b: Builder, gpa: Value, kind: Value, gva: Value) -> None:
    """4-level EPT: pages of 4 KiB, 2 MiB and 1 GiB; execute-only entries are allowed.

    With mode-based execute control bit 2 of an entry is for supervisor-mode linear addresses and
    bit 10 for user-mode ones (SDM 3C, EPT Translation Mechanism).
    """
    eptp = b.get("eptp")
    ad = eptp.bit(6)
    final = (kind & KIND_FINAL) != 0
    writes = ((kind & KIND_WRITE) != 0) | (~final & ad)
    fetches = (kind & KIND_FETCH) != 0
    by_mode = (b.get("proc2_controls") & MODE_BASED_EPT_EXECUTE) != 0
    present = by_mode.select(b.const(64, _RIGHTS | USER_EXECUTE), b.const(64, _RIGHTS))
    for_user = by_mode & ((kind & KIND_USER) != 0)
    execute = for_user.select(b.const(64, USER_EXECUTE), b.const(64, EXECUTE))
    needed = fetches.select(execute, b.const(64, READ))
    needed = writes.select(b.const(64, READ | WRITE) & ~(fetches.zext(64)), needed)
    needed = (writes & final).select(b.const(64, WRITE), needed)
    rights = b.var(64, present)
    table = eptp & _FRAME
    used: list[tuple[Value, Value]] = []

    def visit(level: str, shift: int) -> Value:
        place = table + (((gpa >> shift) & 0x1FF) << 3)
        entry = b.walk_load(64, place, level)
        with b.if_((entry & present) == 0):
            _violation(b, gpa, kind, gva, b.const(64, 0), ad, entry)
        used.append((place, entry))
        rights.set(rights.get() & entry)
        return entry

    def finish(entry: Value, shift: int) -> None:
        granted = rights.get()
        with b.if_((granted & needed) != needed):
            _violation(b, gpa, kind, gva, granted, ad, entry)
        with b.if_(ad):
            dirties = writes & ((entry & DIRTY) == 0)
            with b.if_(dirties & ((b.get("proc2_controls") & ENABLE_PML) != 0)):
                b.call("log_modified_page", gpa)
            for place, seen in used[:-1]:
                with b.if_((seen & ACCESSED) == 0):
                    b.store_physical(place, seen | ACCESSED)
            place, seen = used[-1]
            flags = writes.select(b.const(64, ACCESSED | DIRTY), b.const(64, ACCESSED))
            with b.if_((seen & flags) != flags):
                b.store_physical(place, seen | flags)
        inside = (1 << shift) - 1
        b.return_((entry & (_FRAME & ~inside)) | (gpa & inside), (granted & WRITE) != 0)

    none, low = b.const(64, 0), b.const(64, 0x78)
    pml4e = visit("ept_pml4e", 39)
    _check(b, gpa, pml4e, b.const(64, 0xF8), b.const(1, 0))
    table = pml4e & _FRAME
    pdpte = visit("ept_pdpte", 30)
    giant = (pdpte & LARGE) != 0
    _check(b, gpa, pdpte, giant.select(b.const(64, 0x3FFF_F000), low), giant)
    with b.if_(giant):
        finish(pdpte, 30)
    table = pdpte & _FRAME
    pde = visit("ept_pde", 21)
    large = (pde & LARGE) != 0
    _check(b, gpa, pde, large.select(b.const(64, 0x1F_F000), low), large)
    with b.if_(large):
        finish(pde, 21)
    table = pde & _FRAME
    pte = visit("ept_pte", 12)
    _check(b, gpa, pte, none, b.const(1, 1))
    finish(pte, 12)


@routine_(64, 64, results=())
def ept_write_denied(b: Builder, gpa: Value, gva: Value) -> None:
    """An accessed or dirty flag must be set in a table that EPT does not let be written.

    The walk is made again as the write it turned out to be; it ends in the violation.
    """
    b.call("ept_walk", gpa, b.const(8, KIND_WRITE), gva)
    b.return_()
