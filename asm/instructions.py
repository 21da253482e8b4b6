"""One instruction statement into the program: prefixes, mnemonic, operands, bytes or a jump.

Ties parsing, idioms, selection and encoding together; knows nothing of directives.
"""

from __future__ import annotations

import difflib
import functools
import re
from dataclasses import replace

from asm import forms
from asm.encode import PREFIX_BYTES, Encoded, encode, in_gnu_order
from asm.errors import SourceError
from asm.expressions import Linear
from asm.forms import Form
from asm.fragments import Branch, Fixup
from asm.idioms import PSEUDO_MNEMONICS, RENAMED, STRING_BASES, apply_idioms
from asm.operands import (
    PLAIN,
    Decoration,
    FarPointer,
    Immediate,
    Memory,
    Operand,
    RegisterOperand,
    Target,
    read_decorations,
    read_operand,
)
from asm.parse import parse_operands
from asm.program import Program
from asm.registers import REGISTER_NAME, needs_64_bit_code
from asm.select import Request, choose
from asm.source import locate

_HEAD = re.compile(r"[A-Za-z][\w.]*")
_SUFFIXES = {"b": 8, "w": 16, "d": 32, "q": 64}


@functools.lru_cache(maxsize=4096)
def _resolve(name: str, mode: int) -> tuple[str, int]:
    """A known mnemonic and the operand size its suffix asks for (bits, 0 for none)."""
    if _known(name, mode):
        return name, 0
    stem, suffix = name[:-1], _SUFFIXES.get(name[-1], 0)
    if suffix and _known(stem, mode) and not _has_suffix(stem, mode):
        return stem, suffix
    return "", 0


def _has_suffix(name: str, mode: int) -> bool:
    """The mnemonic already says its size, as lodsb and pushfq do."""
    if name[-1] not in _SUFFIXES:
        return False
    forms_of_it = forms.forms_of(name, mode)
    return name[:-1] in STRING_BASES or not any(form.slots for form in forms_of_it)


def _known(name: str, mode: int) -> bool:
    if forms.forms_of(name, mode) or name in PSEUDO_MNEMONICS:
        return True
    if name in STRING_BASES:
        return True
    renamed = apply_idioms(name, [], mode)[0] if name in RENAMED else ""
    return bool(renamed and forms.forms_of(renamed, mode))


@functools.lru_cache(maxsize=4096)
def _is_branch(name: str, mode: int) -> bool:
    return any(form.slots and form.slots[0].branch for form in forms.forms_of(name, mode))


def split_head(text: str) -> tuple[list[str], str, int]:
    """Prefixes, mnemonic and the offset where operands start; the mnemonic may be empty."""
    prefixes: list[str] = []
    position = 0
    while match := _HEAD.match(text, position):
        word = match[0].lower()
        position = match.end()
        while position < len(text) and text[position] in " \t":
            position += 1
        if word not in PREFIX_BYTES or text[position : position + 1] == ":":
            return prefixes, word, position
        prefixes.append(word)
    if position < len(text):
        raise SourceError(f"unexpected '{text[position]}'", column=position)
    return prefixes, "", position


def assemble_instruction(program: Program, text: str) -> None:
    """Assemble one statement. Raises SourceError, positioned in `text`."""
    prefixes, name, start = split_head(text)
    program.mark(is_code=True)
    program.modes_used.add(program.mode)
    if not name:
        program.emit(bytes(PREFIX_BYTES[prefix] for prefix in prefixes))
        return
    try:
        _assemble(program, prefixes, name, text[start:])
    except SourceError as error:
        offset = locate(error, text[start:])
        error.column = start + offset if offset is not None else text.lower().find(name)
        raise


def _unknown(name: str, mode: int) -> SourceError:
    close = difflib.get_close_matches(name, forms.mnemonics(mode), 3)
    hint = f"; did you mean {', '.join(repr(c) for c in close)}?" if close else ""
    other = [m for m in (64, 32, 16) if m != mode and _resolve(name, m)[0]]
    if other:
        hint = f" in {mode}-bit code (it exists in {other[0]}-bit code)"
    return SourceError(f"unknown instruction '{name}'{hint}")


def _assemble(program: Program, prefixes: list[str], name: str, text: str) -> None:
    mode = program.mode
    stem, suffix = _resolve(name, mode)
    if not stem:
        raise _unknown(name, mode)
    operands, decoration = _read_operands(program, stem, text)
    stem, operands = apply_idioms(stem, operands, mode)
    if stem in PSEUDO_MNEMONICS and not forms.forms_of(stem, mode):
        stem, predicate = PSEUDO_MNEMONICS[stem]
        operands = [*operands, Immediate(Linear(predicate))]
    if not forms.forms_of(stem, mode):
        raise _unknown(name, mode)
    codes = _prefix_codes(prefixes, mode)
    if operands and isinstance(operands[0], Target | FarPointer) and 0x66 in codes:
        suffix = {"data16": 16, "data32": 32}[next(p for p in prefixes if p.startswith("data"))]
        codes.remove(0x66)  # the operand size decides how long the target is
    if suffix:
        operands = [_with_size(operand, suffix // 8) for operand in operands]
    request = Request(stem, tuple(operands), mode, decoration, suffix, absolute=name == "movabs")
    form = choose(request)
    if "lock" in prefixes:
        if not form.lockable:
            raise SourceError(f"'{name}' cannot be locked")
        if not any(isinstance(operand, Memory) for operand in operands):
            raise SourceError("'lock' needs a memory operand")
    if operands and isinstance(operands[0], Target):
        _emit_branch(program, form, request, operands[0], codes)
    else:
        _emit(program, encode(form, operands, mode, decoration, codes))


def _prefix_codes(prefixes: list[str], mode: int) -> list[int]:
    redundant = {16: ("data16", "addr16"), 32: ("data32", "addr32"), 64: ("addr16", "data32")}
    for prefix in prefixes:
        if prefix in redundant[mode]:
            raise SourceError(f"prefix '{prefix}' means nothing in {mode}-bit code")
    return [PREFIX_BYTES[prefix] for prefix in prefixes]


def _with_size(operand: Operand, size: int) -> Operand:
    if isinstance(operand, Memory) and operand.size == 0:
        return replace(operand, size=size)
    return operand


def _read_operands(program: Program, name: str, text: str) -> tuple[list[Operand], Decoration]:
    trees = parse_operands(text)
    words = [(word, i) for i, tree in enumerate(trees) for word in tree.decorations]
    operands: list[Operand] = []
    is_branch = _is_branch(name, program.mode)
    for index, tree in enumerate(trees):
        if tree.expression is None:
            continue
        try:
            operand = read_operand(tree.expression, program, is_branch=is_branch)
            if program.mode != 64:
                _check_registers(operand, program.mode)
            operands.append(operand)
        except SourceError as error:
            if error.operand is None:
                error.operand = index
            raise
    return operands, read_decorations(words) if words else PLAIN


def _check_registers(operand: Operand, mode: int) -> None:
    registers: tuple[int, ...] = ()
    if isinstance(operand, RegisterOperand):
        registers = (operand.register,)
    elif isinstance(operand, Memory):
        registers = (operand.base, operand.index)
    for register in registers:
        if register and needs_64_bit_code(register):
            name = REGISTER_NAME[register]
            raise SourceError(f"register '{name}' does not exist in {mode}-bit code", name=name)


def _emit(program: Program, encoded: Encoded) -> None:
    statement = program.statement
    assert statement is not None
    start = len(program.fragment.data)
    for field in encoded.fields:
        program.add_fixup(
            Fixup(
                start + field.offset,
                field.size,
                field.value,
                statement,
                pc_relative=field.pc_relative,
                pc_bias=len(encoded.data) - field.offset if field.pc_relative else 0,
                signed=field.signed,
            )
        )
    program.emit(encoded.data)


def _branch_forms(name: str, mode: int, width: int) -> list[Form]:
    """The forms of a jump with this operand size, shortest displacement first."""
    found = [
        form
        for form in forms.forms_of(name, mode)
        if form.slots and form.slots[0].branch and form.slots[0].branch.suits(width)
    ]
    return sorted(found, key=lambda form: form.slots[0].branch.size if form.slots[0].branch else 0)


def _emit_branch(
    program: Program, form: Form, request: Request, target: Target, prefixes: list[int]
) -> None:
    mode = program.mode
    statement = program.statement
    assert statement is not None
    if program.section.is_nobits:
        raise SourceError(f"section '{program.section.name}' holds no code")
    candidates = _branch_forms(request.mnemonic, mode, request.suffix or mode)
    sizes = {f.slots[0].branch.size for f in candidates if f.slots[0].branch}
    symbolic = not isinstance(target.value, Linear) or bool(target.value.terms)
    if len(sizes) == 2 and symbolic:
        short, near = (
            _opcode(candidate, mode, prefixes) for candidate in (candidates[0], candidates[-1])
        )
        width = candidates[-1].slots[0].branch.size  # type: ignore[union-attr]
        program.close_fragment(Branch(short, near, width, mode == 64, target.value, statement))
        return
    if len(sizes) == 2:
        form = candidates[-1]
    branch = form.slots[0].branch
    assert branch is not None
    opcode = _opcode(form, mode, prefixes)
    start = len(program.fragment.data)
    program.add_fixup(
        Fixup(
            start + len(opcode),
            branch.size,
            target.value,
            statement,
            pc_relative=True,
            pc_bias=branch.size,
            branch=mode == 64,
        )
    )
    program.emit(opcode + bytes(branch.size))


def _opcode(form: Form, mode: int, prefixes: list[int]) -> bytes:
    """The bytes of a relative branch up to its displacement."""
    branch = form.slots[0].branch
    assert branch is not None
    data = encode(form, [Target(Linear(0))], mode).data
    return in_gnu_order(data[: -branch.size], prefixes)
