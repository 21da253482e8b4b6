"""INIT and start-up IPIs as a CPU takes them between two instructions.

They come before traps, NMIs and interrupts (SDM 3A, Prioritization of Concurrent Events). What a
CPU is afterwards is written in `machine.reset`; who sent them is not known here.
"""

from vtx.engine.guest_signals import take_in_guest
from vtx.engine.reference import Reference
from vtx.isa.key import VMX_NON_ROOT, VMX_ROOT
from vtx.isa.layout import SLOTS
from vtx.machine.cpu import OK
from vtx.machine.reset import WAIT_FOR_SIPI, init_cpu, start_cpu

_ACTIVITY, _VMX, _STOP = SLOTS["activity"], SLOTS["vmx"], SLOTS["stop"]
_APIC_BASE, BOOTSTRAP = SLOTS["apic_base"], 1 << 8


def take_signal(engine: Reference) -> bool:
    """Take what waits for the CPU, if it can be taken; whether it was."""
    cpu = engine.cpu
    words, signals = cpu.words, cpu.signals
    if words[_VMX] == VMX_NON_ROOT:
        return take_in_guest(engine, signals)
    # In VMX root operation INIT is blocked: it waits (SDM 3C, Restrictions on VMX Operation).
    if signals.init and words[_VMX] != VMX_ROOT:
        return _initialize(engine)
    vector = signals.take_startup()
    if vector is None or words[_ACTIVITY] != WAIT_FOR_SIPI:
        return False  # who does not wait for a start-up IPI ignores it
    start_cpu(cpu, vector)
    signals.on_taken("startup", vector)
    engine.settle(OK)
    return True


def _initialize(engine: Reference) -> bool:
    """INIT: an application processor waits for a start-up IPI, the bootstrap processor starts
    anew (SDM 3A, MP Initialization Protocol Algorithm for MP Systems)."""
    cpu = engine.cpu
    if cpu.words[_APIC_BASE] & BOOTSTRAP:
        cpu.signals.init = cpu.signals.waiting = False
        cpu.signals.on_restart()
        cpu.words[_STOP] = 1
        return True
    cpu.signals.take_init()
    init_cpu(cpu)
    engine.settle(OK)
    return True
