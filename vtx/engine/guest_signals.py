"""INIT and start-up IPIs that arrive in VMX non-root operation: VM exits, or nothing.

Who sends them and what they do to a CPU outside VMX non-root operation is not known here.
Source: SDM 3C, Other Causes of VM Exits.
"""

from typing import Protocol

from vtx.engine.reference import Reference
from vtx.isa.layout import SLOTS
from vtx.machine.reset import WAIT_FOR_SIPI
from vtx.spec import EXITS

_ACTIVITY = SLOTS["activity"]


class WaitingSignals(Protocol):
    """What waits for one CPU."""

    init: bool

    def take_startup(self) -> int | None:
        """The vector of the start-up IPI that waits, if one does; it waits no longer."""


def take_in_guest(engine: Reference, signals: WaitingSignals) -> bool:
    """Exit for what waits for the CPU, which is in VMX non-root operation; whether it did.

    A guest that waits for a start-up IPI holds back INIT; another one discards a start-up IPI.
    """
    waits = engine.cpu.words[_ACTIVITY] == WAIT_FOR_SIPI
    if signals.init and not waits:
        signals.init = False
        engine.deliver("exit_between_instructions", EXITS.INIT_SIGNAL)
        return True
    vector = signals.take_startup()
    if vector is None or not waits:
        return False
    engine.deliver("exit_for_startup", vector)
    return True
