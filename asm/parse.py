"""Text of operands and arguments to syntax trees, through the Lark grammar.

Knows precedence, number and string spelling and how to explain a syntax error; knows nothing
of symbols' values. Trees are cached on their text, because sources repeat themselves.
"""

from __future__ import annotations

import functools
import re
from importlib import resources
from typing import Any

from lark import Lark, Token, Transformer, UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from asm import syntax
from asm.errors import SourceError
from asm.registers import REGISTERS
from asm.syntax import Expression

SIZES = {
    "byte": 1, "word": 2, "dword": 4, "fword": 6, "qword": 8, "mmword": 8, "tbyte": 10,
    "oword": 16, "xmmword": 16, "ymmword": 32, "zmmword": 64, "near": 0, "short": 0, "far": -1,
}  # fmt: skip

_SPELLINGS = {
    "and": "&", "or": "|", "xor": "^", "shl": "<<", "shr": ">>", "mod": "%", "not": "~",
    "eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "<>": "!=",
}  # fmt: skip

# GNU as binds | & ^ tighter than + and -, and comparisons between + and &&.
_PRECEDENCE = {
    operator: level
    for level, operators in enumerate(
        ["||", "&&", "== != < <= > >=", "+ -", "| & ^ !", "* / % << >>"], start=1
    )
    for operator in operators.split()
}

_ESCAPES = {"n": 10, "t": 9, "r": 13, "b": 8, "f": 12}
_ESCAPE = re.compile(r"\\([0-7]{1,3}|[xX][0-9a-fA-F]+|.|$)", re.DOTALL)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def unescape(text: str) -> bytes:
    """Replace GNU as's backslash escapes; other text becomes UTF-8."""
    out = bytearray()
    end = 0
    for match in _ESCAPE.finditer(text):
        out += _bytes(text[end : match.start()])
        end = match.end()
        body = match[1]
        if body[:1].isdigit() and body[0] in "01234567":
            out.append(int(body, 8) & 0xFF)
        elif body[:1] in ("x", "X") and len(body) > 1:
            out.append(int(body[1:], 16) & 0xFF)
        elif body in _ESCAPES:
            out.append(_ESCAPES[body])
        else:
            out += _bytes(body)
    return bytes(out + _bytes(text[end:]))


def number(text: str) -> int:
    """A GNU as integer literal: decimal, 0x hexadecimal, 0b binary or 0 octal."""
    text = text.lower()
    if text.startswith("0x"):
        return int(text, 16)
    if text.startswith("0b"):
        return int(text, 2)
    if len(text) > 1 and text[0] == "0":
        if not set(text) <= set("01234567"):
            raise SourceError(f"bad digit in octal number '{text}'", name=text)
        return int(text, 8)
    if len(text) > 80:
        raise SourceError("number is too long", name=text)
    return int(text)


class _Builder(Transformer[Token, Any]):
    """Grammar rules to syntax nodes; runs inside the parser."""

    def operands(self, items: list[Any]) -> tuple[syntax.Operand, ...]:
        return tuple(items)

    arguments = operands

    def operand(self, items: list[Any]) -> syntax.Operand:
        return syntax.Operand(items[0], tuple(items[1:]))

    def rounding(self, items: list[Any]) -> syntax.Operand:
        return syntax.Operand(None, tuple(items))

    def decoration(self, items: list[Token]) -> str:
        return str(items[0]).lower()

    def text(self, items: list[Token]) -> syntax.Text:
        return syntax.Text(unescape(items[0][1:-1]))

    def missing(self, items: list[Any]) -> None:
        return None

    def chain(self, items: list[Any]) -> Expression:
        return _fold(items)

    def prefix(self, items: list[Any]) -> Expression:
        operator = str(items[0]).lower()
        return syntax.Unary(_SPELLINGS.get(operator, operator), items[1])

    def sized(self, items: list[Any]) -> Expression:
        keyword = str(items[0]).split()[0].lower()
        return syntax.Sized(SIZES[keyword], items[1], keyword)

    def offset(self, items: list[Any]) -> Expression:
        return syntax.Offset(items[1])

    def indexed(self, items: list[Any]) -> Expression:
        return syntax.Binary("+", items[0], syntax.Bracket(items[1]))

    def pair(self, items: list[Any]) -> Expression:
        return syntax.Pair(items[0], items[1])

    def bracket(self, items: list[Any]) -> Expression:
        return syntax.Bracket(items[0])

    def number(self, items: list[Token]) -> Expression:
        return syntax.Number(number(items[0]))

    def character(self, items: list[Token]) -> Expression:
        body = str(items[0])[1:]
        if len(body) > 1 and body.endswith("'"):
            body = body[:-1]
        return syntax.Number(unescape(body)[0])

    def local(self, items: list[Token]) -> Expression:
        if len(items[0]) > 10:
            raise SourceError("label number is too long", name=str(items[0]))
        return syntax.LocalReference(int(items[0][:-1]), items[0][-1] == "f")

    def name(self, items: list[Token]) -> Expression:
        text = str(items[0])
        register = REGISTERS.get(text.lower())
        if register is not None:
            return syntax.RegisterName(register)
        name, _, modifier = text.partition("@")
        return syntax.Name(name, modifier.upper())

    def register(self, items: list[Token]) -> Expression:
        name = re.sub(r"[ \t%]", "", items[0]).lower()
        if name not in REGISTERS:
            raise SourceError(f"bad register name '{items[0]}'", name=str(items[0]))
        return syntax.RegisterName(REGISTERS[name])

    def here(self, items: list[Token]) -> Expression:
        return syntax.Here()


def _fold(items: list[Any]) -> Expression:
    """Precedence climbing over `unary (operator unary)*`."""
    operands: list[Expression] = [items[0]]
    operators: list[str] = []

    def reduce_top() -> None:
        right = operands.pop()
        operands.append(syntax.Binary(operators.pop(), operands.pop(), right))

    for i in range(1, len(items), 2):
        operator = str(items[i]).lower()
        operator = _SPELLINGS.get(operator, operator)
        while operators and _PRECEDENCE[operators[-1]] >= _PRECEDENCE[operator]:
            reduce_top()
        operators.append(operator)
        operands.append(items[i + 1])
    while operators:
        reduce_top()
    return operands[0]


@functools.cache
def _parser() -> Lark:
    grammar = resources.files("asm").joinpath("grammar.lark").read_text(encoding="utf-8")
    return Lark(
        grammar,
        parser="lalr",
        lexer="contextual",
        start=["operands", "arguments", "expression"],
        transformer=_Builder(),
        maybe_placeholders=False,
    )


@functools.lru_cache(maxsize=1 << 15)
def _parse(text: str, start: str) -> Any:
    try:
        return _parser().parse(text, start=start)
    except UnexpectedInput as error:
        raise _explain(error, text) from None
    except RecursionError:
        raise SourceError("expression is nested too deeply") from None


def parse_operands(text: str) -> tuple[syntax.Operand, ...]:
    """The operands of an instruction. Raises SourceError with a column in `text`."""
    return _parse(text, "operands")  # type: ignore[no-any-return]


def parse_arguments(text: str) -> tuple[syntax.Argument, ...]:
    """Comma-separated expressions and strings; an omitted argument is None."""
    arguments: tuple[syntax.Argument, ...] = _parse(text, "arguments")
    return () if arguments == (None,) else arguments


def parse_expression(text: str) -> Expression:
    """One expression."""
    return _parse(text, "expression")  # type: ignore[no-any-return]


# --- explaining syntax errors

_EXPECTED = {
    "SIGN": None, "BANG": None, "INVERT": None, "OPERATOR": "an operator", "SIZE": None,
    "OFFSET": None, "NUMBER": "a number", "NAME": "a name", "REGISTER": "a register",
    "RSQB": "']'", "RPAR": "')'", "COMMA": "','", "STRING": "a string", "RBRACE": "'}'",
    "$END": "end of statement",
}  # fmt: skip


def _hint(text: str, column: int) -> str | None:
    """Recognise what people write by habit from other assemblers."""
    rest, before = text[column:], text[:column]
    if rest[:1] == '"' or (rest[:1] == "\\" and '"' in before):
        return "unterminated string"
    if re.match(r"%\w|\$\w", rest) or re.search(r"\(\s*%\w+", text):
        return "this looks like AT&T syntax; only .intel_syntax noprefix is supported"
    if re.search(r"\[\s*rel\s*$", before) or re.search(r"\[\s*rel\s+\w", text):
        return "this looks like NASM syntax; write [rip + symbol]"
    if re.search(r"(?i)\b(byte|word|[dqf]word|tbyte|oword)\s*$", before) and rest[:1] == "[":
        return "a size needs 'ptr': write, say, 'dword ptr [...]'"
    opened = before.count("[") - before.count("]")
    if opened > 0 and (rest[:1] == "," or not rest):
        return "'[' is never closed"
    if before.count("(") > before.count(")") and (rest[:1] == "," or not rest):
        return "'(' is never closed"
    if re.search(r"'[^',]$", before) and re.match(r"[\w ]*'", rest):
        return "a character constant holds one character"
    if rest[:1] == "," or (not rest and before.rstrip().endswith(",")):
        return "an operand is missing"
    return None


def _explain(error: UnexpectedInput, text: str) -> SourceError:
    column, found = len(text), "end of statement"
    expected: set[str] = set()
    if isinstance(error, UnexpectedCharacters):
        column, found = error.pos_in_stream or 0, repr(text[error.pos_in_stream or 0])
        expected = set(error.allowed or ())
    elif isinstance(error, UnexpectedToken):
        expected = set(error.accepts or error.expected)
        if error.token.type != "$END":
            column, found = error.token.start_pos or 0, f"'{error.token}'"
    names = sorted({name for key in expected if (name := _EXPECTED.get(key))})
    message = _hint(text, column)
    if message is None:
        message = f"unexpected {found}"
        if names and len(names) <= 6:
            message += f"; expected {' or '.join(names)}"
    return SourceError(message, column=column)
