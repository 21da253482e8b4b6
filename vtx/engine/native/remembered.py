"""Routines whose results are kept: the checks of VM entry that hold from one entry to the next.

Such a routine has no side effects and is a function of fields of the current VMCS and of state
words. Beside its results stand the bits it looked at, as they were. While the same bits are read
again the results are the same, however often fields were written, by whom and in what way. Which
bits these are follows from the routine's own ops. What the results mean is not known here.
"""

from collections.abc import Mapping, Sequence

from vtx.engine.native.context import CONTEXT, REMEMBERED_SIZE
from vtx.engine.native.lower import result_type
from vtx.engine.native.routines import RoutineBody, page_of_vmcs, signature, vmcs_fields
from vtx.engine.native.text import LIKELY, Text
from vtx.isa.demand import demanded_bits
from vtx.isa.primitives import PURE, Prim
from vtx.isa.program import Program, routine
from vtx.vmx.entry_checks import STEADY

REMEMBERED = STEADY
"""The routines, in the order of their places in the context's `remembered`."""

_REGION = 4096
"""Copies of fields stand where they stand in the VMCS; behind it all else."""
_VALID, _RESULTS, _STATE = _REGION, _REGION + 8, _REGION + 64
_WORDS = 4
_ROW = f"<{_WORDS} x i64>"
"""So many words of the VMCS are compared at once."""
_WITHOUT_EFFECTS = frozenset(PURE) | {
    Prim.CONST, Prim.GET, Prim.PLOAD, Prim.GETVAR, Prim.SETVAR, Prim.LOOKUP,
    Prim.IF, Prim.ELSE, Prim.END, Prim.RETURN,
}  # fmt: skip


def looked_at(program: Program) -> tuple[dict[int, int], dict[int, int]]:
    """Offsets in the VMCS, and state slots -> their bits that the results depend on.

    ValueError for a routine that looks at, or does, anything else.
    """
    fields = vmcs_fields(program.ops)
    demanded = demanded_bits(program.ops)
    in_vmcs, in_state = dict[int, int](), dict[int, int]()
    for op in program.ops:
        if op.prim not in _WITHOUT_EFFECTS or program.params:
            raise ValueError(f"{program.name} is no function of the VMCS and the state: {op}")
        if op.prim is Prim.PLOAD:
            if op.args[0] not in fields:
                raise ValueError(f"{program.name} reads memory outside the VMCS: {op}")
            offset, bits = fields[op.args[0]], demanded.get(op.dst[0], 0)
            assert not offset % 8
            in_vmcs[offset] = in_vmcs.get(offset, 0) | bits & (1 << op.width) - 1
        elif op.prim is Prim.GET:
            bits = demanded.get(op.dst[0], 0) & (1 << op.width) - 1
            in_state[op.attr] = in_state.get(op.attr, 0) | bits
    return in_vmcs, in_state


def remembered_text(name: str) -> str:
    """The routine with what it remembers, and the one that computes it."""
    program = routine(name)
    in_vmcs, in_state = looked_at(program)
    text = Text(())
    place = REMEMBERED.index(name) * REMEMBERED_SIZE
    base = text.add(f"inttoptr i64 {text.get_word(CONTEXT['remembered'])} to ptr")
    kept = _at(text, base, place)
    vmcs = text.add(f"inttoptr i64 {page_of_vmcs(text, 'ram_read')} to ptr")
    look, known, other, plain = (text.label() for _ in range(4))
    text.branch(text.add(f"icmp ne ptr {vmcs}, null"), look, plain, LIKELY)
    text.place(look)
    rows = {
        at: text.add(f"load {_ROW}, ptr {_at(text, vmcs, at)}, align 8") for at in _rows(in_vmcs)
    }
    words = {slot: text.get_word(slot) for slot in in_state}
    same_rows = _same_rows(text, kept, rows, in_vmcs)
    same_words = _same_words(text, kept, words, in_state)
    same = text.add(f"and i1 {same_rows}, {same_words}")
    valid = text.add(f"load i64, ptr {_at(text, kept, _VALID)}")
    usable = text.add(f"icmp ne i64 {valid}, 0")
    text.branch(text.add(f"and i1 {same}, {usable}"), known, other, LIKELY)
    text.place(known)
    _return_kept(text, kept, program.results)
    text.place(other)
    for at, row in rows.items():
        text.line(f"store {_ROW} {row}, ptr {_at(text, kept, at)}, align 8")
    for n, slot in enumerate(words):
        text.line(f"store i64 {words[slot]}, ptr {_at(text, kept, _STATE + 8 * n)}")
    _compute(text, name, kept)
    text.place(plain)
    _compute(text, name, None)
    head = f'define {signature(name, True)} nounwind section ".text.{name}" {{'
    own = "\n".join([head, *text.function_lines(), "}"])
    return "\n".join([RoutineBody(name).text("compute_"), own])


def _compute(text: Text, name: str, kept: str | None) -> None:
    """Return what is computed, and keep it."""
    results = routine(name).results
    kind = result_type(results)
    computed = text.add(f"call {kind} @compute_{name}(ptr %s, ptr %t, i64 %bud)")
    if kept is not None:
        for n, width in enumerate(results):
            value = text.add(f"extractvalue {kind} {computed}, {n + 1}")
            text.line(f"store i{width} {value}, ptr {_at(text, kept, _RESULTS + 8 * n)}")
        text.line(f"store i64 1, ptr {_at(text, kept, _VALID)}")
    text.line(f"ret {kind} {computed}")


def _return_kept(text: Text, kept: str, results: Sequence[int]) -> None:
    kind, result = result_type(results), "zeroinitializer"
    for n, width in enumerate(results):
        value = text.add(f"load i{width}, ptr {_at(text, kept, _RESULTS + 8 * n)}")
        result = text.add(f"insertvalue {kind} {result}, i{width} {value}, {n + 1}")
    text.line(f"ret {kind} {result}")


def _at(text: Text, base: str, offset: int) -> str:
    return text.add(f"getelementptr i8, ptr {base}, i64 {offset}")


def _rows(in_vmcs: Mapping[int, int]) -> dict[int, list[int]]:
    """Offsets of rows of words in the VMCS -> the bits of each word that count."""
    rows: dict[int, list[int]] = {}
    for offset, bits in sorted(in_vmcs.items()):
        row = rows.setdefault(offset // (8 * _WORDS) * 8 * _WORDS, [0] * _WORDS)
        row[offset // 8 % _WORDS] = bits
    return rows


def _same_rows(text: Text, kept: str, rows: Mapping[int, str], in_vmcs: Mapping[int, int]) -> str:
    """Whether the fields are as they were, in the bits that count."""
    changed = "zeroinitializer"
    for at, counting in _rows(in_vmcs).items():
        before = text.add(f"load {_ROW}, ptr {_at(text, kept, at)}, align 8")
        differing = text.add(f"xor {_ROW} {before}, {rows[at]}")
        mask = ", ".join(f"i64 {bits}" for bits in counting)
        differing = text.add(f"and {_ROW} {differing}, <{mask}>")
        changed = text.add(f"or {_ROW} {changed}, {differing}")
    some = text.add(f"call i64 @llvm.vector.reduce.or.v{_WORDS}i64({_ROW} {changed})")
    return text.add(f"icmp eq i64 {some}, 0")


def _same_words(
    text: Text, kept: str, words: Mapping[int, str], in_state: Mapping[int, int]
) -> str:
    """Whether the state is as it was, in the bits that count."""
    changed = "0"
    for n, (slot, bits) in enumerate(in_state.items()):
        before = text.add(f"load i64, ptr {_at(text, kept, _STATE + 8 * n)}")
        differing = text.add(f"xor i64 {before}, {words[slot]}")
        differing = text.add(f"and i64 {differing}, {bits}")
        changed = text.add(f"or i64 {changed}, {differing}")
    return text.add(f"icmp eq i64 {changed}, 0")
