"""The driver: lines in, program out. Conditionals, macros, includes and error recovery.

A mistake ends its statement, not the assembly: up to MAX_ERRORS are gathered.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from asm import macros
from asm.conditions import Conditions, is_condition
from asm.directives import DIRECTIVES
from asm.errors import MAX_ERRORS, AssemblyErrors, Diagnostic, SourceError, StopAssembly
from asm.expressions import Linear, constant, evaluate
from asm.instructions import assemble_instruction
from asm.parse import parse_expression
from asm.program import Program
from asm.source import SourceLine, Statement, split_lines, statements
from asm.symbol_directives import assign

_LABEL = re.compile(r"([A-Za-z_.$\u0080-\uffff][\w.$]*|[0-9]+)[ \t]*:(?!:)[ \t]*")
_ASSIGNMENT = re.compile(r"([A-Za-z_.$\u0080-\uffff][\w.$]*)[ \t]*(==?)(?!=)[ \t]*")
_WORD = re.compile(r"[A-Za-z_.$\u0080-\uffff][\w.$]*")
_SEGMENTS = frozenset(["cs", "ds", "es", "fs", "gs", "ss"])
_MAX_DEPTH = 60
_MAX_LINES = 500_000


class Assembler:
    """Assembles one source with its includes into a Program."""

    def __init__(
        self, include: Sequence[Path], defines: Mapping[str, str | int], mode: int
    ) -> None:
        self.program = Program(mode)
        self.program.read_file = self._read_binary
        self.errors: list[Diagnostic] = []
        self.macros: dict[str, macros.Macro] = {}
        self.consulted: list[Path] = []
        """Places where files were looked for, in order."""
        self._include = [Path(directory) for directory in include]
        self._files: list[Path] = []
        self._conditions = Conditions(self.program)
        self._depth = 0
        self._lines = 0
        self._expansions = 0
        self._expanding = 0
        for name, value in defines.items():
            number = value if isinstance(value, int) else self._define(name, value)
            self.program.assign(name, Linear(number))

    def _define(self, name: str, text: str) -> int:
        try:
            return constant(evaluate(parse_expression(text or "1"), self.program))
        except SourceError as error:
            raise AssemblyErrors(
                [Diagnostic("<command line>", 1, 1, f"-D {name}: {error.message}", text)]
            ) from None

    # --- files

    def run_text(self, text: str, name: str, path: Path | None = None) -> None:
        """Assemble a whole file's text. Problems go to `errors`."""
        try:
            lines = split_lines(text, name)
        except SourceError as error:
            match = re.match(r"line (\d+): (.*)", error.message)
            assert match is not None
            number = int(match[1])
            source = text.replace("\r\n", "\n").split("\n")[number - 1]
            self._report(Diagnostic(name, number, (error.column or 0) + 1, match[2], source))
            return
        if path is not None:
            self._files.append(path)
        depth = self._conditions.depth
        try:
            self._run(lines)
            self._close_conditions(depth)
        finally:
            if path is not None:
                self._files.pop()

    def _close_conditions(self, depth: int) -> None:
        while self._conditions.depth > depth:
            opened = self._conditions.pop()
            self._report(opened.diagnostic("this condition has no .endif"))

    def _find(self, name: str) -> Path:
        here = [self._files[-1].parent] if self._files else [Path()]
        for directory in [*here, *self._include]:
            path = directory / name
            self.consulted.append(path)
            if path.is_file():
                return path
        raise SourceError(f"cannot find '{name}'", name=name)

    def _read_binary(self, name: str) -> bytes:
        try:
            return self._find(name).read_bytes()
        except (OSError, ValueError) as error:
            raise SourceError(f"cannot read '{name}': {error}") from None

    def _include_file(self, text: str) -> None:
        match = re.fullmatch(r'\s*"([^"]*)"\s*', text)
        if match is None:
            raise SourceError("expected a file name in double quotes", column=0)
        try:
            path = self._find(match[1])
            resolved = path.resolve()
            content = path.read_text(encoding="utf-8", errors="surrogateescape")
        except (OSError, ValueError) as error:
            raise SourceError(f"cannot read '{match[1]}': {error}") from None
        if resolved in [p.resolve() for p in self._files]:
            chain = " -> ".join([*(p.name for p in self._files), path.name])
            raise SourceError(f"'{match[1]}' includes itself ({chain})", column=0)
        self.run_text(content, str(path), path)

    # --- lines

    def _run(self, lines: Sequence[SourceLine]) -> None:
        self._depth += 1
        index = 0
        while index < len(lines):
            line = lines[index]
            index += 1
            self._lines += 1
            if self._lines > _MAX_LINES:
                statement = Statement(line, 0, line.code)
                self._report(statement.diagnostic(f"more than {_MAX_LINES} lines after expansion"))
                raise StopAssembly
            for statement in statements(line):
                index = self._statement(statement, lines, index)
        self._depth -= 1

    def _statement(self, statement: Statement, lines: Sequence[SourceLine], index: int) -> int:
        """Assemble one statement; block directives move `index` past their body."""
        self.program.statement = statement
        base = 0
        try:
            text = statement.text
            while match := _LABEL.match(text, base):
                if match[1].lower() in _SEGMENTS:
                    break
                if self._conditions.active:
                    self.program.define_label(match[1])
                base = match.end()
            word = _WORD.match(text, base)
            name = word[0].lower() if word else ""
            start = word.end() if word else base
            while start < len(text) and text[start] in " \t":
                start += 1
            rest = text[start:]
            if is_condition(name):
                base = start
                self._conditions.handle(name, rest, statement)
            elif name in _BLOCKS:
                base = start
                body, index = macros.take_body(lines, index)
                if self._conditions.active:
                    _BLOCKS[name](self, rest, body, statement)
            elif self._conditions.active and base < len(text):
                spelled = word[0] if word else ""
                action, base = self._action(name, spelled, text, base, start)
                action()
        except SourceError as error:
            self._report(statement.explain(error, base))
        except RecursionError:
            self._report(statement.diagnostic("this is nested too deeply"))
        return index

    def _action(
        self, name: str, spelled: str, text: str, base: int, start: int
    ) -> tuple[Callable[[], None], int]:
        """What a statement does, and the offset its error columns count from."""
        program = self.program
        if (match := _ASSIGNMENT.match(text, base)) is not None:
            symbol, once, end = match[1], match[2] == "==", match.end()
            return lambda: assign(program, symbol, text[end:], once=once), end
        macro = self.macros.get(name)
        if macro is not None:
            return lambda: self._call(macro, text[start:]), start
        if name.startswith("."):
            return lambda: self._directive(name, text[start:]), start
        return lambda: assemble_instruction(program, text[base:]), base

    # --- directives that concern the driver

    def _directive(self, name: str, text: str) -> None:
        if name == ".include":
            self._include_file(text)
        elif name == ".end":
            raise StopAssembly
        elif name == ".abort":
            raise SourceError(".abort")
        elif name == ".purgem":
            self._purge(text)
        elif name == ".exitm":
            if not self._expanding:
                raise SourceError(".exitm outside a macro or repetition", column=0)
            raise _ExitMacro
        elif name in (".endm", ".endr"):
            raise SourceError(f"{name} without a beginning", column=0)
        elif name in (".altmacro", ".noaltmacro"):
            if name == ".altmacro":
                raise SourceError("alternate macro syntax is not supported")
        else:
            handler = DIRECTIVES.get(name)
            if handler is None:
                raise self._unknown_directive(name)
            self.program.mark()
            handler(self.program, name, text)

    def _unknown_directive(self, name: str) -> SourceError:
        known = [*DIRECTIVES, *_BLOCKS, ".include", ".if", ".else", ".endif"]
        close = difflib.get_close_matches(name, known, 3)
        hint = f"; did you mean {', '.join(repr(c) for c in close)}?" if close else ""
        return SourceError(f"unknown directive '{name}'{hint}", name=name)

    def _purge(self, text: str) -> None:
        if self.macros.pop(text.strip().lower(), None) is None:
            raise SourceError(f"there is no macro '{text.strip()}'", column=0)

    # --- macros and repetition

    def _expand(
        self,
        body: Sequence[SourceLine],
        values: dict[str, str],
        counter: int | None,
        note: str = "",
        origin: tuple[str, int] | None = None,
    ) -> None:
        if self._depth > _MAX_DEPTH:
            raise SourceError("macros are nested too deeply")
        depth = self._conditions.depth
        statement = self.program.statement
        before = self._depth
        self._expanding += 1
        try:
            self._run(macros.expand(body, values, counter, note, origin))
            self._close_conditions(depth)
        except _ExitMacro:
            self._depth = before
            self._conditions.cut(depth)
        finally:
            self._expanding -= 1
        self.program.statement = statement

    def _call(self, macro: macros.Macro, text: str) -> None:
        statement = self.program.statement
        assert statement is not None
        values = macros.bind_arguments(macro, text)
        line = statement.line
        note = f"{line.file}:{line.number}: note: in expansion of macro '{macro.name}'"
        counter, self._expansions = self._expansions, self._expansions + 1
        body = [replace(inner, notes=line.notes) for inner in macro.body]
        self._expand(body, values, counter, note, line.origin)

    def _define_macro(self, text: str, body: list[SourceLine], statement: Statement) -> None:
        name, parameters = macros.parse_header(text)
        if name.lower() in self.macros:
            raise SourceError(f"macro '{name}' is already defined", column=0)
        self.macros[name.lower()] = macros.Macro(name, parameters, tuple(body))

    def _repeat(self, text: str, body: list[SourceLine], statement: Statement) -> None:
        count = constant(evaluate(parse_expression(text), self.program))
        if count * max(len(body), 1) > _MAX_LINES:
            raise SourceError(f"more than {_MAX_LINES} lines after expansion", column=0)
        for _ in range(count):
            self._expand(body, {}, None)
            if not body:
                break

    def _iterate(self, text: str, body: list[SourceLine], statement: Statement) -> None:
        name, items, _ = macros.iteration(text)
        for item in items or [""]:
            self._expand(body, {name: item}, None)

    def _iterate_characters(self, text: str, body: list[SourceLine], statement: Statement) -> None:
        name, _, characters = macros.iteration(text)
        for character in characters or [""]:
            self._expand(body, {name: character}, None)

    # --- errors

    def _report(self, diagnostic: Diagnostic) -> None:
        self.errors.append(diagnostic)
        if len(self.errors) >= MAX_ERRORS:
            raise StopAssembly


class _ExitMacro(Exception):  # noqa: N818 (control flow, not an error)
    """Leaves the innermost macro expansion (.exitm)."""


_BLOCKS: dict[str, Callable[[Assembler, str, list[SourceLine], Statement], None]] = {
    ".macro": Assembler._define_macro,
    ".rept": Assembler._repeat,
    ".irp": Assembler._iterate,
    ".irpc": Assembler._iterate_characters,
}
