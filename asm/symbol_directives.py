"""Directives about symbols and sections: .globl, .set, .type, .section, .comm ...

Handlers share the registry of directives.py.
"""

from __future__ import annotations

import re

from asm.directives import DIRECTIVES, directive, values
from asm.errors import SourceError
from asm.expressions import Linear, Value, constant, evaluate
from asm.fragments import Fill, Section
from asm.parse import parse_expression, unescape
from asm.program import Program, default_attributes

NAME = r'[A-Za-z_.$\u0080-\uffff][\w.$]*|"[^"]*"'
_LIST_ITEM = re.compile(rf"\s*({NAME})\s*$")


def _names(text: str) -> list[str]:
    names = []
    column = 0
    for item in text.split(","):
        match = _LIST_ITEM.match(item)
        if match is None:
            offset = len(item) - len(item.lstrip())
            raise SourceError("expected a symbol name", column=column + offset)
        names.append(match[1].strip('"'))
        column += len(item) + 1
    return names


def _name_and_rest(text: str) -> tuple[str, str, int]:
    match = re.match(rf"\s*({NAME})\s*,\s*", text)
    if match is None:
        raise SourceError("expected a symbol name, a comma and a value", column=0)
    return match[1].strip('"'), text[match.end() :], match.end()


def _expression(program: Program, text: str, column: int) -> Value:
    try:
        return evaluate(parse_expression(text), program)
    except SourceError as error:
        if error.column is not None:
            error.column += column
        raise


@directive("globl global")
def _globl(program: Program, name: str, text: str) -> None:
    for symbol in _names(text):
        program.declare(symbol).is_global = True


@directive("weak")
def _weak(program: Program, name: str, text: str) -> None:
    for symbol in _names(text):
        program.declare(symbol).is_weak = True


@directive("local")
def _local(program: Program, name: str, text: str) -> None:
    for symbol in _names(text):
        program.declare(symbol).is_global = False


@directive("hidden internal protected")
def _hidden(program: Program, name: str, text: str) -> None:
    for symbol in _names(text):
        program.declare(symbol).hidden = name != ".protected"


@directive("extern extrn")
def _extern(program: Program, name: str, text: str) -> None:
    _names(text)


_TYPES = {
    "function": "function", "stt_func": "function", "object": "object", "stt_object": "object",
    "tls_object": "tls_object", "notype": "notype", "stt_notype": "notype", "common": "object",
    "gnu_indirect_function": "function",
}  # fmt: skip


@directive("type")
def _type(program: Program, name: str, text: str) -> None:
    match = re.fullmatch(rf'\s*({NAME})\s*,?\s*[@%"]?(\w+)"?\s*', text)
    if match is None or match[2].lower() not in _TYPES:
        raise SourceError("expected 'name, @function' or 'name, @object'", column=0)
    program.declare(match[1].strip('"')).kind = _TYPES[match[2].lower()]


@directive("size")
def _size(program: Program, name: str, text: str) -> None:
    symbol, rest, column = _name_and_rest(text)
    program.declare(symbol).size = _expression(program, rest, column)


@directive("set equ equiv eqv")
def _set(program: Program, name: str, text: str) -> None:
    symbol, rest, column = _name_and_rest(text)
    program.assign(symbol, _expression(program, rest, column), once=name in (".equiv", ".eqv"))


def assign(program: Program, symbol: str, text: str, *, once: bool) -> None:
    """`symbol = expression`; assigning to `.` moves the place like .org."""
    if symbol == ".":
        DIRECTIVES[".org"](program, ".org", text)
        return
    program.assign(symbol, _expression(program, text, 0), once=once)


@directive("comm lcomm")
def _common(program: Program, name: str, text: str) -> None:
    symbol_name, rest, _ = _name_and_rest(text)
    size, alignment = values(program, rest, most=2)
    symbol = program.declare(symbol_name)
    if symbol.is_defined:
        raise SourceError(f"symbol '{symbol_name}' is already defined", name=symbol_name)
    assert size is not None
    count = constant(size)
    align = constant(alignment) if alignment is not None else min(1 << (count.bit_length()), 16)
    if count < 0 or align < 1 or align & (align - 1):
        raise SourceError("the size or the alignment is not usable", column=0)
    if name == ".comm":
        symbol.is_global = not symbol.is_weak
    program.push_section()
    program.enter(program.open_section(".bss", None, None))
    DIRECTIVES[".balign"](program, ".balign", str(align))
    program.define_label(symbol_name)
    symbol.kind, symbol.size = "object", Linear(count)
    assert program.statement is not None
    program.close_fragment(Fill(Linear(count), b"\0", program.statement))
    program.pop_section()


# --- sections

_SECTION = re.compile(
    r'\s*(?P<name>"[^"]*"|[^\s,"]+)\s*(?:,\s*(?P<flags>"[^"]*"|\d+)\s*)?'
    r"(?:,\s*[@%\"]?(?P<kind>\w+)\"?\s*)?(?:,\s*(?P<rest>.*))?$"
)
_FLAGS = frozenset("awxMSGTeoR?")
_KINDS = frozenset(
    ["progbits", "nobits", "note", "init_array", "fini_array", "preinit_array", "unwind"]
)


def _section_of(program: Program, text: str) -> tuple[Section, int]:
    match = _SECTION.match(text)
    if match is None:
        raise SourceError('expected: name, "flags", @type', column=0)
    name = match["name"].strip('"')
    subsection = 0
    flags = match["flags"]
    if flags is not None and not flags.startswith('"'):
        if len(flags) > 4:
            raise SourceError(
                "a subsection is a number from 0 to 8192", column=match.start("flags")
            )
        subsection, flags = int(flags), None
    if flags is not None:
        flags = flags.strip('"')
        bad = sorted(set(flags) - _FLAGS)
        if bad:
            raise SourceError(
                f"unknown section flag '{bad[0]}'", column=text.index(bad[0], match.start("flags"))
            )
    kind = match["kind"]
    if kind is not None and kind not in _KINDS:
        raise SourceError(f"unknown section type '{kind}'", column=match.start("kind"))
    section = program.open_section(name, flags, kind)
    rest = match["rest"]
    if flags and "M" in flags and rest:
        size = rest.split(",")[0].strip()
        if not size.isdecimal() or len(size) > 9:
            raise SourceError("a mergeable section needs an entry size", column=match.start("rest"))
        section.entry_size = int(size)
    return section, subsection


@directive("section")
def _section(program: Program, name: str, text: str) -> None:
    program.enter(*_section_of(program, text))


@directive("pushsection")
def _push(program: Program, name: str, text: str) -> None:
    program.push_section()
    program.enter(*_section_of(program, text))


@directive("popsection")
def _pop(program: Program, name: str, text: str) -> None:
    program.pop_section()


@directive("previous")
def _previous(program: Program, name: str, text: str) -> None:
    program.enter_previous()


@directive("text data bss rodata")
def _standard(program: Program, name: str, text: str) -> None:
    subsection = constant(values(program, text, most=1)[0] or Linear(0)) if text else 0
    if not 0 <= subsection <= 8192:
        raise SourceError("a subsection is a number from 0 to 8192", column=0)
    flags, kind = default_attributes(name)
    program.enter(program.open_section(name, flags, kind), subsection)


@directive("subsection")
def _subsection(program: Program, name: str, text: str) -> None:
    value = values(program, text, most=1)[0]
    number = constant(value) if value is not None else 0
    if not 0 <= number <= 8192:
        raise SourceError("a subsection is a number from 0 to 8192", column=0)
    program.enter(program.section, number)


# --- accepted for compatibility


@directive(
    "file loc loc_mark_labels ident arch addrsig addrsig_sym version cfi_sections cfi_startproc "
    "cfi_endproc cfi_personality cfi_lsda cfi_def_cfa cfi_def_cfa_offset cfi_def_cfa_register "
    "cfi_adjust_cfa_offset cfi_offset cfi_rel_offset cfi_register cfi_restore cfi_undefined "
    "cfi_same_value cfi_remember_state cfi_restore_state cfi_return_column cfi_signal_frame "
    "cfi_window_save cfi_escape cfi_val_offset cfi_inline_lsda list nolist title sbttl psize "
    "eject line ln linkonce symver vtable_inherit vtable_entry size_t"
)
def _ignored(program: Program, name: str, text: str) -> None:
    return


@directive("intel_syntax")
def _intel(program: Program, name: str, text: str) -> None:
    if text.strip() not in ("noprefix", ""):
        raise SourceError("only '.intel_syntax noprefix' is supported", column=0)


@directive("intel_mnemonic att_mnemonic")
def _mnemonics(program: Program, name: str, text: str) -> None:
    if name == ".att_mnemonic":
        raise SourceError("only Intel mnemonics are supported")


@directive("att_syntax")
def _att(program: Program, name: str, text: str) -> None:
    raise SourceError("AT&T syntax is not supported; write .intel_syntax noprefix")


@directive("warning")
def _warning(program: Program, name: str, text: str) -> None:
    program.warn(unescape(text.strip().strip('"')).decode(errors="replace") or ".warning")


@directive("error err")
def _error(program: Program, name: str, text: str) -> None:
    message = unescape(text.strip().strip('"')).decode(errors="replace")
    raise SourceError(message or f"{name} directive")


@directive("print")
def _print(program: Program, name: str, text: str) -> None:
    return
