"""Interrupt lines: wires with a level.

A wire carries a level from one device to whatever listens; it must not know either end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class InterruptLine(Protocol):
    """What a device drives: high means it asks for an interrupt."""

    def set(self, level: bool) -> None: ...


class Wire:
    """A line that tells its listeners each change of level."""

    def __init__(self, *listeners: Callable[[bool], None]) -> None:
        self.level = False
        self.listeners = list(listeners)

    def set(self, level: bool) -> None:
        if level == self.level:
            return
        self.level = level
        for listener in self.listeners:
            listener(level)


class SharedLine:
    """One input of several that are OR-ed onto a common wire."""

    def __init__(self, wire: Wire, inputs: list[SharedLine]) -> None:
        self.level = False
        self._wire = wire
        self._inputs = inputs
        inputs.append(self)

    def set(self, level: bool) -> None:
        self.level = level
        self._wire.set(any(line.level for line in self._inputs))
