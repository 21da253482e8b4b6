"""INIT and start-up IPIs on their way to one CPU: pins, not vectors.

They arrive whenever someone sends them and are taken between two instructions of the CPU. When
that may be is the business of whoever runs it; what a CPU is afterwards, that of `reset`.
Source: SDM 3A, Issuing Interprocessor Interrupts (delivery modes); Multiple-Processor (MP)
Initialization.
"""

from collections.abc import Callable
from typing import Literal

Kind = Literal["init", "startup"]


class Signals:
    """What waits for one CPU. `waiting` is whether there is anything to look at."""

    def __init__(self) -> None:
        self.waiting = False
        self.init = False
        self.startup: int | None = None
        """Vector of a start-up IPI that came behind the last INIT."""
        self.on_init: Callable[[], None] = lambda: None
        """The CPU takes INIT: its local APIC is initialized with it."""
        self.on_restart: Callable[[], None] = lambda: None
        """The bootstrap processor would start at the reset vector."""
        self.on_taken: Callable[[Kind, int], None] = lambda kind, vector: None
        """Observer of what the CPU takes; the vector of INIT is 0."""

    def raise_init(self) -> None:
        """INIT arrives. A start-up IPI that came before it has started nothing."""
        self.init, self.startup, self.waiting = True, None, True

    def raise_startup(self, vector: int) -> None:
        """A start-up IPI arrives. Of several the first one starts the CPU; the others would find
        it running."""
        if self.startup is None:
            self.startup, self.waiting = vector, True

    def take_init(self) -> None:
        """The CPU is being initialized."""
        self.init, self.waiting = False, self.startup is not None
        self.on_init()
        self.on_taken("init", 0)

    def take_startup(self) -> int | None:
        """The vector of the start-up IPI that waits, if one does; it waits no longer."""
        vector, self.startup = self.startup, None
        self.waiting = self.init
        return vector
