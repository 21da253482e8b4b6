"""The port between a VMM and the CPU: VMX instructions, registers, memory, and `enter`.

It is all a VMM written in Python has, and all it needs: the same things software in VMX root
mode on the emulated CPU has. It does not know what a VM is.
"""

from dataclasses import dataclass

from vtx.engine.reference import Reference
from vtx.engine.run import Ended, Runner
from vtx.isa.layout import SLOTS
from vtx.machine.computer import Computer
from vtx.machine.images import Image
from vtx.spec import SpecError, field, instruction_error, msr
from vtx.vmx.capability import REVISION, capability_msrs
from vtx.vmx.field_access import FieldAccess

_VMX, _RETIRED = SLOTS["vmx"], SLOTS["retired"]
CR0_ROOT = 0x8001_0031  # PG WP NE ET PE: what VMX operation needs, and write protection
CR4_ROOT = 0x2020  # VMXE PAE
EFER_ROOT = 0x500  # LMA LME
HOST_CODE, HOST_DATA, HOST_TSS = 0x08, 0x10, 0x18
_FAILS = {1: "VMfailInvalid", 2: "VMfailValid"}


class VmxError(Exception):
    """A VMX instruction failed; one line that says which and why."""


@dataclass
class Port:
    """VMX root mode of one CPU, worked from Python. Addresses are host-physical."""

    computer: Computer
    engine: Reference

    def __post_init__(self) -> None:
        self.cpu = self.computer.cpu
        self.words = self.cpu.words
        self._runner = Runner(self.engine, None, python_root=True)
        self._written: dict[str, int] | None = None
        self._fields = FieldAccess(self.cpu)

    # --- root mode ---------------------------------------------------------------------------
    def start(self, vmxon_region: int, page_table: int) -> None:
        """Bring the CPU into 64-bit VMX root operation."""
        state = self.cpu.state
        state.write("cr0", CR0_ROOT)
        state.write("cr4", CR4_ROOT)
        state.write("cr3", page_table)
        state.write("efer", EFER_ROOT)
        state.write_segment("cs", HOST_CODE, 0, 0xFFFF_FFFF, 0xA09B)
        state.write_segment("ss", HOST_DATA, 0, 0xFFFF_FFFF, 0xC093)
        state.write_segment("tr", HOST_TSS, 0, 0x67, 0x8B)
        self.cpu.switch_context()
        self.engine.settle(0)
        self.store(vmxon_region, REVISION, 32)
        self._succeed("VMXON", "vmx_vmxon", vmxon_region)

    def load_vmcs(self, region: int) -> None:
        """VMCLEAR and VMPTRLD a region whose revision identifier is set here."""
        self.store(region, REVISION, 32)
        self._succeed("VMCLEAR", "vmx_vmclear", region)
        self._succeed("VMPTRLD", "vmx_vmptrld", region)

    def vmread(self, name: str) -> int:
        """VMREAD of the field called `name`. Raises VmxError."""
        value = self._fields.read(name)
        if value >= 0:
            return value
        value, status = self._call("vmx_vmread", field(name).encoding)
        if status:
            raise VmxError(f"VMREAD of {name} failed: {self._why(status)}")
        return value

    def vmread_all(self, names: tuple[str, ...]) -> tuple[int, ...]:
        """VMREAD of several fields, in order. Raises VmxError."""
        found = self._fields.read_all(names)
        return found or tuple(self.vmread(name) for name in names)

    def vmcs_image(self, names: tuple[str, ...]) -> Image | None:
        """What tells whether one of several fields has changed; None where nothing does."""
        return self._fields.image(names)

    def vmwrite(self, name: str, value: int) -> None:
        """VMWRITE of the field called `name`. Raises VmxError."""
        value &= (1 << 64) - 1
        if self._written is not None and self.vmread(name) != value:
            self._written[name] = value
        if self._fields.write(name, value):
            return
        (status,) = self._call("vmx_vmwrite", field(name).encoding, value)
        if status:
            raise VmxError(f"VMWRITE of {name} failed: {self._why(status)}")

    def record_writes(self) -> None:
        """From now on note which fields VMWRITE changes."""
        self._written = {}

    def recorded_writes(self) -> dict[str, int]:
        """The fields changed since `record_writes`, with their new values; noting ends."""
        written, self._written = self._written or {}, None
        return written

    def invept(self, eptp: int) -> None:
        """INVEPT, single-context."""
        self._succeed("INVEPT", "vmx_invept", 1, eptp, 0)

    def invvpid(self, vpid: int) -> None:
        """INVVPID, single-context."""
        self._succeed("INVVPID", "vmx_invvpid", 1, vpid, 0)

    def enter(self, *, launched: bool) -> bool:
        """VMLAUNCH or VMRESUME, and run the guest to its next VM exit.

        False when VM entry failed on the controls or the host state (see VM_INSTRUCTION_ERROR).
        """
        if self.engine.enter_guest(launch=not launched):
            return False
        while self.words[_VMX] == 2:
            ended = self._runner.run(1 << 62)
            if ended is not Ended.VM_EXIT:
                raise VmxError(f"the CPU ended in {ended.value} in VMX non-root operation")
        return True

    # --- everything else a VMM touches ---------------------------------------------------------
    def rdmsr(self, name: str) -> int:
        """RDMSR of a VMX capability MSR by name."""
        return capability_msrs(self.computer.model.silicon)[msr(name).index]

    def register(self, slot: str) -> int:
        return self.words[SLOTS[slot]]

    def set_register(self, slot: str, value: int) -> None:
        self.words[SLOTS[slot]] = value

    @property
    def now(self) -> int:
        """The physical machine's virtual time."""
        return self.cpu.now()

    @property
    def retired(self) -> int:
        """Instructions the CPU retired: all of them in non-root operation."""
        return self.words[_RETIRED]

    def store(self, hpa: int, value: int, width: int = 64) -> None:
        self.cpu.store_physical(hpa, value, width)

    def load(self, hpa: int, width: int = 64) -> int:
        return self.cpu.load_physical(hpa, width)

    # --- failures ----------------------------------------------------------------------------
    def _succeed(self, what: str, name: str, *args: int) -> None:
        (status,) = self._call(name, *args)
        if status:
            raise VmxError(f"{what} failed: {self._why(status)}")

    def _call(self, name: str, *args: int) -> tuple[int, ...]:
        result = self.engine.call(name, *args)
        if result is None:
            raise VmxError(f"{name} faulted")
        return result

    def _why(self, status: int) -> str:
        if status != 2:
            return _FAILS.get(status, str(status))
        return self.instruction_error()

    def instruction_error(self) -> str:
        """What VM_INSTRUCTION_ERROR of the current VMCS says, in words."""
        number = self.vmread("VM_INSTRUCTION_ERROR")
        try:
            return f"VM-instruction error {number}: {instruction_error(number).meaning}"
        except SpecError:
            return f"VM-instruction error {number}"
