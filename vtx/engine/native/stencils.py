"""The stencils of this process: compiled when a form is first met, kept for ever.

It brings together the text of forms and the compiler. Who copies stencils where is `blocks`'
business, and where the functions lie that they call, `library`'s.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

from vtx.engine.native.compiler import FEW_PASSES, CompileError, host_compiler
from vtx.engine.native.far_numbers import with_far_numbers
from vtx.engine.native.joints import EXIT_TEXT, HEAD_TEXT, through_cache_text
from vtx.engine.native.kept import kept
from vtx.engine.native.lower import called
from vtx.engine.native.objects import ObjectError, Stencil, extract, parse_object
from vtx.engine.native.plans import Plan, Ready
from vtx.engine.native.relocate import RelocationError, prepare, without_final_jump
from vtx.engine.native.routines import declaration
from vtx.engine.native.stencil import (
    StencilBody,
    hole_symbol,
    module_head,
)
from vtx.engine.native.templates import Filling
from vtx.engine.native.text import METADATA

COUNT, PLACE = 0, 1
LINK = 0
"""Indexes of the values that the common stencils take."""
_COMMON_VALUES = {
    "COUNT_slot": (None, COUNT), "LINK_s": (None, LINK), "H0_q": (None, PLACE),
}  # fmt: skip
_COMMON_HOLES = {("BACK_slot", "slot"), ("COUNT_slot", "slot"), ("LINK_s", "s"), ("H0_q", "q")}
_COMMON = ("head", "unlinked", "through")

_EFFORT = FEW_PASSES
_FLAGS_OUT = 5
"""Index among the fields of a Ready."""

_failures: dict[bytes, CompileError] = {}
"""Stencils that cannot be compiled."""


class _Wanted:
    """A stencil that is to be compiled."""

    def __init__(self, filling: Filling, known: int | None, symbol: str) -> None:
        self.name = _name(filling, known)
        self.symbol = symbol
        form = filling.form
        self._body = StencilBody(form, known)
        self.text = self._body.text(symbol)
        self.holes = {(hole_symbol(n, kind), kind) for n, kind in enumerate(form.holes)}
        self.holes.add(("BACK_slot", "slot"))
        self.continuations = tuple(self._body.continuations)
        self.routines = called(form.ops)
        writes = form.eager or form.reads_flags or self._body.writes_flags
        self.flags_out = self._body.flags_out if writes else None


def _name(filling: Filling, known: int | None) -> bytes:
    return filling.name + bytes([0 if known is None else known + 1])


def plan_ahead(fillings: Sequence[Filling], known: int | None) -> None:
    """Make the plans of consecutive instructions, entered with flags of the kind `known`.

    What has to be compiled is compiled together. Where that is not possible, an instruction's
    `plans` has the CompileError, and what follows it may have no plan.
    """
    wanted: dict[bytes, _Wanted] = {}
    waiting: list[tuple[Filling, int | None]] = []
    for filling in fillings:
        if not filling.uses_flags:
            name, entered = _name(filling, None), None
        else:
            name, entered = _name(filling, known), known
        fields = kept().get("stencil", name)
        if fields is not None:
            _plan(filling, known, Ready(*fields))
            flags_out = fields[_FLAGS_OUT]
        elif name in _failures:
            filling.plans[known] = _failures[name]
            break
        else:
            one = wanted.get(name) or _Wanted(filling, entered, f"s{len(wanted)}")
            wanted[name] = one
            waiting.append((filling, known))
            flags_out = one.flags_out
        known = known if flags_out is None else flags_out
    _compile_wanted(list(wanted.values()))
    for filling, known in waiting:
        name = _name(filling, known if filling.uses_flags else None)
        fields = kept().get("stencil", name)
        if fields is not None:
            _plan(filling, known, Ready(*fields))
        else:
            filling.plans[known] = _failures[name]


def _plan(filling: Filling, known: int | None, ready: Ready) -> None:
    """Make and remember the plan of a compiled stencil."""
    values = zip(filling.fixed, filling.varying, strict=True)
    holes = {
        hole_symbol(n, kind): value
        for n, (kind, value) in enumerate(zip(filling.holes, values, strict=True))
    }
    targets = {}
    for symbol, hole in ready.continuations:
        index = filling.varying[hole]
        assert index is not None, "a continuation is the place of an instruction"
        targets[symbol] = index
    try:
        filling.plans[known] = Plan(ready, holes, targets)
    except RelocationError as error:
        filling.plans[known] = CompileError(str(error))


# --- compiling -------------------------------------------------------------------------------
def _compile_wanted(wanted: list[_Wanted]) -> None:
    """Compile and keep stencils: together, or one by one if some of them cannot be compiled."""
    if not wanted:
        return
    try:
        ready = _compile_together(wanted)
    except CompileError as error:
        if len(wanted) == 1:
            _failures[wanted[0].name] = error
            return
        for one in wanted:
            _compile_wanted([one])
        return
    for one, fields in zip(wanted, ready, strict=True):
        kept().put("stencil", one.name, fields)


def _compile_together(wanted: Sequence[_Wanted]) -> list[tuple[Any, ...]]:
    """The fields of a Ready for each. Raises CompileError."""
    holes = set().union(*(one.holes for one in wanted))
    continuations = {symbol for one in wanted for symbol, _ in one.continuations}
    routines = dict.fromkeys(name for one in wanted for name in one.routines)
    texts = [*(declaration(name) for name in routines), *(one.text for one in wanted)]
    compiled = _compile(texts, [one.symbol for one in wanted], holes, continuations)
    return [
        _fields(stencil, one.continuations, one.flags_out)
        for one, stencil in zip(wanted, compiled, strict=True)
    ]


def _compile(
    texts: Sequence[str],
    names: Sequence[str],
    holes: set[tuple[str, str]],
    continuations: set[str],
) -> list[Stencil]:
    """The functions `names` of a module. Raises CompileError."""
    numbers = {name for name, _ in holes}
    try:
        for far in (False, True):
            text = "\n".join([module_head(holes, continuations, far=far), *texts, METADATA])
            code = parse_object(host_compiler().compile(with_far_numbers(text), effort=_EFFORT))
            found = [extract(code, name) for name in names]
            if not any(_refers_by_distance(stencil, numbers) for stencil in found):
                return found
    except (ObjectError, RelocationError) as error:
        raise CompileError(str(error)) from None
    raise CompileError("LLVM reaches a number by its distance from the code")


def _refers_by_distance(stencil: Stencil, numbers: set[str]) -> bool:
    """A number is an address for LLVM, which it may prefer to reach relative to the code."""
    return any(r.symbol in numbers for r in stencil.relocations) and any(
        symbol in numbers for _, _, symbol, _ in prepare(stencil).relative
    )


def _fields(
    stencil: Stencil, continuations: tuple[tuple[str, int], ...], flags_out: int | None
) -> tuple[Any, ...]:
    """What a Ready is made of: relocations sorted, no jump to what will lie behind."""
    shorter = without_final_jump(stencil)
    falls = ""
    if shorter is not None and shorter[1] == "NEXT":
        stencil, falls = shorter
    prepared = prepare(stencil)
    if prepared.paged:
        raise RelocationError("a stencil refers to a page near it")
    return (prepared.code, prepared.absolute, prepared.relative, falls, continuations, flags_out)


# --- the common ones ---------------------------------------------------------------------------
@cache
def common() -> tuple[Plan, Plan, Plan]:
    """How a block begins, an unlinked jump, and a jump through the table of block entries.

    They take (COUNT, PLACE), (LINK, PLACE) and (..., PLACE). Raises CompileError.
    """
    known = [kept().get("stencil", name.encode()) for name in _COMMON]
    if None in known:
        texts = [HEAD_TEXT, EXIT_TEXT, through_cache_text("through")]
        compiled = _compile(texts, _COMMON, _COMMON_HOLES, {"NEXT"})
        known = [_fields(stencil, (), None) for stencil in compiled]
        for name, fields in zip(_COMMON, known, strict=True):
            kept().put("stencil", name.encode(), fields)
    head, unlinked, through = (Plan(Ready(*fields), _COMMON_VALUES, {}) for fields in known)
    return head, unlinked, through
