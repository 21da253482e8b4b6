"""Routines of the algebra run by Python as native functions: deliveries, VM exits, VM entries.

Arguments and results travel in the context. It does not know what a routine is for.
"""

import ctypes
from collections.abc import Callable

from vtx.engine.native.context import CONTEXT, LEFT_BY_MEMORY
from vtx.engine.native.library import Library
from vtx.isa.layout import SLOTS
from vtx.isa.program import results_of
from vtx.machine.cpu import Cpu

_BUDGET, _UNTIL, _FAILED = CONTEXT["budget"], CONTEXT["until"], CONTEXT["failed"]
_ARGUMENTS, _RETIRED = CONTEXT["argument0"], SLOTS["retired"]
_CALM, _ATTENTION = CONTEXT["calm"], CONTEXT["attention"]
_KEY, _NATIVE_ROOT = CONTEXT["key"], CONTEXT["native_root"]
_Entry = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64)


class NativeRoutines:
    """The routines of one CPU. Whoever calls one has put the current translations in place."""

    def __init__(self, cpu: Cpu, library: Library, words: ctypes.Array[ctypes.c_uint64]) -> None:
        self._cpu, self._library, self._words = cpu, library, words
        self._state_hva = ctypes.addressof(words)
        self._entries: dict[str, tuple[Callable[[int], int], int]] = {}
        self._guest: Callable[[int], int] | None = None

    def call(self, name: str, args: tuple[int, ...]) -> tuple[int, ...] | None:
        """Results of a routine; None when it ended otherwise, as the CPU's status says.

        Raises CompileError.
        """
        function, count = self._entries.get(name) or self._find(name)
        words = self._words
        for place, value in enumerate(args, _ARGUMENTS):
            words[place] = value
        if not self._complete(function, self._state_hva):
            return None
        return tuple(words[_ARGUMENTS : _ARGUMENTS + count])

    def enter_guest(self, launch: int, most: int) -> int:
        """VM entry and the run to the VM exit, of at most so many instructions; see `guest_run`.

        No hardware event may be waiting. Raises CompileError.
        """
        function = self._guest
        if function is None:
            function = self._guest = _Entry(self._library.guest_run())
        words = self._words
        words[_ARGUMENTS], words[_BUDGET] = launch, most
        words[_CALM], words[_ATTENTION], words[_KEY], words[_NATIVE_ROOT] = 1, 0, 0, 0
        return function(self._state_hva)

    def _complete(self, function: Callable[..., int], *passed: int) -> bool:
        """Call native code; whether it ran to its end."""
        words = self._words
        outer = words[_UNTIL], words[_BUDGET]  # native code may be waiting for Python
        words[_UNTIL] = words[_RETIRED]
        words[_BUDGET] = 0
        status = function(*passed)
        words[_UNTIL], words[_BUDGET] = outer
        if status:
            self._cpu.status = words[_FAILED] if status == LEFT_BY_MEMORY else status
        return not status

    def _find(self, name: str) -> tuple[Callable[[int], int], int]:
        entry = _Entry(self._library.entry(name)), len(results_of(name))
        self._entries[name] = entry
        return entry
