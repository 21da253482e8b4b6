"""Directives that put data in place or move the place: .byte, .ascii, .align, .org, .skip ...

Each handler takes the program and the text after the directive's name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from asm import syntax
from asm.errors import SourceError
from asm.expressions import Linear, Value, constant, evaluate
from asm.fragments import Align, Fill, Leb128, Origin
from asm.parse import parse_arguments
from asm.program import MAX_SECTION_BYTES, Program
from asm.syntax import Expression, Text

Handler: TypeAlias = Callable[[Program, str, str], None]
DIRECTIVES: dict[str, Handler] = {}


def directive(names: str) -> Callable[[Handler], Handler]:
    """Register a handler `(program, name, text)` under space-separated names."""

    def register(handler: Handler) -> Handler:
        for name in names.split():
            DIRECTIVES["." + name] = handler
        return handler

    return register


def values(program: Program, text: str, *, least: int = 1, most: int) -> list[Value | None]:
    """The arguments as expression values, None where omitted."""
    arguments = parse_arguments(text)
    if not least <= len(arguments) <= most:
        wanted = f"{least}" if least == most else f"{least} to {most}"
        raise SourceError(f"expected {wanted} argument(s), got {len(arguments)}", column=0)
    result: list[Value | None] = []
    for index, argument in enumerate(arguments):
        if isinstance(argument, Text):
            raise SourceError("expected a number, not a string", operand=index)
        result.append(None if argument is None else _value(program, argument, index))
    return result + [None] * (most - len(result))


def _value(program: Program, tree: Expression, index: int) -> Value:
    try:
        return evaluate(tree, program)
    except SourceError as error:
        if error.operand is None:
            error.operand = index
        raise


def _number(value: Value | None, default: int, index: int) -> int:
    if value is None:
        return default
    try:
        return constant(value)
    except SourceError as error:
        error.operand = index
        raise


_SIZES = {
    "byte": 1, "2byte": 2, "word": 2, "short": 2, "hword": 2, "value": 2, "4byte": 4, "long": 4,
    "int": 4, "8byte": 8, "quad": 8,
}  # fmt: skip


@directive(" ".join(_SIZES))
def _integers(program: Program, name: str, text: str) -> None:
    size = _SIZES[name[1:]]
    for index, argument in enumerate(parse_arguments(text)):
        if argument is None:
            raise SourceError("a value is missing", operand=index)
        if isinstance(argument, Text):
            if size != 1:
                raise SourceError("a string needs .ascii or .asciz", operand=index)
            program.emit(argument.data)
            continue
        program.emit_value(_value(program, argument, index), size)


@directive("octa")
def _octa(program: Program, name: str, text: str) -> None:
    for index, argument in enumerate(parse_arguments(text)):
        match argument:
            case syntax.Number(number):
                pass
            case syntax.Unary("-", syntax.Number(positive)):
                number = -positive
            case None | Text():
                raise SourceError("expected a number", operand=index)
            case _:
                number = _number(_value(program, argument, index), 0, index)
        if not -(1 << 127) <= number < 1 << 128:
            raise SourceError("number does not fit 128 bits", operand=index)
        program.emit((number & ((1 << 128) - 1)).to_bytes(16, "little"))


@directive("ascii asciz string string8")
def _strings(program: Program, name: str, text: str) -> None:
    end = b"" if name == ".ascii" else b"\0"
    for index, argument in enumerate(parse_arguments(text)):
        if not isinstance(argument, Text):
            raise SourceError("expected a string in double quotes", operand=index)
        program.emit(argument.data + end)


@directive("skip space")
def _skip(program: Program, name: str, text: str) -> None:
    count, fill = values(program, text, most=2)
    _fill(program, count, bytes([_number(fill, 0, 1) & 0xFF]))


@directive("zero")
def _zero(program: Program, name: str, text: str) -> None:
    count, fill = values(program, text, most=2)
    _fill(program, count, bytes([_number(fill, 0, 1) & 0xFF]))


@directive("fill")
def _fill_directive(program: Program, name: str, text: str) -> None:
    count, size, value = values(program, text, most=3)
    width = _number(size, 1, 1)
    if width < 0:
        raise SourceError("the size of .fill cannot be negative", operand=1)
    width = min(width, 8)
    number = _number(value, 0, 2) & 0xFFFFFFFF
    pattern = number.to_bytes(8, "little")[:width]
    _fill(program, count, pattern)


def _fill(program: Program, count: Value | None, pattern: bytes) -> None:
    if count is None:
        raise SourceError("a count is missing", column=0)
    if program.section.is_nobits and any(pattern):
        raise SourceError(f"section '{program.section.name}' holds no bytes, only zeros")
    if isinstance(count, Linear) and not count.terms:
        if count.constant < 0:
            program.warn("the repeat count is negative and taken as 0")
            return
        if count.constant * len(pattern) <= 1 << 16:
            program.emit(pattern * count.constant)
            return
        if not program.section.is_nobits and count.constant * len(pattern) > MAX_SECTION_BYTES:
            raise SourceError(f"more than {MAX_SECTION_BYTES} bytes", operand=0)
    assert program.statement is not None
    program.close_fragment(Fill(count, pattern, program.statement))


@directive("align balign p2align balignw balignl p2alignw p2alignl")
def _align(program: Program, name: str, text: str) -> None:
    amount, fill, limit = values(program, text, most=3)
    alignment = _number(amount, 0, 0)
    if "p2" in name:
        if not 0 <= alignment <= 31:
            raise SourceError(f"alignment 2**{alignment} is out of range", operand=0)
        alignment = 1 << alignment
    if alignment == 0:
        return
    if alignment < 0 or alignment & (alignment - 1):
        raise SourceError(f"alignment {alignment} is not a power of 2", operand=0)
    if alignment > 1 << 31:
        raise SourceError(f"alignment {alignment:#x} is too large", operand=0)
    width = {"w": 2, "l": 4}.get(name[-1], 1)
    pattern = None
    if fill is not None:
        number = _number(fill, 0, 1) & ((1 << (8 * width)) - 1)
        pattern = number.to_bytes(width, "little")
    section = program.section
    section.alignment = max(section.alignment, alignment)
    assert program.statement is not None
    if alignment > 1:
        program.close_fragment(
            Align(alignment, pattern, max(_number(limit, 0, 2), 0), program.mode, program.statement)
        )


@directive("org")
def _org(program: Program, name: str, text: str) -> None:
    target, fill = values(program, text, most=2)
    if target is None:
        raise SourceError("a target is missing", column=0)
    assert program.statement is not None
    number = _number(fill, 0, 1) & 0xFF
    program.close_fragment(Origin(target, number, program.statement))


@directive("uleb128 sleb128")
def _leb128(program: Program, name: str, text: str) -> None:
    assert program.statement is not None
    for value in values(program, text, most=max(1, text.count(",") + 1)):
        if value is None:
            raise SourceError("a value is missing", column=0)
        program.close_fragment(Leb128(value, name == ".sleb128", program.statement))


@directive("nop nops")
def _nops(program: Program, name: str, text: str) -> None:
    from asm.padding import code_padding

    count = _number(values(program, text, most=2)[0], 1, 0) if text else 1
    if not 0 <= count <= 1 << 16:
        raise SourceError("the number of no-operation bytes is out of range", operand=0)
    program.emit(code_padding(count, program.mode))


@directive("code16 code32 code64 code16gcc")
def _mode(program: Program, name: str, text: str) -> None:
    if name == ".code16gcc":
        raise SourceError(".code16gcc is not supported; use .code16")
    program.set_mode(int(name[5:]))


@directive("incbin")
def _incbin(program: Program, name: str, text: str) -> None:
    arguments = parse_arguments(text)
    if not arguments or not isinstance(arguments[0], Text):
        raise SourceError("expected a file name in double quotes", column=0)
    numbers = []
    for index, argument in enumerate(arguments[1:3], start=1):
        if isinstance(argument, Text):
            raise SourceError("expected a number", operand=index)
        numbers.append(
            None if argument is None else _number(_value(program, argument, index), 0, index)
        )
    data = program.read_file(arguments[0].data.decode(errors="replace"))
    skip = max(numbers[0] or 0, 0) if numbers else 0
    count = numbers[1] if len(numbers) > 1 else None
    end = len(data) if count is None else skip + max(count, 0)
    if skip > len(data) or end > len(data):
        raise SourceError(f"the file has only {len(data)} bytes", operand=1)
    program.emit(data[skip:end])
