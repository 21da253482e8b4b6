"""The translation key: the only facts a Python `if` in the semantics may test.

Everything in the key is constant over a translated block; when one of these facts changes,
another block is looked up. All other state is run-time. This module knows how to compute the
key from state, and nothing about what is done with it.
"""

from typing import NamedTuple, Protocol

from vtx.isa.layout import SLOTS
from vtx.isa.program import Privilege
from vtx.spec.registers import ACCESS_RIGHTS, CR0, CR4, EFER, RFLAGS

CR0_PE, CR0_AM, CR0_PG = CR0.PE, CR0.AM, CR0.PG
CR4_SMAP = CR4.SMAP
EFER_LMA = EFER.LMA
RFLAGS_VM, RFLAGS_AC = RFLAGS.VM, RFLAGS.AC
AR_D, AR_L, AR_UNUSABLE = ACCESS_RIGHTS.DB, ACCESS_RIGHTS.L, ACCESS_RIGHTS.UNUSABLE

VMX_OFF, VMX_ROOT, VMX_NON_ROOT = 0, 1, 2


class Words(Protocol):
    """State words, by slot index."""

    def __getitem__(self, slot: int, /) -> int: ...


class Key(NamedTuple):
    """Mode and privilege that translated code was built for."""

    bits: int
    """Default operand and address size of the code: 16, 32 or 64."""
    stack: int
    """Width of the stack pointer: 16, 32 or 64."""
    cpl: int
    protected: bool
    """CR0.PE; false in real-address mode."""
    v86: bool
    long: bool
    """IA-32e mode is active (64-bit or compatibility)."""
    vmx: int
    """VMX_OFF, VMX_ROOT or VMX_NON_ROOT."""
    flat: int
    """Bit n set: segment n (es cs ss ds) has base 0, limit 4 GiB and all rights it may need."""
    ac: bool
    """EFLAGS.AC and SMAP let supervisor code touch user pages."""
    align: bool
    """Alignment is checked (CPL 3, CR0.AM, EFLAGS.AC)."""

    @property
    def data_privilege(self) -> Privilege:
        """On whose behalf this code's explicit data accesses are made."""
        if self.cpl == 3:
            return Privilege.USER
        return Privilege.SUPERVISOR_AC if self.ac else Privilege.SUPERVISOR


_SEGMENTS = ("es", "cs", "ss", "ds")
_FLAT_SLOTS = tuple(
    (1 << n, SLOTS[f"{s}_base"], SLOTS[f"{s}_limit"], SLOTS[f"{s}_ar"], s == "cs")
    for n, s in enumerate(_SEGMENTS)
)
_CR0, _CR4, _EFER, _RFLAGS = SLOTS["cr0"], SLOTS["cr4"], SLOTS["efer"], SLOTS["rflags"]
_CS_AR, _SS_AR, _VMX = SLOTS["cs_ar"], SLOTS["ss_ar"], SLOTS["vmx"]


def _is_flat(state: Words, base: int, limit: int, ar: int, code: bool) -> bool:
    if state[base] != 0 or state[limit] != 0xFFFF_FFFF or state[ar] & AR_UNUSABLE:
        return False
    kind = state[ar] & 0xF
    # Readable code, or writable expand-up data.
    return kind & 0xA == 0xA if code else kind & 0xE == 0x2


def current_key(state: Words) -> Key:
    """The key that belongs to a CPU's present state words."""
    efer, code = state[_EFER], state[_CS_AR]
    if not (efer & EFER_LMA and code & AR_L):
        return _present_key(state)
    # In 64-bit code these alone decide; most keys are asked for again and again.
    decisive = (
        state[_CR0] & (CR0_PE | CR0_AM), state[_RFLAGS] & (RFLAGS_VM | RFLAGS_AC),
        state[_SS_AR], state[_CR4] & CR4_SMAP, state[_VMX],
    )  # fmt: skip
    key = _KNOWN.get(decisive)
    if key is None:
        if len(_KNOWN) >= _MOST_KNOWN:
            _KNOWN.clear()
        key = _KNOWN[decisive] = _present_key(state)
    return key


_KNOWN: dict[tuple[int, ...], Key] = {}
_MOST_KNOWN = 256


def _present_key(state: Words) -> Key:
    cr0, rflags = state[_CR0], state[_RFLAGS]
    protected = bool(cr0 & CR0_PE)
    v86 = bool(rflags & RFLAGS_VM) and protected
    long = bool(state[_EFER] & EFER_LMA)
    code = state[_CS_AR]
    bits = 64 if long and code & AR_L else 32 if code & AR_D else 16
    cpl = 3 if v86 else (state[_SS_AR] >> 5) & 3 if protected else 0
    stack = 64 if bits == 64 else 32 if state[_SS_AR] & AR_D else 16
    flat = 0
    if bits != 64:
        for bit, base, limit, ar, is_code in _FLAT_SLOTS:
            if _is_flat(state, base, limit, ar, is_code):
                flat |= bit
    return Key(
        bits, stack, cpl, protected, v86, long, state[_VMX], flat,
        bool(state[_CR4] & CR4_SMAP and rflags & RFLAGS_AC and cpl != 3),
        cpl == 3 and bool(cr0 & CR0_AM and rflags & RFLAGS_AC),
    )  # fmt: skip
