"""What happens between two instructions, in the architecture's order of priority.

Monitor trap flag, debug traps, VMX-preemption timer, NMI and interrupt windows, NMIs and
maskable interrupts (SDM 3A, Prioritization of Concurrent Events; SDM 3C, VM-Exit Conditions
and Priority). It decides *that* something happens; the routines of the algebra do it.
"""

from typing import Protocol

from vtx.engine.reference import Reference
from vtx.engine.startup import take_signal
from vtx.isa.layout import SLOTS
from vtx.machine.cpu import Cpu
from vtx.spec import CONTROLS, EXITS
from vtx.spec.registers import RFLAGS

RFLAGS_TF, RFLAGS_IF, RFLAGS_RF = RFLAGS.TF, RFLAGS.IF, RFLAGS.RF
BLOCKING_STI, BLOCKING_MOV_SS, BLOCKING_NMI = 1, 2, 8
ACTIVE, HALTED, SHUTDOWN, WAIT_FOR_SIPI = range(4)
PENDING_BS = 1 << 14
_PENDING_TRAPS = 1 << 12 | PENDING_BS | 1 << 16
"""Enabled breakpoint, single step, RTM: without one of them B0 to B3 wait for nothing."""

_PIN_EXTERNAL, _PIN_NMI = CONTROLS.EXTERNAL_INTERRUPT_EXITING.mask, CONTROLS.NMI_EXITING.mask
_PIN_VIRTUAL_NMIS, _PIN_TIMER = CONTROLS.VIRTUAL_NMIS.mask, CONTROLS.PREEMPTION_TIMER.mask
_PROC_INTERRUPT_WINDOW = CONTROLS.INTERRUPT_WINDOW_EXITING.mask
_PROC_NMI_WINDOW, _PROC_MTF = CONTROLS.NMI_WINDOW_EXITING.mask, CONTROLS.MONITOR_TRAP_FLAG.mask
_EXIT_NMI_WINDOW, _EXIT_INTERRUPT_WINDOW, _EXIT_TIMER, _EXIT_MTF = (
    EXITS.NMI_WINDOW,
    EXITS.INTERRUPT_WINDOW,
    EXITS.PREEMPTION_TIMER,
    EXITS.MONITOR_TRAP_FLAG,
)
_EXIT_TPR_BELOW_THRESHOLD = EXITS.TPR_BELOW_THRESHOLD

_S = SLOTS
_RFLAGS, _ACTIVITY, _PENDING = _S["rflags"], _S["activity"], _S["pending_debug"]
_BLOCKING, _BLOCKING_NEXT = _S["interruptibility"], _S["interruptibility_next"]
_VMX, _PIN, _PROC = _S["vmx"], _S["pin_controls"], _S["proc_controls"]
_RETIRED, _TPR_BELOW = _S["retired"], _S["tpr_below_threshold"]
_EVENT, _RESUME, _RIP = _S["event_valid"], _S["resume_flag"], _S["rip"]
_TIMER, _MTF, _IDLE, _DR7 = _S["preemption_deadline"], _S["mtf_pending"], _S["idle"], _S["dr7"]


class InterruptSource(Protocol):
    """Where hardware events come from; the platform, or None for a CPU alone."""

    def interrupt_pending(self) -> bool: ...

    def acknowledge_interrupt(self) -> int: ...

    def nmi_pending(self) -> bool: ...

    def take_nmi(self) -> None: ...

    def next_event(self) -> int | None: ...

    def advance(self, now: int) -> None: ...


class Boundary:
    """Events between the instructions of one CPU."""

    def __init__(self, engine: Reference, source: InterruptSource | None) -> None:
        self.engine = engine
        self.cpu: Cpu = engine.cpu
        self.source = source

    # --- time --------------------------------------------------------------------------------
    def deadline(self, limit: int) -> int:
        """Virtual time of the next event, at most `limit`."""
        words = self.cpu.words
        if self.source is not None:
            due = self.source.next_event()
            if due is not None:
                limit = min(limit, due)
        timed = words[_VMX] == 2 and words[_PIN] & _PIN_TIMER
        if timed and words[_ACTIVITY] != WAIT_FOR_SIPI:
            limit = min(limit, words[_TIMER])
        return limit

    def skip_idle(self, until: int) -> None:
        """Let time pass while nothing executes."""
        self.cpu.words[_IDLE] += max(0, until - self.cpu.now())

    @property
    def slow(self) -> bool:
        """Instructions must be run one at a time: something follows each of them."""
        words = self.cpu.words
        return bool(
            words[_BLOCKING] & 3
            or words[_BLOCKING_NEXT]
            or words[_RFLAGS] & (RFLAGS_TF | RFLAGS_RF)
            or words[_PENDING] & _PENDING_TRAPS
            or words[_DR7] & 0xFF
            or (words[_VMX] == 2 and words[_PROC] & _PROC_MTF)
        )

    def step(self) -> None:
        """One instruction, with everything that is checked around a single one."""
        words = self.cpu.words
        trap = words[_RFLAGS] & RFLAGS_TF
        resume = words[_RFLAGS] & RFLAGS_RF
        monitored = words[_VMX] == 2 and words[_PROC] & _PROC_MTF
        before, rip = words[_RETIRED], words[_RIP]
        # Behind MOV SS and POP SS breakpoints are suppressed as by RF.
        suppressed = resume or words[_BLOCKING] & BLOCKING_MOV_SS
        if not suppressed and words[_DR7] & 0xFF and self._instruction_breakpoint():
            return
        # RF holds for one instruction; what an IRET loads is for the one behind it.
        words[_RFLAGS] &= ~RFLAGS_RF
        words[_RESUME] = int(bool(resume))
        words[_BLOCKING_NEXT] = 0
        self.engine.raised = False
        self.cpu.watch_data()
        self.engine.run_block(1)
        self.cpu.end_watch()
        words[_RESUME] = 0
        if words[_RETIRED] != before:
            words[_BLOCKING] = (words[_BLOCKING] & ~3) | words[_BLOCKING_NEXT]
            # INT n and its kin clear TF without a trap (SDM 3B, Single-Step Exception Condition).
            if trap and not self.engine.raised:
                words[_PENDING] |= PENDING_BS
            if words[_RIP] == rip and self.engine.repeats:
                self._between_iterations()
        words[_BLOCKING_NEXT] = 0
        if monitored and words[_VMX] == 2:
            words[_MTF] = 1

    def _between_iterations(self) -> None:
        """A breakpoint on a repeated instruction is met once, not by each iteration. A trap that
        comes first pushes RF clear: a VMM that delivers it again could not know better."""
        words = self.cpu.words
        if words[_DR7] & 0xFF and not words[_PENDING] & _PENDING_TRAPS:
            words[_RFLAGS] |= RFLAGS_RF

    def _instruction_breakpoint(self) -> bool:
        """Deliver #DB where DR7 enables a breakpoint on this instruction."""
        words = self.cpu.words
        gva = words[_S["rip"]]
        if self.engine.key.bits != 64:
            gva = (gva + words[_S["cs_base"]]) & 0xFFFF_FFFF
        dr7, hit = words[_DR7], 0
        for n in range(4):
            enabled = dr7 >> (2 * n) & 3
            executes = (dr7 >> (16 + 4 * n)) & 0xF == 0
            if enabled and executes and words[_S[f"dr{n}"]] == gva:
                hit |= 1 << n
        if hit:
            self._deliver("deliver_debug_fault", hit)
        return bool(hit)

    # --- events ------------------------------------------------------------------------------
    def settle(self) -> bool:
        """Deliver the most urgent event that is due; False when there is none."""
        words = self.cpu.words
        in_guest = words[_VMX] == 2
        if words[_ACTIVITY] == SHUTDOWN and not in_guest:
            return False
        if self.source is not None:
            self.source.advance(self.cpu.now())
        if words[_EVENT]:  # injected by the VM entry that has just completed
            self._deliver("deliver_event")
            return True
        if self.cpu.signals.waiting and take_signal(self.engine):
            return True
        if words[_ACTIVITY] == WAIT_FOR_SIPI and not in_guest:
            return False
        if in_guest and words[_ACTIVITY] > HALTED:
            return self._inactive_guest()
        if in_guest and words[_MTF]:
            words[_MTF] = 0
            return self._exit(_EXIT_MTF)
        if words[_PENDING] & _PENDING_TRAPS and not words[_BLOCKING] & BLOCKING_MOV_SS:
            self._deliver("deliver_debug_trap")
            return True
        if in_guest and self._vmx_event():
            return True
        return self._nmi() or self._interrupt_window() or self._interrupt()

    def _deliver(self, routine: str, *args: int) -> None:
        """Deliver an event. Under the monitor trap flag a VM exit waits behind the delivery,
        before the handler's first instruction (SDM 3C, Monitor Trap Flag)."""
        words = self.cpu.words
        self.engine.deliver(routine, *args)
        if words[_VMX] == 2 and words[_PROC] & _PROC_MTF:
            words[_MTF] = 1

    def _exit(self, reason: int) -> bool:
        self.engine.deliver("exit_between_instructions", reason)
        return True

    def _vmx_event(self) -> bool:
        words = self.cpu.words
        if words[_TPR_BELOW]:
            words[_TPR_BELOW] = 0
            return self._exit(_EXIT_TPR_BELOW_THRESHOLD)
        if words[_PIN] & _PIN_TIMER and self.cpu.now() >= words[_TIMER]:
            return self._exit(_EXIT_TIMER)
        blocked = words[_BLOCKING] & (BLOCKING_NMI | BLOCKING_MOV_SS | BLOCKING_STI)
        if words[_PROC] & _PROC_NMI_WINDOW and words[_PIN] & _PIN_VIRTUAL_NMIS and not blocked:
            return self._exit(_EXIT_NMI_WINDOW)
        return False

    def _inactive_guest(self) -> bool:
        """A guest that VM entry has put into the shutdown or wait-for-SIPI state.

        In both external interrupts wait; in wait-for-SIPI NMIs do too, and the preemption timer
        does not exit (SDM 3C, Other Causes of VM Exits; Activity State).
        """
        if self.cpu.words[_ACTIVITY] == WAIT_FOR_SIPI:
            return False
        return self._vmx_event() or self._nmi()

    def _nmi(self) -> bool:
        words = self.cpu.words
        if self.source is None or not self.source.nmi_pending():
            return False
        exits = words[_VMX] == 2 and words[_PIN] & _PIN_NMI
        if words[_BLOCKING] & (BLOCKING_NMI | BLOCKING_MOV_SS) and not exits:
            return False
        self.source.take_nmi()
        if not exits:  # a VM exit saves the state in which the NMI found the guest
            words[_ACTIVITY] = ACTIVE
        self._deliver("deliver_nmi")
        return True

    def _interrupt_window(self) -> bool:
        words = self.cpu.words
        if words[_VMX] != 2 or not words[_PROC] & _PROC_INTERRUPT_WINDOW:
            return False
        if not words[_RFLAGS] & RFLAGS_IF or words[_BLOCKING] & 3:
            return False
        return self._exit(_EXIT_INTERRUPT_WINDOW)

    def _interrupt(self) -> bool:
        words = self.cpu.words
        if self.source is None or not self.source.interrupt_pending():
            return False
        if words[_VMX] == 2 and words[_PIN] & _PIN_EXTERNAL:
            if words[_BLOCKING] & 3:
                return False
            self.engine.deliver("exit_for_interrupt", *self._acknowledged_on_exit())
            return True
        if not words[_RFLAGS] & RFLAGS_IF or words[_BLOCKING] & 3:
            return False
        words[_ACTIVITY] = ACTIVE
        self._deliver("deliver_interrupt", self.source.acknowledge_interrupt())
        return True

    def _acknowledged_on_exit(self) -> tuple[int, int]:
        """Vector of the interrupt (0 unless acknowledged), and whether it is valid."""
        assert self.source is not None
        if self.cpu.words[_S["exit_controls"]] & (1 << 15):
            return self.source.acknowledge_interrupt(), 1
        return 0, 0

    @property
    def asleep(self) -> bool:
        """Nothing executes until an event comes."""
        return self.cpu.words[_ACTIVITY] != ACTIVE
