"""Which VMX controls a style wants, fitted to what the CPU allows.

Sources: SDM 3D, Reserved Controls and Default Settings. It does not know what a control does.
"""

from dataclasses import dataclass, replace

from vtx.spec import Control, Profile, control
from vtx.vmm.port import (
    CR0_ROOT,
    CR4_ROOT,
    EFER_ROOT,
    HOST_CODE,
    HOST_DATA,
    HOST_TSS,
    Port,
    VmxError,
)

_WORDS = {
    "pin": ("PINBASED_CONTROLS", "IA32_VMX_TRUE_PINBASED_CTLS"),
    "proc": ("PROCBASED_CONTROLS", "IA32_VMX_TRUE_PROCBASED_CTLS"),
    "sec": ("SECONDARY_PROCBASED_CONTROLS", "IA32_VMX_PROCBASED_CTLS2"),
    "exit": ("VMEXIT_CONTROLS", "IA32_VMX_TRUE_EXIT_CTLS"),
    "entry": ("VMENTRY_CONTROLS", "IA32_VMX_TRUE_ENTRY_CTLS"),
}
_EXIT = ("HOST_ADDRESS_SPACE_SIZE", "SAVE_DEBUG_CONTROLS", "SAVE_PAT", "LOAD_PAT", "SAVE_EFER",
         "LOAD_EFER")  # fmt: skip
_ENTRY = ("LOAD_DEBUG_CONTROLS", "LOAD_PAT", "LOAD_EFER")
HOST_RIP = 0xFFFF_8000_0000_0000
"""Where a VM exit 'returns to': Python takes over before it is fetched from."""


@dataclass(frozen=True)
class ControlPlan:
    """The controls to set in the three execution-control words; exit and entry are common."""

    pin: tuple[Control, ...] = ()
    proc: tuple[Control, ...] = ()
    sec: tuple[Control, ...] = ()

    def with_(
        self, *, proc: tuple[Control, ...] = (), sec: tuple[Control, ...] = ()
    ) -> "ControlPlan":
        """This plan with more controls."""
        return replace(self, proc=self.proc + proc, sec=self.sec + sec)

    def write(self, port: Port, cpu: Profile) -> None:
        """Write all control words and the host state."""
        exit_names = tuple(control(f"exit.{name}") for name in _EXIT)
        entry_names = tuple(control(f"entry.{name}") for name in _ENTRY)
        words = {"pin": self.pin, "proc": self.proc, "sec": self.sec, "exit": exit_names,
                 "entry": entry_names}  # fmt: skip
        for word, wanted in words.items():
            field_name, capability = _WORDS[word]
            port.vmwrite(field_name, _fitted(port, word, capability, wanted))
        _write_host_state(port)


def _fitted(port: Port, word: str, capability: str, wanted: tuple[Control, ...]) -> int:
    """The wanted bits and those the CPU demands. Raises VmxError for one it does not have."""
    settings = port.rdmsr(capability)
    must_be_1, may_be_1 = settings & 0xFFFF_FFFF, settings >> 32
    value = must_be_1
    for one in wanted:
        if not may_be_1 & one.mask:
            raise VmxError(f"the CPU does not allow {word} control {one.name}")
        value |= one.mask
    return value


def _write_host_state(port: Port) -> None:
    """The state a VM exit loads: 64-bit root mode as `Port.start` left it."""
    for name, value in {
        "HOST_CR0": CR0_ROOT, "HOST_CR3": port.register("cr3"), "HOST_CR4": CR4_ROOT,
        "HOST_IA32_EFER": EFER_ROOT, "HOST_IA32_PAT": port.register("pat"),
        "HOST_CS_SELECTOR": HOST_CODE, "HOST_SS_SELECTOR": HOST_DATA,
        "HOST_TR_SELECTOR": HOST_TSS, "HOST_RIP": HOST_RIP, "HOST_RSP": HOST_RIP,
    }.items():  # fmt: skip
        port.vmwrite(name, value)
