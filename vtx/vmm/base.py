"""The VMM that every style extends: enter, exit, handle, act, and again.

A handler is a method `handle_<reason>` that gets an `Exit` and returns an `Action`. The base
answers every exit in a defined way: by completing the instruction on the vCPU, which gives
the guest what the bare machine would have given. Styles add how memory is virtualized.
Sources: SDM 3C, VMX Support for Processor Virtualization; Handling of VM Exits.
"""

from collections.abc import Callable

from vtx.isa.layout import SLOTS
from vtx.spec import CONTROLS, MSRS
from vtx.spec.registers import CR0, CR4, RFLAGS
from vtx.vmm import exits
from vtx.vmm.controls import ControlPlan
from vtx.vmm.ending import Ending, requested
from vtx.vmm.events import SOFTWARE, EventEntry
from vtx.vmm.exits import Action, Complete, Exit, Inject, Resume, Skip, Stop
from vtx.vmm.explain import explain_entry_failure
from vtx.vmm.frames import FramePool, OutOfFramesError
from vtx.vmm.observe import Observer
from vtx.vmm.port import Port, VmxError
from vtx.vmm.probing import GuestProbes
from vtx.vmm.vcpu import ControlRegisters, Vcpu
from vtx.vmm.vm import VirtualMachine

_CR0, _CR3, _CR4, _EFER = (SLOTS[name] for name in ("cr0", "cr3", "cr4", "efer"))
_ACTIVITY, _PENDING, _TSC_ADJUST = (
    SLOTS[name] for name in ("activity", "pending_debug", "tsc_adjust")
)
CR4_VMXE = CR4.VMXE
RFLAGS_RF = RFLAGS.RF
TIMER_MOST = 0xFFFF_FFFF
NEVER = 1 << 62


_EXIT_FIELDS = (
    "EXIT_REASON", "EXIT_QUALIFICATION", "EXIT_INSTRUCTION_LENGTH", "EXIT_INSTRUCTION_INFO",
    "GUEST_RIP", "GUEST_LINEAR_ADDRESS", "EXIT_INTERRUPTION_INFO", "EXIT_INTERRUPTION_ERROR_CODE",
    "IDT_VECTORING_INFO", "IDT_VECTORING_ERROR_CODE",
    "GUEST_PHYSICAL_ADDRESS",  # where there is EPT
)  # fmt: skip
_EXIT_VALUES = (
    "reason", "qualification", "instruction_length", "instruction_info", "rip", "gla",
    "interruption_info", "interruption_error", "idt_vectoring_info", "idt_vectoring_error", "gpa",
)  # fmt: skip
"""What `Exit` calls their values."""


class Vmm:
    """Runs one VM on one physical CPU. Subclass it and override handlers."""

    name = "vmm"

    def __init__(self, port: Port, vm: VirtualMachine, pool: FramePool) -> None:
        self.port, self.vm, self.pool = port, vm, pool
        self.vcpu = Vcpu(port, vm.soft.state)
        self.events = EventEntry(port, vm)
        self.observer: Observer | None = None
        self.probes: GuestProbes | None = None
        self.exit_counts: dict[str, int] = {}
        self.halted = False
        self._launched = False
        self._ending: Ending | None = None
        self._handlers: dict[int, Callable[[Exit], Action]] = {}
        self._layout = vm.platform.bus.layout_version

    # --- what a style decides ------------------------------------------------------------------
    def plan(self) -> ControlPlan:
        """The VMX controls this style wants."""
        return ControlPlan(
            pin=(CONTROLS.PREEMPTION_TIMER, CONTROLS.EXTERNAL_INTERRUPT_EXITING,
                 CONTROLS.NMI_EXITING, CONTROLS.VIRTUAL_NMIS),
            proc=(CONTROLS.HLT_EXITING, CONTROLS.UNCONDITIONAL_IO_EXITING,
                  CONTROLS.USE_TSC_OFFSETTING, CONTROLS.USE_MSR_BITMAPS,
                  CONTROLS.CR8_LOAD_EXITING, CONTROLS.CR8_STORE_EXITING,
                  CONTROLS.ACTIVATE_SECONDARY_CONTROLS),
            sec=(CONTROLS.ENABLE_RDTSCP, CONTROLS.ENABLE_INVPCID),
        )  # fmt: skip

    def control_registers(self) -> ControlRegisters:
        """What the hardware's control registers must hold for the guest's present ones."""
        words = self.vm.soft.words
        return ControlRegisters(
            cr0=words[_CR0] | CR0.NE | CR0.ET,
            cr3=words[_CR3],
            cr4=words[_CR4] | CR4_VMXE,
            efer=words[_EFER],
            pdptes=self.vcpu.uses_pdptes,
        )

    def set_up(self) -> None:
        """Style-specific VMCS fields, before the first entry."""

    def forget_translations(self) -> None:
        """Pages of guest-physical memory turned from RAM to device or back (the guest moved its
        local APIC): nothing mapped before is to be relied on."""

    def shadow_statistics(self) -> dict[str, int] | None:
        """Counts of shadow paging, where there is any."""
        return None

    # --- life --------------------------------------------------------------------------------
    def start(self) -> None:
        """Build the VMCS of a vCPU whose first state stands in the completing CPU."""
        self.port.start(self.pool.take(), self.pool.take())
        self.port.load_vmcs(self.pool.take())
        self.plan().write(self.port, self.vm.computer.model.silicon)
        self.port.vmwrite("MSR_BITMAP", self._msr_bitmap())
        self.port.vmwrite("VMCS_LINK_POINTER", (1 << 64) - 1)
        self.port.vmwrite("CR0_GUEST_HOST_MASK", ~self.vcpu.cr0_owned)
        self.port.vmwrite("CR4_GUEST_HOST_MASK", ~self.vcpu.cr4_owned)
        self.set_up()
        self.vcpu.store_to_vmcs(self.control_registers())

    def _msr_bitmap(self) -> int:
        """Frame with the MSR bitmap: only registers the CPU keeps for the guest pass."""
        hpa = self.pool.take()
        bitmap = bytearray(b"\xff" * 4096)
        for index in passed_through():
            for base in (0x000, 0x800) if index < 0xC000_0000 else (0x400, 0xC00):
                bit = index & 0x1FFF
                bitmap[base + (bit >> 3)] &= ~(1 << (bit & 7))
        self.port.cpu.bus.memory.write(hpa, bytes(bitmap))
        return hpa

    def run(self, instructions: int | None) -> Ending | None:
        """Run until the guest has retired `instructions` in all; None when it got there."""
        limit = NEVER if instructions is None else instructions
        while True:
            if self._ending is not None:
                return self._ending
            if self.vm.soft.signals.init:
                self.vm.platform.restart()
            if self.vm.platform.stop_request is not None:
                self._ending = requested(self.vm.platform.stop_request)
            elif self.vm.retired >= limit:
                return None
            elif self._awake():
                self._run_to_exit(limit - self.vm.retired)

    def _awake(self) -> bool:
        """Bring the VM's devices up to date; let a sleeping vCPU sleep on to the next event."""
        platform = self.vm.platform
        platform.advance(self.vm.now)
        if not self.halted:
            return True
        if self.events.deliverable():
            self.halted = False
            return True
        due = platform.next_event()
        if due is None or not self.events.interrupts_enabled():
            self._ending = Ending("halted")
            return False
        self.vm.skip_idle_to(due)
        return False

    def _run_to_exit(self, room: int) -> None:
        """One VM entry, the guest's run, and one exit handled."""
        due = self.vm.platform.next_event()
        timer = room if due is None else min(room, max(0, due - self.vm.now))
        self.events.prepare(self.observer)
        self.port.vmwrite("PREEMPTION_TIMER_VALUE", min(timer, TIMER_MOST))
        offset = self.vm.now + self.vm.soft.words[_TSC_ADJUST] - self.port.now
        self.port.vmwrite("TSC_OFFSET", offset)
        before = self.port.retired
        if self.probes is not None:
            self.probes.entering()
        try:
            entered = self.port.enter(launched=self._launched)
        finally:  # also when Ctrl-C ends it in the middle
            self.vm.count_retired(self.port.retired - before)
        if not entered:
            self._ending = Ending("entry_failed", message=explain_entry_failure(self.port))
            return
        self._launched = True
        self._handle(self._read_exit())

    def _read_exit(self) -> Exit:
        raw = self.port.vmread_all(_EXIT_FIELDS if self.has_ept else _EXIT_FIELDS[:-1])
        values = dict(zip(_EXIT_VALUES, raw, strict=False))
        reason = values["reason"]
        values["reason"] = reason & 0xFFFF
        values["failed_entry"] = bool(reason & exits.ENTRY_FAILURE)
        values.setdefault("gpa", 0)
        values["now"], values["retired"] = self.vm.now, self.vm.retired
        return Exit.of(values)

    @property
    def has_ept(self) -> bool:
        """The CPU has EPT (and GUEST_PHYSICAL_ADDRESS exists)."""
        return self.vm.computer.model.silicon.has_ept

    def _handle(self, exit: Exit) -> None:
        self.exit_counts[exit.name] = self.exit_counts.get(exit.name, 0) + 1
        if exit.failed_entry:
            message = explain_entry_failure(self.port, exit)
            self._ending = Ending("entry_failed", message=message)
            return
        if self.observer is not None:
            self.observer.before(exit)
        action = self._answer(exit)
        self._apply(action, exit)
        if self.observer is not None:
            self.observer.after(exit, action)

    def handle(self, exit: Exit) -> Action:
        """Call the handler of the exit's reason."""
        handler = self._handlers.get(exit.reason)
        if handler is None:
            name = f"handle_{exit.name.lower()}"
            handler = self._handlers[exit.reason] = getattr(self, name, self.handle_unknown)
        return handler(exit)

    def _answer(self, exit: Exit) -> Action:
        """The handler's action; a handler that fails, or gives none, ends the VM."""
        try:
            action = self.handle(exit)
        except (VmxError, OutOfFramesError):
            raise
        except Exception as error:
            text = f"{type(error).__name__}: {error}".splitlines()[0]
            return Stop(f"the handler of {exit.name} at rip {exit.rip:#x} failed: {text}")
        if isinstance(action, Action):
            return action
        return Stop(f"the handler of {exit.name} returned {action!r}, which is no action")

    def _apply(self, action: Action, exit: Exit) -> None:
        """Do what the handler decided. An event that was on its way goes on its way again."""
        if isinstance(action, Stop):
            self._ending = Ending("vmm_error", message=action.message)
        elif isinstance(action, Complete):
            self.complete(exit)
        elif isinstance(action, Skip):
            if self.probes is not None:
                self.probes.skipped(exit.rip)
            self.vm.count_retired(1)
            self.port.vmwrite("GUEST_RIP", exit.rip + exit.instruction_length)
            self.events.end_shadow()
        elif isinstance(action, Inject):
            self.events.inject(action)
        elif exit.idt_vectoring_info & exits.VALID:
            self._deliver_again(exit)

    def _deliver_again(self, exit: Exit) -> None:
        """The exit interrupted the delivery of an event. Hardware's is injected again; INT n
        and its kin are instructions, which are completed so that they retire once."""
        if exit.idt_vectoring_info >> 8 & 7 in SOFTWARE:
            self.complete(exit)
        else:
            self.events.redeliver(exit)

    def complete(self, exit: Exit) -> None:
        """Run the instruction (or the event delivery) that exited, as the bare machine would."""
        self.vcpu.load_from_vmcs()
        if exit.idt_vectoring_info & exits.VALID:
            self._complete_delivery(exit)
        else:
            self.vm.complete_instruction()
        self.after_completion()

    def _complete_delivery(self, exit: Exit) -> None:
        if self.probes is None:
            self.events.complete_delivery(exit)
        else:
            self.probes.delivering(lambda: self.events.complete_delivery(exit))

    def after_completion(self) -> None:
        """Put the completing CPU's state back for the guest to go on with."""
        state, words = self.vm.soft.state, self.vm.soft.words
        activity = words[_ACTIVITY]
        words[_ACTIVITY] = 0
        if activity == 2:
            rip = state.read("rip")
            state.rflags &= ~RFLAGS_RF  # see handle_triple_fault
            self._ending = Ending("triple_fault", message=f"triple fault at rip {rip:#x}")
        self.halted = activity == 1 and not words[_PENDING]  # a trap ends HLT
        if self._layout != self.vm.platform.bus.layout_version:
            self._layout = self.vm.platform.bus.layout_version
            self.forget_translations()
        self.vcpu.store_to_vmcs(self.control_registers())

    def read_guest_state(self) -> None:
        """Bring the completing CPU's registers up to date with the guest's."""
        if self._launched:
            self.vcpu.load_from_vmcs()
            self.vm.soft.state.write("activity", self._activity())

    def _activity(self) -> int:
        """GUEST_ACTIVITY_STATE as the vCPU has it: active, HLT or shutdown."""
        if self._ending is not None and self._ending.how == "triple_fault":
            return 2
        return 1 if self.halted else 0

    # --- handlers ----------------------------------------------------------------------------
    def handle_unknown(self, exit: Exit) -> Action:
        """An exit that no handler is named after."""
        return Stop(f"no handler for VM exit {exit.name} ({exit.reason}) at rip {exit.rip:#x}")

    def _complete(self, exit: Exit) -> Action:
        return Complete()

    def _resume(self, exit: Exit) -> Action:
        return Resume()

    handle_cpuid = handle_hlt = handle_io_instruction = handle_rdmsr = handle_wrmsr = _complete
    handle_cr_access = handle_dr_access = handle_invlpg = handle_invpcid = _complete
    handle_rdtsc = handle_rdtscp = handle_rdpmc = handle_wbinvd = handle_invd = _complete
    handle_xsetbv = handle_rdrand = handle_rdseed = handle_pause = _complete
    handle_monitor = handle_mwait = handle_getsec = handle_rsm = _complete
    handle_gdtr_idtr_access = handle_ldtr_tr_access = handle_task_switch = _complete
    # VMX is hidden: these raise #UD in the guest.
    handle_vmcall = handle_vmclear = handle_vmlaunch = handle_vmptrld = handle_vmptrst = _complete
    handle_vmread = handle_vmresume = handle_vmwrite = handle_vmxoff = handle_vmxon = _complete
    handle_invept = handle_invvpid = handle_vmfunc = _complete
    # The physical machine's events are not the VM's; its own are looked at before each entry.
    handle_external_interrupt = handle_interrupt_window = handle_nmi_window = _resume
    handle_preemption_timer = handle_monitor_trap_flag = _resume

    def handle_triple_fault(self, exit: Exit) -> Action:
        """The guest could not even deliver a double fault. A fault that was injected on the way
        left RF as it would have been pushed; it never got that far."""
        self.port.vmwrite("GUEST_RFLAGS", self.port.vmread("GUEST_RFLAGS") & ~RFLAGS_RF)
        self._ending = Ending("triple_fault", message=f"triple fault at rip {exit.rip:#x}")
        return Resume("end the VM")


def passed_through() -> tuple[int, ...]:
    """MSRs whose guest values live in the CPU or the VMCS: no exit on access."""
    sysenter = (MSRS.IA32_SYSENTER_CS, MSRS.IA32_SYSENTER_ESP, MSRS.IA32_SYSENTER_EIP)
    syscall = (MSRS.IA32_STAR, MSRS.IA32_LSTAR, MSRS.IA32_CSTAR, MSRS.IA32_FMASK)
    bases = (MSRS.IA32_FS_BASE, MSRS.IA32_GS_BASE, MSRS.IA32_KERNEL_GS_BASE)
    return (*sysenter, *syscall, *bases, MSRS.IA32_TSC_AUX)


__all__ = ["Vmm", "VmxError", "passed_through"]
