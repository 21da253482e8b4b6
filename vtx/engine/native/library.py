"""The functions that native code of one arena calls: the runtime and routines of the algebra.

They are linked when first asked for. Who calls them is not known here.
"""

from collections.abc import Callable
from typing import Any

from vtx.engine.families import load_all
from vtx.engine.native import batch_code, block_code, page_code
from vtx.engine.native.arena import Arena, ArenaFullError
from vtx.engine.native.compiler import CompileError, host_compiler
from vtx.engine.native.dispatch import ROUTINES as DISPATCHED
from vtx.engine.native.dispatch import dispatch_text
from vtx.engine.native.guest_run import ROUTINES as GUEST_RUN
from vtx.engine.native.guest_run import guest_run_text
from vtx.engine.native.kept import kept
from vtx.engine.native.native_calls import context_text
from vtx.engine.native.objects import (
    Function,
    ObjectCode,
    ObjectError,
    Relocation,
    parse_object,
)
from vtx.engine.native.plans import symbol_numbers
from vtx.engine.native.relocate import RelocationError, link, unresolved
from vtx.engine.native.remembered import REMEMBERED, remembered_text
from vtx.engine.native.routines import RoutineBody, callees_text, entry_text
from vtx.engine.native.runtime import runtime_text
from vtx.engine.native.stencil import module_head
from vtx.engine.native.text import METADATA
from vtx.engine.native.walks import walks_text
from vtx.engine.native.words import module_text
from vtx.isa.program import is_declared, routine

_NOT_LINKED = 1 << 70
ROOM = 4 << 20
"""Bytes of the arena for routines, which stay when blocks are forgotten."""


class Library:
    """Functions of one arena. What is compiled is kept for every other one."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._next = arena.allocate(ROOM)
        self._end = self._next + ROOM
        self._kept = kept()
        self.symbols: dict[str, int] = {}
        """Linked functions: name -> host address."""
        self.addresses: list[int] = []
        """Symbol number -> host address less the arena's; what is not linked fits no field."""
        self._problems: dict[str, CompileError] = {}
        self._link("runtime", runtime_text)
        self._link("walks", _walks_text)
        self.routine("native_tag")
        self._link("context", context_text)
        self._link("pages", _pages_text)

    def number_symbols(self) -> None:
        """Make `addresses` know every symbol that is linked and has a number."""
        base = self._arena.base
        self.addresses = [
            self.symbols[symbol] - base if symbol in self.symbols else _NOT_LINKED
            for symbol in symbol_numbers
        ]

    # --- routines ----------------------------------------------------------------------------
    def routine(self, name: str) -> int:
        """Host address of a routine, linked with what it calls. Raises CompileError."""
        known = self.symbols.get(f"routine_{name}")
        if known is None:
            self._link(f"routine_{name}", lambda: _routine_text(name))
            known = self.symbols[f"routine_{name}"]
        return known

    def dispatcher(self) -> int:
        """Host address of `run`, the loop around blocks. Raises CompileError."""
        for name in DISPATCHED:
            self.routine(name)
        self._link("dispatch", lambda: "\n".join([dispatch_text(), METADATA]))
        return self.symbols["run"]

    def guest_run(self) -> int:
        """Host address of `enter_guest`; the dispatcher has been linked. Raises CompileError."""
        for name in GUEST_RUN:
            self.routine(name)
        self._link("guest_run", guest_run_text)
        return self.symbols["enter_guest"]

    def entry(self, name: str) -> int:
        """Host address of `call_<name>`, the routine for Python. Raises CompileError."""
        known = self.symbols.get(f"call_{name}")
        if known is None:
            self.routine(name)
            self._link(f"call_{name}", lambda: "\n".join([entry_text(name), METADATA]))
            known = self.symbols[f"call_{name}"]
        return known

    def _link(self, name: str, text: Callable[[], str]) -> None:
        """Place the module `name`, and first the routines that it calls. Raises CompileError."""
        problem = self._problems.get(name)
        if problem is not None:
            raise problem
        try:
            fields = self._kept.get("module", name.encode()) if _outlives(name) else None
            code = _module(fields or _compiled(name, text))
        except (CompileError, ObjectError) as error:
            problem = self._problems[name] = CompileError(f"{name}: {error}")
            raise problem from None
        for symbol in unresolved(code.relocations) - self.symbols.keys():
            if symbol.startswith("routine_") and symbol not in code.functions:
                self.routine(symbol.removeprefix("routine_"))
        try:
            self._place(code)
        except RelocationError as error:
            problem = self._problems[name] = CompileError(f"{name}: {error}")
            raise problem from None

    def _place(self, code: ObjectCode) -> None:
        alignment = max(16, code.alignment)
        offset = -(-self._next // alignment) * alignment
        if offset + len(code.code) > self._end:
            raise ArenaFullError(f"{len(code.code)} bytes of routines do not fit")
        self._next = offset + len(code.code)
        self._arena.view[offset : offset + len(code.code)] = code.code
        hva = self._arena.base + offset
        self.symbols.update(link(code, self._arena.view, offset, hva, self.symbols))
        self._arena.flush(offset, len(code.code))


def _walks_text() -> str:
    head = module_head(set(), set())
    own = ("@slow_load", "@slow_store", "@slow_probe", "@flush_tlb")
    kept = [line for line in head.splitlines() if not any(name in line for name in own)]
    return "\n".join([*kept, walks_text(), METADATA])


def _pages_text() -> str:
    functions = (*page_code.FUNCTIONS, *block_code.FUNCTIONS, *batch_code.FUNCTIONS)
    return module_text(functions, (page_code.translate_page, *batch_code.VISIBLE))


def is_kept() -> bool:
    """Whether an engine can start without compiling anything."""
    return all(kept().get("module", name) is not None for name in (b"runtime",))


def _compiled(name: str, text: Callable[[], str]) -> tuple[Any, ...]:
    """A module that is not kept yet. Raises CompileError and ObjectError."""
    load_all()
    fields = _module_fields(parse_object(host_compiler().compile(text())))
    if _outlives(name):
        kept().put("module", name.encode(), fields)
    return fields


def _outlives(name: str) -> bool:
    """The module is the same in every process with the same sources."""
    label = name.removeprefix("routine_").removeprefix("call_")
    return label == name or is_declared(label)


def _routine_text(name: str) -> str:
    text = remembered_text(name) if name in REMEMBERED else RoutineBody(name).text()
    return "\n".join([module_head(set(), set()), callees_text(routine(name).ops), text, METADATA])


def _module_fields(code: ObjectCode) -> tuple[Any, ...]:
    """A module as plain values."""
    functions = tuple((name, f.offset, f.size) for name, f in code.functions.items())
    relocations = tuple((r.offset, r.kind, r.symbol, r.addend) for r in code.relocations)
    return (code.machine, code.code, code.alignment, functions, relocations)


def _module(fields: tuple[Any, ...]) -> ObjectCode:
    """The inverse of `_module_fields`."""
    machine, code, alignment, functions, relocations = fields
    return ObjectCode(
        machine, code, alignment, {name: Function(at, size) for name, at, size in functions},
        tuple(Relocation(*one) for one in relocations),
    )  # fmt: skip
