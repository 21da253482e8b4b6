"""Two devices that virtual machines offer and PCs do not: debugcon and isa-debug-exit.

Both must stay as small as their users expect: one byte out, or one number and the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from vtx.spec.places import port_range

DEBUGCON_PORT: Final = port_range("debugcon").first
DEBUG_EXIT_PORT: Final = port_range("debug_exit").first
DEBUG_EXIT_SIZE: Final = 4
DEBUGCON_ANSWER: Final = 0xE9


class DebugConsole:
    """A byte written to port 0xE9 goes to `sink`; reading gives 0xE9, the sign that it is there
    (Bochs' and QEMU's convention)."""

    def __init__(self, sink: Callable[[bytes], None]) -> None:
        self.sink = sink

    def port_in(self, port: int, width_bits: int) -> int:
        return DEBUGCON_ANSWER

    def port_out(self, port: int, width_bits: int, value: int) -> None:
        self.sink(bytes([value & 0xFF]))


class DebugExit:
    """A number written to ports 0xF4-0xF7 ends the run: `stop` gets it unchanged (up to 32 bits).
    Reads give zero, as QEMU's isa-debug-exit does."""

    def __init__(self, stop: Callable[[int], None]) -> None:
        self.stop = stop

    def port_in(self, port: int, width_bits: int) -> int:
        return 0

    def port_out(self, port: int, width_bits: int, value: int) -> None:
        self.stop(value)
