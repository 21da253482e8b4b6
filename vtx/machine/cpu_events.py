"""The platform as one of several CPUs sees it: what may interrupt it, and when.

It must not know what the CPU does with an interrupt, nor which CPU runs.
"""

from functools import partial

from vtx.machine.platform import Platform


class CpuEvents:
    """The events of CPU number `index`: an `InterruptSource` of its own."""

    def __init__(self, platform: Platform, index: int) -> None:
        self.interrupt_pending = partial(platform.interrupt_pending, index)
        self.acknowledge_interrupt = partial(platform.acknowledge_interrupt, index)
        self.nmi_pending = partial(platform.nmi_pending, index)
        self.take_nmi = partial(platform.take_nmi, index)
        self.next_event = partial(platform.next_event_of, index)
        self.advance = partial(platform.advance_of, index)
