"""The vCPU's registers between two homes: the VMCS and physical CPU, and the completing CPU.

Which register lives where is in the tables below. What the guest *reads* as CR0 and CR4 is
kept in the completing CPU; what the VMCS holds is that plus what VMX needs, behind masks. It
does not know why state is moved.
"""

from dataclasses import dataclass

from vtx.isa.layout import GPR_NAMES, SEGMENT_NAMES, SLOTS
from vtx.machine.state import State
from vtx.spec.registers import CR0, CR4, EFER
from vtx.vmm.port import Port

_SHARED = (
    *(name for name in GPR_NAMES if name != "rsp"),
    "cr2", "dr0", "dr1", "dr2", "dr3", "dr6", "xcr0",
    "star", "lstar", "cstar", "fmask", "kernel_gs_base", "tsc_aux",
)  # fmt: skip
"""Registers that a VM exit leaves in the CPU, guest's values and all."""
_SHARED_SLOTS = tuple(SLOTS[name] for name in _SHARED)

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
_HELD_SLOTS = tuple((SLOTS[slot], name) for slot, name in HELD_FIELDS.items() if slot != "cr3")
_HELD = (*(name for _, name in _HELD_SLOTS), "GUEST_RFLAGS", "GUEST_ACTIVITY_STATE")
_PDPTES = tuple((f"pdpte{n}", f"GUEST_PDPTE{n}") for n in range(4))

EFER_LME, EFER_LMA = EFER.LME, EFER.LMA
IA32E_GUEST = 1 << 9
CR0_PG, CR4_PAE = CR0.PG, CR4.PAE
TRANSLATION_CR0 = CR0_PG | 1 << 16 | 1
"""The bits of CR0 that translation depends on: PG, WP, PE."""


@dataclass(frozen=True)
class ControlRegisters:
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
        self._held: dict[str, int] = {}
        """Fields whose values are known because they were just read."""
        self._control: dict[str, int] = {}
        self._long: bool | None = None

    def load_from_vmcs(self) -> None:
        """Copy the vCPU's registers into the completing CPU."""
        port, state = self.port, self.state
        for slot in _SHARED_SLOTS:
            state.words[slot] = port.words[slot]
        self._held = dict(zip(_HELD, port.vmread_all(_HELD), strict=True))
        for slot, field_name in _HELD_SLOTS:
            state.words[slot] = self._held[field_name]
        state.rflags = self._held["GUEST_RFLAGS"]
        state.write("activity", self._held["GUEST_ACTIVITY_STATE"])
        self.load_paging()
        state.write("fault_vector", 0)
        state.write("event_valid", 0)

    def load_paging(self) -> None:
        """Copy only what translating addresses needs."""
        if self.cr3_is_guests:
            self.state.write("cr3", self.port.vmread("GUEST_CR3"))
        self._load_owned("cr0", "GUEST_CR0", self.cr0_owned)
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
        state = self.state
        paged = state.read("cr0") & CR0_PG and state.read("cr4") & CR4_PAE
        return bool(paged) and not state.read("efer") & EFER_LMA

    def store_to_vmcs(self, control: ControlRegisters) -> None:
        """Copy the completing CPU's registers back, with the hardware's control registers."""
        port, state = self.port, self.state
        for slot in _SHARED_SLOTS:
            port.words[slot] = state.words[slot]
        for slot, field_name in _HELD_SLOTS:
            self._write(field_name, state.words[slot])
        self._write("GUEST_RFLAGS", state.rflags)
        self._write("GUEST_ACTIVITY_STATE", 0)
        self.store_control(control)
        self._held.clear()

    def _write(self, name: str, value: int) -> None:
        """VMWRITE, unless the field is known to hold the value."""
        if self._held.get(name) != value:
            self.port.vmwrite(name, value)

    def store_control(self, control: ControlRegisters) -> None:
        """Write the hardware's control registers and the read shadows."""
        state = self.state
        long = bool(control.efer & EFER_LMA)
        values = {
            "GUEST_CR0": control.cr0, "GUEST_CR3": control.cr3, "GUEST_CR4": control.cr4,
            "CR0_READ_SHADOW": state.read("cr0"), "CR4_READ_SHADOW": state.read("cr4"),
            "GUEST_IA32_EFER": control.efer,
        }  # fmt: skip
        for name, value in values.items():
            if self._control.get(name) != value or name in self._changed_by_guest:
                self.port.vmwrite(name, value)
        self._control = values
        if long != self._long:
            entry = self.port.vmread("VMENTRY_CONTROLS") & ~IA32E_GUEST
            self.port.vmwrite("VMENTRY_CONTROLS", entry | IA32E_GUEST * long)
            self._long = long
        if control.pdptes:
            for slot_name, field_name in _PDPTES:
                self.port.vmwrite(field_name, state.read(slot_name))

    @property
    def _changed_by_guest(self) -> tuple[str, ...]:
        """Control-register fields that a VM exit may have saved another value in."""
        names = ("GUEST_CR3",) if self.cr3_is_guests else ()
        return names + ("GUEST_CR0",) * bool(self.cr0_owned) + ("GUEST_CR4",) * bool(self.cr4_owned)
