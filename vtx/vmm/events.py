"""Events on their way into the guest: injection at VM entry, windows, and redelivery.

It decides what the next VM entry injects from what the VM's platform has pending, what a
handler asked for, and what an exit interrupted (SDM 3C, Event Injection; Information for VM
Exits During Event Delivery). It does not know what any handler does.
"""

from vtx.isa.layout import SLOTS
from vtx.spec.registers import RFLAGS
from vtx.vmm import exits
from vtx.vmm.exits import Exit, Inject
from vtx.vmm.observe import Observer
from vtx.vmm.port import Port
from vtx.vmm.vm import VirtualMachine

RFLAGS_IF, RFLAGS_RF = RFLAGS.IF, RFLAGS.RF
DEBUG, DOUBLE_FAULT, RFLAGS_TF = 1, 8, RFLAGS.TF
DR6_BD, DR6_BREAKPOINTS = 1 << 13, 0xF
STI_OR_MOV_SS, NMI_BLOCKED = 3, 8
EXTERNAL, NMI, HARDWARE_EXCEPTION = 0, 2, 3
SOFTWARE_INTERRUPT, PRIVILEGED_EXCEPTION, SOFTWARE_EXCEPTION = 4, 5, 6
_INTERRUPT_WINDOW, _NMI_WINDOW = 1 << 2, 1 << 22
SOFTWARE = (SOFTWARE_INTERRUPT, PRIVILEGED_EXCEPTION, SOFTWARE_EXCEPTION)
"""Types of the events that instructions ask for."""


class EventEntry:
    """What the next VM entry delivers."""

    def __init__(self, port: Port, vm: VirtualMachine) -> None:
        self._port, self._vm = port, vm
        self._queued = False
        self._windows = 0
        self._resume_flag = 0
        """RFLAGS.RF as the guest had it when an interrupt or NMI was injected."""

    # --- what the guest would take ---------------------------------------------------------------
    def interrupts_enabled(self) -> bool:
        """RFLAGS.IF of the guest."""
        return bool(self._port.vmread("GUEST_RFLAGS") & RFLAGS_IF)

    def _open(self) -> bool:
        """Nothing holds a maskable interrupt back at this instruction boundary."""
        if not self.interrupts_enabled() or self._port.vmread("GUEST_PENDING_DBG_EXCEPTIONS"):
            return False
        return not self._port.vmread("GUEST_INTERRUPTIBILITY_STATE") & STI_OR_MOV_SS

    def deliverable(self) -> bool:
        """Something pending would wake or interrupt the guest now."""
        platform = self._vm.platform
        return platform.nmi_pending() or (platform.interrupt_pending() and self._open())

    # --- before an entry -----------------------------------------------------------------------
    def prepare(self, observer: Observer | None) -> None:
        """Inject a pending event if the guest can take it now, or ask to exit when it can."""
        platform, windows = self._vm.platform, 0
        if platform.nmi_pending():
            blocked = self._port.vmread("GUEST_INTERRUPTIBILITY_STATE") & (NMI_BLOCKED | 3)
            if self._queued or blocked:
                windows |= _NMI_WINDOW
            else:
                platform.take_nmi()
                self._interrupt(2, NMI)
        if platform.interrupt_pending():
            if not self._queued and self._open():
                vector = platform.acknowledge_interrupt()
                self._interrupt(vector, EXTERNAL)
                if observer is not None:
                    observer.interrupt(vector)
            if self._queued or platform.interrupt_pending():
                windows |= _INTERRUPT_WINDOW if platform.interrupt_pending() else 0
        self._ask(windows)
        self._queued = False

    def _ask(self, windows: int) -> None:
        if windows != self._windows:
            known = self._port.vmread("PROCBASED_CONTROLS") & ~(_INTERRUPT_WINDOW | _NMI_WINDOW)
            self._port.vmwrite("PROCBASED_CONTROLS", known | windows)
            self._windows = windows

    def _queue(self, vector: int, type_: int, error: int | None = None, length: int = 0) -> None:
        info = exits.VALID | type_ << 8 | vector
        if error is not None:
            info |= exits.ERROR_VALID
            self._port.vmwrite("VMENTRY_EXCEPTION_ERROR_CODE", error)
        if type_ in SOFTWARE:
            self._port.vmwrite("VMENTRY_INSTRUCTION_LENGTH", length)
        self._port.vmwrite("VMENTRY_INTERRUPTION_INFO", info)
        self._queued = True

    def _interrupt(self, vector: int, type_: int) -> None:
        self._resume_flag = self._port.vmread("GUEST_RFLAGS") & RFLAGS_RF
        self._queue(vector, type_)

    def inject(self, event: Inject) -> None:
        """Deliver what a handler asked for at the next entry."""
        if event.cr2 is not None:
            self._port.set_register("cr2", event.cr2)
        self._queue(event.vector, event.type, event.error_code)

    def redeliver(self, exit: Exit) -> None:
        """The exit came while an event was being delivered: deliver it again."""
        info = exit.idt_vectoring_info
        error = exit.idt_vectoring_error if info & exits.ERROR_VALID else None
        type_ = info >> 8 & 7
        if type_ == NMI:  # it did not get in, so it blocks nothing yet
            blocking = self._port.vmread("GUEST_INTERRUPTIBILITY_STATE")
            self._port.vmwrite("GUEST_INTERRUPTIBILITY_STATE", blocking & ~NMI_BLOCKED)
        rflags = self._port.vmread("GUEST_RFLAGS")
        self._port.vmwrite("GUEST_RFLAGS", rflags & ~RFLAGS_RF | self._pushed_resume_flag(info))
        self._queue(info & 0xFF, type_, error, exit.instruction_length)

    def _pushed_resume_flag(self, info: int) -> int:
        """RF as the interrupted event pushes it. What the exit saved is that of the fault that
        the exit was for (SDM 3C, Saving RIP, RSP, RFLAGS, and SSP)."""
        type_ = info >> 8 & 7
        if type_ in (EXTERNAL, NMI):
            return self._resume_flag
        is_fault = type_ == HARDWARE_EXCEPTION and info & 0xFF != DOUBLE_FAULT
        if info & 0xFF == DEBUG:  # of these only general detect is a fault that pushes RF
            is_fault = is_fault and self._general_detect()
        return RFLAGS_RF if is_fault else 0

    def _general_detect(self) -> bool:
        """The debug exception being delivered is DR7.GD's. DR6.BD alone does not say so: it
        stays set until the guest clears it, while later traps are delivered."""
        dr6, rflags = self._port.register("dr6"), self._port.vmread("GUEST_RFLAGS")
        return bool(dr6 & DR6_BD) and not dr6 & DR6_BREAKPOINTS and not rflags & RFLAGS_TF

    def end_shadow(self) -> None:
        """An instruction was completed: blocking by STI and MOV SS is over."""
        blocking = self._port.vmread("GUEST_INTERRUPTIBILITY_STATE")
        if blocking & STI_OR_MOV_SS:
            self._port.vmwrite("GUEST_INTERRUPTIBILITY_STATE", blocking & ~STI_OR_MOV_SS)

    # --- in the completing CPU -------------------------------------------------------------------
    def _place(self, exit: Exit) -> None:
        """Tell the completing CPU which event was being delivered when the exit came."""
        info, words = exit.idt_vectoring_info, self._vm.soft.words
        words[SLOTS["event_valid"]] = words[SLOTS["event_debug"]] = 0
        words[SLOTS["event_vector"]] = info & 0xFF
        words[SLOTS["event_type"]] = info >> 8 & 7
        words[SLOTS["event_has_error"]] = int(bool(info & exits.ERROR_VALID))
        words[SLOTS["event_error"]] = exit.idt_vectoring_error
        words[SLOTS["event_length"]] = exit.instruction_length

    def complete_delivery(self, exit: Exit) -> None:
        """Deliver the interrupted event in the completing CPU (its stack or table is a device)."""
        soft = self._vm.soft
        soft.tlb.flush()
        soft.switch_context()
        self._vm.engine.settle(0)
        self._place(exit)
        resume = self._pushed_resume_flag(exit.idt_vectoring_info)
        soft.state.rflags = soft.state.rflags & ~RFLAGS_RF | resume
        if exit.idt_vectoring_info >> 8 & 7 in SOFTWARE:
            self._vm.engine.deliver("deliver_software_event")
        else:
            self._vm.engine.deliver("deliver_with", int(bool(resume)))
