"""The vCPU's registers between two homes: the VMCS and physical CPU, and the completing CPU.

Which register lives where is in the tables below. What the guest *reads* as CR0 and CR4 is
kept in the completing CPU; what the VMCS holds is that plus what VMX needs, behind masks. It
does not know why state is moved.
"""

from typing import NamedTuple

from vtx.isa.layout import GPR_NAMES, SEGMENT_NAMES, SLOTS
from vtx.machine.images import Image, imager, runs
from vtx.machine.state import State
from vtx.spec.registers import CR0, CR4, EFER
from vtx.vmm.port import Port

_SHARED = (
    *(name for name in GPR_NAMES if name != "rsp"),
    "cr2", "dr0", "dr1", "dr2", "dr3", "dr6", "xcr0",
    "star", "lstar", "cstar", "fmask", "kernel_gs_base", "tsc_aux",
)  # fmt: skip
"""Registers that a VM exit leaves in the CPU, guest's values and all."""
_SHARED_RUNS = tuple(runs(SLOTS[name] for name in _SHARED))

HELD_FIELDS = {
    "rip": "GUEST_RIP", "rsp": "GUEST_RSP", "cr3": "GUEST_CR3", "dr7": "GUEST_DR7",
    "gdtr_base": "GUEST_GDTR_BASE", "gdtr_limit": "GUEST_GDTR_LIMIT",
    "idtr_base": "GUEST_IDTR_BASE", "idtr_limit": "GUEST_IDTR_LIMIT",
    "sysenter_cs": "GUEST_IA32_SYSENTER_CS", "sysenter_esp": "GUEST_IA32_SYSENTER_ESP",
    "sysenter_eip": "GUEST_IA32_SYSENTER_EIP", "debugctl": "GUEST_IA32_DEBUGCTL",
    "pat": "GUEST_IA32_PAT", "interruptibility": "GUEST_INTERRUPTIBILITY_STATE",
    "pending_debug": "GUEST_PENDING_DBG_EXCEPTIONS",
} | {
    f"{segment}_{part}": f"GUEST_{segment.upper()}_{name}"
    for segment in SEGMENT_NAMES
    for part, name in (
        ("sel", "SELECTOR"), ("base", "BASE"), ("limit", "LIMIT"), ("ar", "ACCESS_RIGHTS"),
    )
}  # fmt: skip
"""State slot -> the guest-state field that holds it while the guest runs."""
_OFTEN = ("rip", "rsp", "interruptibility", "pending_debug")
"""What differs from exit to exit; the others are looked at only when one of them has changed."""
_OFTEN_FIELDS = (*(HELD_FIELDS[slot] for slot in _OFTEN), "GUEST_RFLAGS", "GUEST_ACTIVITY_STATE")
_RARE = tuple(slot for slot in HELD_FIELDS if slot not in (*_OFTEN, "cr3"))
_RARE_SLOTS, _RARE_FIELDS = (
    tuple(SLOTS[slot] for slot in _RARE),
    tuple(HELD_FIELDS[slot] for slot in _RARE),
)
_rare_image = imager(_RARE_SLOTS)
_RIP, _RSP, _BLOCKING, _PENDING = (SLOTS[slot] for slot in _OFTEN)
_ACTIVITY, _VECTOR, _EVENT = SLOTS["activity"], SLOTS["fault_vector"], SLOTS["event_valid"]
_CR0, _CR3, _CR4, _EFER = (SLOTS[name] for name in ("cr0", "cr3", "cr4", "efer"))
_CONTROL_FIELDS = (
    "GUEST_CR0", "GUEST_CR3", "GUEST_CR4", "CR0_READ_SHADOW", "CR4_READ_SHADOW", "GUEST_IA32_EFER",
)  # fmt: skip
_PDPTES = tuple((f"pdpte{n}", f"GUEST_PDPTE{n}") for n in range(4))

EFER_LME, EFER_LMA = EFER.LME, EFER.LMA
IA32E_GUEST = 1 << 9
CR0_PG, CR4_PAE = CR0.PG, CR4.PAE
TRANSLATION_CR0 = CR0_PG | 1 << 16 | 1
"""The bits of CR0 that translation depends on: PG, WP, PE."""


class ControlRegisters(NamedTuple):
    """What the VMCS holds of the control registers for what the guest believes."""

    cr0: int
    cr3: int
    cr4: int
    efer: int
    """The hardware's EFER; its LMA decides the IA-32e-mode-guest control."""
    pdptes: bool = False
    """The guest's PDPTEs are loaded from the VMCS."""


class Vcpu:
    """Moves one vCPU's state. `state` is the completing CPU's."""

    def __init__(self, port: Port, state: State) -> None:
        self.port = port
        self.state = state
        self.cr3_is_guests = True
        """GUEST_CR3 holds the guest's own CR3 (it may load CR3 without a VM exit)."""
        self.cr0_owned = self.cr4_owned = 0
        """Bits of CR0 and CR4 that the guest changes without a VM exit."""
        self._often: tuple[int, ...] | None = None
        """Values of _OFTEN_FIELDS as they were just read; None: nothing was."""
        self._rare: tuple[int, ...] = ()
        """Values of _RARE_FIELDS as they were read."""
        self._agreed: tuple[Image | None, Image] | None = None
        """The VMCS and the completing CPU with the same values of these."""
        self._shared = tuple(
            (port.words[first:end], state.words[first:end]) for first, end in _SHARED_RUNS
        )
        self._control: tuple[int, ...] = ()
        """Values of _CONTROL_FIELDS as they were written."""
        self._long: bool | None = None

    def load_from_vmcs(self) -> None:
        """Copy the vCPU's registers into the completing CPU."""
        state, words = self.state, self.state.words
        for physical, completing in self._shared:
            completing[:] = physical
        self._often = self.port.vmread_all(_OFTEN_FIELDS)
        rip, rsp, words[_BLOCKING], words[_PENDING], rflags, words[_ACTIVITY] = self._often
        words[_RIP], words[_RSP], state.rflags = rip, rsp, rflags
        self._load_rare()
        self.load_paging()
        words[_VECTOR] = words[_EVENT] = 0

    def _load_rare(self) -> None:
        held, state = self.port.vmcs_image(_RARE_FIELDS), self.state
        if held is not None and (held, _rare_image(state.buffer)) == self._agreed:
            return
        self._rare = self.port.vmread_all(_RARE_FIELDS)
        for slot, value in zip(_RARE_SLOTS, self._rare, strict=True):
            state.words[slot] = value
        self._agreed = held, _rare_image(state.buffer)

    def load_paging(self) -> None:
        """Copy only what translating addresses needs."""
        if self.cr3_is_guests:
            self.state.words[_CR3] = self.port.vmread("GUEST_CR3")
        if self.cr0_owned:
            self._load_owned("cr0", "GUEST_CR0", self.cr0_owned)
        if self.cr4_owned:
            self._load_owned("cr4", "GUEST_CR4", self.cr4_owned)
        if self.cr3_is_guests and self.uses_pdptes:
            for slot_name, field_name in _PDPTES:
                self.state.write(slot_name, self.port.vmread(field_name))

    def _load_owned(self, slot: str, field_name: str, owned: int) -> None:
        kept = self.state.read(slot) & ~owned
        self.state.write(slot, kept | (self.port.vmread(field_name) & owned))

    @property
    def uses_pdptes(self) -> bool:
        """The guest's paging is PAE."""
        words = self.state.words
        paged = words[_CR0] & CR0_PG and words[_CR4] & CR4_PAE
        return bool(paged) and not words[_EFER] & EFER_LMA

    def store_to_vmcs(self, control: ControlRegisters) -> None:
        """Copy the completing CPU's registers back, with the hardware's control registers."""
        port, state = self.port, self.state
        for physical, completing in self._shared:
            physical[:] = completing
        words = state.words
        values = (words[_RIP], words[_RSP], words[_BLOCKING], words[_PENDING], state.rflags, 0)
        known, self._often = self._often, None
        if values != known:
            for n, name in enumerate(_OFTEN_FIELDS):
                if known is None or values[n] != known[n]:
                    port.vmwrite(name, values[n])
        if known is None or self._agreed is None or _rare_image(state.buffer) != self._agreed[1]:
            self._store_rare(known is not None)
        self.store_control(control)

    def _store_rare(self, loaded: bool) -> None:
        for n, (slot, name) in enumerate(zip(_RARE_SLOTS, _RARE_FIELDS, strict=True)):
            value = self.state.words[slot]
            if not loaded or value != self._rare[n]:
                self.port.vmwrite(name, value)
        self._agreed = None

    def store_control(self, control: ControlRegisters) -> None:
        """Write the hardware's control registers and the read shadows."""
        words, changed = self.state.words, self._changed_by_guest
        long = bool(control.efer & EFER_LMA)
        values = (
            control.cr0, control.cr3, control.cr4, words[_CR0], words[_CR4], control.efer,
        )  # fmt: skip
        if changed or values != self._control:
            known, self._control = self._control, values
            for n, name in enumerate(_CONTROL_FIELDS):
                if not known or values[n] != known[n] or name in changed:
                    self.port.vmwrite(name, values[n])
        if long != self._long:
            entry = self.port.vmread("VMENTRY_CONTROLS") & ~IA32E_GUEST
            self.port.vmwrite("VMENTRY_CONTROLS", entry | IA32E_GUEST * long)
            self._long = long
        if control.pdptes:
            for slot_name, field_name in _PDPTES:
                self.port.vmwrite(field_name, self.state.read(slot_name))

    @property
    def _changed_by_guest(self) -> tuple[str, ...]:
        """Control-register fields that a VM exit may have saved another value in."""
        names = ("GUEST_CR3",) if self.cr3_is_guests else ()
        return names + ("GUEST_CR0",) * bool(self.cr0_owned) + ("GUEST_CR4",) * bool(self.cr4_owned)
