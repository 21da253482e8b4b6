"""The stencils of this process: compiled when a form is first met, kept by form.

It brings together the text of forms, the compiler and the linked runtime; who copies stencils
where is `blocks`' business.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from vtx.engine.native.arena import Arena, ArenaFullError
from vtx.engine.native.compiler import CompileError, host_compiler
from vtx.engine.native.forms import Form
from vtx.engine.native.kept import kept, name_of
from vtx.engine.native.lower import METADATA, called
from vtx.engine.native.objects import (
    Function,
    ObjectCode,
    Relocation,
    Stencil,
    extract,
    parse_object,
)
from vtx.engine.native.relocate import HOST, link, prepare, unresolved, without_final_jump
from vtx.engine.native.routines import RoutineBody, declaration, entry_text
from vtx.engine.native.runtime import runtime_text
from vtx.engine.native.stencil import (
    EXIT_TEXT,
    HEAD_TEXT,
    PARAMETERS,
    StencilBody,
    hole_symbol,
    module_head,
    through_cache_text,
)
from vtx.isa.program import routine

Patches = tuple[tuple[int, int, str, int], ...]


@dataclass(frozen=True, slots=True)
class Ready:
    """A compiled stencil, sorted for copying."""

    code: bytes
    absolute: Patches
    relative: Patches
    """Offset, packer, symbol, addend less the offset."""
    falls_through: str
    """The continuation that has to lie right behind the code; "" where there is none."""
    continuations: tuple[tuple[str, int], ...]
    flags_out: int | None
    """Kind of flags it leaves; None for the kind it is entered with."""


_ROOM = 4 << 20
"""Bytes of the arena for routines, which stay when blocks are forgotten."""
_COMMON_HOLES = {("BACK_slot", "slot"), ("COUNT_slot", "slot"), ("LINK_s", "s"), ("H0_q", "q")}


class Library:
    """Stencils and routines of one arena. What is compiled is kept for every other one."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._next = arena.allocate(_ROOM)
        self._end = self._next + _ROOM
        self._kept = kept()
        self.symbols: dict[str, int] = {}
        """Linked functions: name -> host address."""
        self._stencils: dict[tuple[Form, int | None], Ready] = {}
        self._link("runtime", runtime_text)
        self.head, self.unlinked, self.through = self._common()

    def _common(self) -> list[Ready]:
        names = ("head", "unlinked", "through")
        known = [self._kept.get("stencil", name.encode()) for name in names]
        if None not in known:
            return [Ready(*fields) for fields in known]
        texts = [HEAD_TEXT, EXIT_TEXT, through_cache_text("through")]
        compiled = _compile(texts, names, _COMMON_HOLES, {"NEXT"})
        ready = [ready_of(compiled[name], (), None) for name in names]
        for name, one in zip(names, ready, strict=True):
            self._kept.put("stencil", name.encode(), _fields(one))
        return ready

    def stencil(self, form: Form, known: int | None) -> Ready:
        """The stencil of a form entered with flags of the kind `known`. Raises CompileError."""
        if not form.reads_flags and not form.eager:
            known = None
        ready = self._stencils.get((form, known))
        if ready is None:
            for name in called(form.ops):
                self.routine(name)
            ready = self._stencils[(form, known)] = self._find(form, known)
        return ready

    def _find(self, form: Form, known: int | None) -> Ready:
        name = name_of(form, known)
        fields = self._kept.get("stencil", name)
        if fields is not None:
            return Ready(*fields)
        ready = compile_form(form, known)
        self._kept.put("stencil", name, _fields(ready))
        return ready

    # --- routines ----------------------------------------------------------------------------
    def routine(self, name: str) -> int:
        """Host address of a routine, linked with what it calls. Raises CompileError."""
        known = self.symbols.get(f"routine_{name}")
        if known is None:
            self._link(f"routine_{name}", lambda: _routine_text(name))
            known = self.symbols[f"routine_{name}"]
        return known

    def entry(self, name: str) -> int:
        """Host address of `call_<name>`, the routine for Python. Raises CompileError."""
        known = self.symbols.get(f"call_{name}")
        if known is None:
            self.routine(name)
            self._link(f"call_{name}", lambda: "\n".join([entry_text(name), METADATA]))
            known = self.symbols[f"call_{name}"]
        return known

    def _link(self, name: str, text: Callable[[], str]) -> None:
        """Place the module `name`, and first the routines that it calls."""
        fields = self._kept.get("module", name.encode())
        if fields is None:
            fields = _module_fields(parse_object(host_compiler().compile(text())))
            self._kept.put("module", name.encode(), fields)
        code = _module(fields)
        for symbol in unresolved(code.relocations) - self.symbols.keys():
            if symbol.startswith("routine_") and symbol not in code.functions:
                self.routine(symbol.removeprefix("routine_"))
        self._place(code)

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


def _routine_text(name: str) -> str:
    declarations = (declaration(callee) for callee in called(routine(name).ops))
    return "\n".join([module_head(set(), set()), *declarations, RoutineBody(name).text(), METADATA])


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


def _fields(ready: Ready) -> tuple[Any, ...]:
    return tuple(getattr(ready, name) for name in Ready.__slots__)


def compile_form(form: Form, known: int | None) -> Ready:
    """Compile the stencil of a form. Raises CompileError."""
    body = StencilBody(form, known)
    text = body.text("stencil")
    holes = {(hole_symbol(n, kind), kind) for n, kind in enumerate(form.holes)}
    symbols = {symbol for symbol, _ in body.continuations}
    routines = "".join(declaration(name) for name in called(form.ops))
    holes |= {("BACK_slot", "slot")}
    compiled = _compile([routines, text], ["stencil"], holes, symbols)
    flags_out = body.flags_out if form.eager or form.reads_flags or body.writes_flags else None
    return ready_of(compiled["stencil"], tuple(body.continuations), flags_out)


def _compile(
    texts: Sequence[str],
    names: Sequence[str],
    holes: set[tuple[str, str]],
    continuations: set[str],
) -> dict[str, Stencil]:
    numbers = {name for name, _ in holes}
    for far in (False, True):
        text = "\n".join([module_head(holes, continuations, far=far), *texts, METADATA])
        code = parse_object(host_compiler().compile(text))
        found = {name: extract(code, name) for name in names}
        if not any(_refers_by_distance(stencil, numbers) for stencil in found.values()):
            return found
    raise CompileError("LLVM reaches a number by its distance from the code")


def _refers_by_distance(stencil: Stencil, numbers: set[str]) -> bool:
    """A number is an address for LLVM, which it may prefer to reach relative to the code."""
    return any(r.symbol in numbers for r in stencil.relocations) and any(
        symbol in numbers for _, _, symbol, _ in prepare(stencil).relative
    )


def ready_of(
    stencil: Stencil, continuations: tuple[tuple[str, int], ...], flags_out: int | None
) -> Ready:
    """Sort a stencil's relocations, and drop the jump to what will lie behind it."""
    shorter = without_final_jump(stencil)
    falls = ""
    if shorter is not None and shorter[1] == "NEXT":
        stencil, falls = shorter
    prepared = prepare(stencil)
    assert not prepared.paged or HOST != 62
    return Ready(
        prepared.code, prepared.absolute, prepared.relative, falls, continuations, flags_out
    )


assert PARAMETERS
