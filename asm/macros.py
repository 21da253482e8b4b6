"""Macros and repetition: .macro, .rept, .irp, .irpc as text replacement over lines.

Knows GNU as's rules for splitting and substituting arguments; knows nothing of what the
resulting lines mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from asm.errors import SourceError
from asm.source import SourceLine

_BODY_START = re.compile(r"\s*(?:[\w.$]+\s*:\s*)*\.(macro|rept|irpc?)\b", re.IGNORECASE)
_BODY_END = re.compile(r"\s*(?:[\w.$]+\s*:\s*)*\.(endm|endr)\b", re.IGNORECASE)
_PARAMETER = re.compile(
    r"\s*,?\s*([A-Za-z_.$][\w.$]*)\s*(?::\s*(\w+))?\s*(?:=\s*(\"(?:\\.|[^\"])*\"|[^\s,]*))?"
)


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    default: str | None = None
    required: bool = False
    variadic: bool = False


@dataclass(frozen=True, slots=True)
class Macro:
    name: str
    parameters: tuple[Parameter, ...]
    body: tuple[SourceLine, ...]


def take_body(lines: Sequence[SourceLine], start: int) -> tuple[list[SourceLine], int]:
    """The lines up to the matching end and the index after it. Raises SourceError."""
    depth = 1
    for index in range(start, len(lines)):
        code = lines[index].code
        if _BODY_START.match(code):
            depth += 1
        elif _BODY_END.match(code):
            depth -= 1
            if depth == 0:
                return list(lines[start:index]), index + 1
    raise SourceError("this has no matching .endm or .endr")


def parse_header(text: str) -> tuple[str, tuple[Parameter, ...]]:
    """The name and parameters after `.macro`."""
    match = re.match(r"\s*([A-Za-z_.$][\w.$]*)", text)
    if match is None:
        raise SourceError("expected a macro name", column=0)
    parameters: list[Parameter] = []
    position = match.end()
    while text[position:].strip(" \t,"):
        found = _PARAMETER.match(text, position)
        if found is None:
            raise SourceError("expected a parameter name", column=position)
        name, qualifier, default = found[1], found[2], found[3]
        if qualifier not in (None, "req", "vararg"):
            raise SourceError(f"unknown parameter kind ':{qualifier}'", column=found.start(2))
        if any(p.name == name for p in parameters):
            raise SourceError(f"parameter '{name}' appears twice", column=found.start(1))
        default = _unquote(default) if default is not None else None
        parameters.append(Parameter(name, default, qualifier == "req", qualifier == "vararg"))
        position = found.end()
    return match[1], tuple(parameters)


def _unquote(text: str) -> str:
    if len(text) >= 2 and text[0] == text[-1] == '"':
        return text[1:-1]
    return text


_BLANK_JOINS = set("+-*/|&^<>=,!~")


def split_arguments(text: str) -> list[tuple[str, int]]:
    """Macro arguments with their offsets: separated by commas or, outside operators, blanks."""
    arguments: list[tuple[str, int]] = []
    start = position = depth = 0
    end = len(text)

    def push(stop: int) -> None:
        piece = text[start:stop]
        lead = len(piece) - len(piece.lstrip())
        arguments.append((piece.strip(), start + lead))

    while position < end:
        character = text[position]
        if character == '"':
            match = re.compile(r'"(?:\\.|[^"\\])*"?').match(text, position)
            assert match is not None
            position = match.end()
            continue
        if character == "'" and position + 1 < end:
            position += 3 if text[position + 2 : position + 3] == "'" else 2
            continue
        if character in "([":
            depth += 1
        elif character in ")]":
            depth = max(depth - 1, 0)
        elif depth == 0 and (
            character == "," or (character in " \t" and _blank_separates(text, start, position))
        ):
            push(position)
            start = position + 1
        position += 1
    if text[start:].strip() or arguments:
        push(end)
    return arguments


_PTR = re.compile(r"(?i)(byte|[dfqto]?word|tbyte|[xyz]?mmword|near|far|short|offset|ptr|not)$")
_JOINING_WORD = re.compile(r"(?i)(ptr|and|or|xor|shl|shr|mod|eq|ne|lt|le|gt|ge|flat)(?![\w.$])")


def _blank_separates(text: str, start: int, position: int) -> bool:
    """Whether the blank at `position` ends an argument, rather than standing in one."""
    before = text[start:position].rstrip()
    after = text[position:].lstrip()
    if not before or not after or after[0] == ",":
        return False
    if before[-1] in _BLANK_JOINS or after[0] in _BLANK_JOINS or after[0] in "[:":
        return False
    return not (_PTR.search(before) or _JOINING_WORD.match(after) or _JOINING_WORD.search(before))


def bind_arguments(macro: Macro, text: str) -> dict[str, str]:
    """Parameter values of one call. Raises SourceError for missing or surplus arguments."""
    values: dict[str, str] = {}
    names = {parameter.name: parameter for parameter in macro.parameters}
    arguments = split_arguments(text)
    position = 0
    for argument, column in arguments:
        keyword = re.match(r"([\w.$]+)\s*=(?!=)\s*", argument)
        if keyword and keyword[1] in names:
            values[keyword[1]] = _unquote(argument[keyword.end() :])
            continue
        if position >= len(macro.parameters):
            raise SourceError(f"too many arguments for macro '{macro.name}'", column=column)
        parameter = macro.parameters[position]
        if parameter.variadic:
            values[parameter.name] = text[column:].strip()
            break
        if argument:
            values[parameter.name] = _unquote(argument)
        position += 1
    for parameter in macro.parameters:
        if not values.get(parameter.name):
            if parameter.required:
                raise SourceError(
                    f"macro '{macro.name}' needs a value for '{parameter.name}'", column=0
                )
            values.setdefault(parameter.name, parameter.default or "")
    return values


_REFERENCE = re.compile(r"\\(@|\(\)|[A-Za-z_.$][\w.$]*)")


def substitute(text: str, values: dict[str, str], counter: int | None) -> str:
    r"""Replace \name, \() and, in macros, \@. Unknown names stay."""

    def one(match: re.Match[str]) -> str:
        name = match[1]
        if name == "@" and counter is not None:
            return str(counter)
        if name == "()":
            return ""
        if name in values:
            return values[name]
        for length in range(len(name) - 1, 0, -1):  # \reg.suffix: the longest known prefix
            if name[:length] in values and not (name[length].isalnum() or name[length] == "_"):
                return values[name[:length]] + name[length:]
        return match[0]

    return _REFERENCE.sub(one, text)


def expand(
    body: Iterable[SourceLine],
    values: dict[str, str],
    counter: int | None,
    note: str = "",
    origin: tuple[str, int] | None = None,
) -> list[SourceLine]:
    """The body's lines with references replaced; `note` says where they were called."""
    result = []
    for line in body:
        text = substitute(line.code, values, counter) if "\\" in line.code else line.code
        result.append(
            replace(
                line,
                text=text if text != line.code else line.text,
                code=text,
                notes=(note, *line.notes) if note else line.notes,
                origin=origin or line.origin,
            )
        )
    return result


def iteration(text: str) -> tuple[str, list[str], list[str]]:
    """The variable of `.irp`/`.irpc`, its values as arguments, and as single characters."""
    match = re.match(r"\s*([A-Za-z_.$][\w.$]*)\s*(,\s*|\s+|$)", text)
    if match is None:
        raise SourceError("expected a name", column=0)
    rest = text[match.end() :].strip()
    items = [_unquote(item) for item, _ in split_arguments(rest)]
    return match[1], items, list(_unquote(rest))
