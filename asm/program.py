"""The program being built: sections, symbols, the current place and mode.

Directives and instructions write here. Knows nothing of source text or of addresses.
"""

from __future__ import annotations

from collections.abc import Callable

from asm.errors import Diagnostic, SourceError
from asm.expressions import Linear, Value, fits_in
from asm.fragments import Fixup, Fragment, Mark, Section, Symbol, Tail
from asm.source import Statement

MAX_SECTION_BYTES = 256 << 20

_DEFAULTS = {
    "text": ("ax", "progbits"), "init": ("ax", "progbits"), "fini": ("ax", "progbits"),
    "data": ("aw", "progbits"), "bss": ("aw", "nobits"), "rodata": ("a", "progbits"),
    "note": ("", "note"), "tbss": ("awT", "nobits"), "tdata": ("awT", "progbits"),
    "init_array": ("aw", "init_array"), "fini_array": ("aw", "fini_array"),
}  # fmt: skip


def default_attributes(name: str) -> tuple[str, str]:
    """The flags and type GNU as gives a section of this name when the source gives none."""
    parts = name.split(".")
    return _DEFAULTS.get(parts[1] if len(parts) > 1 else "", ("", "progbits"))


def _no_files(name: str) -> bytes:
    raise SourceError(f"cannot find '{name}'")


class Program:
    """The state an assembly builds up; `statement` is the one being assembled."""

    def __init__(self, mode: int) -> None:
        self.mode = mode
        self.modes_used: set[int] = set()
        self.sections: dict[str, Section] = {}
        self.symbols: dict[str, Symbol] = {}
        self.warnings: list[Diagnostic] = []
        self.statement: Statement | None = None
        self.read_file: Callable[[str], bytes] = _no_files
        self.allow_64_bit = True
        self._locals: dict[int, int] = {}
        self._local_symbols: dict[tuple[int, int], Symbol] = {}
        self._stack: list[tuple[tuple[Section, int], tuple[Section, int]]] = []
        for name in (".text", ".data", ".bss"):
            self.sections[name] = Section(name, *default_attributes(name))
        self._place = self._previous = (self.sections[".text"], 0)

    def set_mode(self, mode: int) -> None:
        """Switch between 16-, 32- and 64-bit code."""
        if mode == 64 and not self.allow_64_bit:
            raise SourceError("64-bit code cannot stand in a 32-bit file")
        self.mode = mode

    # --- places

    @property
    def section(self) -> Section:
        return self._place[0]

    @property
    def fragment(self) -> Fragment:
        section, subsection = self._place
        return section.open_subsection(subsection)[-1]

    def enter(self, section: Section, subsection: int = 0) -> None:
        """Make a section current; `.previous` returns to the one before."""
        self._previous, self._place = self._place, (section, subsection)

    def enter_previous(self) -> None:
        self._previous, self._place = self._place, self._previous

    def push_section(self) -> None:
        self._stack.append((self._place, self._previous))

    def pop_section(self) -> None:
        if not self._stack:
            raise SourceError(".popsection without .pushsection")
        self._place, self._previous = self._stack.pop()

    def open_section(self, name: str, flags: str | None, kind: str | None) -> Section:
        """The section of this name, made with the given or default attributes."""
        section = self.sections.get(name)
        if section is None:
            default_flags, default_kind = default_attributes(name)
            section = Section(name, default_flags if flags is None else flags, kind or default_kind)
            self.sections[name] = section
        elif flags is not None and set(flags) != set(section.flags):
            raise SourceError(
                f'section \'{name}\' already has flags "{section.flags}", not "{flags}"'
            )
        return section

    # --- symbols (the Scope of expressions)

    def symbol(self, name: str) -> Symbol:
        """The symbol of this name, created undefined on first mention."""
        symbol = self.symbols.get(name)
        if symbol is None:
            symbol = self.symbols[name] = Symbol(name)
        if symbol.first_use is None:
            symbol.first_use = self.statement
        return symbol

    def local(self, number: int, forward: bool) -> Symbol:
        count = self._locals.get(number, 0)
        if not forward and not count:
            raise SourceError(f"there is no label '{number}:' before this", name=f"{number}b")
        return self._local_symbol(number, count + forward)

    def _local_symbol(self, number: int, instance: int) -> Symbol:
        symbol = self._local_symbols.get((number, instance))
        if symbol is None:
            symbol = Symbol(f"{number}", internal=True, first_use=self.statement)
            self._local_symbols[number, instance] = symbol
        return symbol

    def here(self) -> Symbol:
        fragment = self.fragment
        return Symbol(".", fragment, len(fragment.data), internal=True)

    def undefined_locals(self) -> list[Symbol]:
        """Numeric labels that were referred to with `f` but never came."""
        return [s for s in self._local_symbols.values() if not s.is_defined]

    def declare(self, name: str) -> Symbol:
        """The symbol of this name, without counting as a use of it."""
        return self.symbols.setdefault(name, Symbol(name))

    def define_label(self, name: str) -> None:
        if name[0] in "0123456789":
            if len(name) > 9:
                raise SourceError("label number is too long", name=name)
            number = int(name)
            self._locals[number] = self._locals.get(number, 0) + 1
            symbol = self._local_symbol(number, self._locals[number])
        else:
            symbol = self.symbols.setdefault(name, Symbol(name))
            if symbol.is_defined or symbol.kind == "common":
                where = symbol.definition
                at = f" at {where.line.file}:{where.line.number}" if where else ""
                raise SourceError(f"symbol '{name}' is already defined{at}", name=name)
        symbol.fragment, symbol.offset = self.fragment, len(self.fragment.data)
        symbol.definition = self.statement

    def assign(self, name: str, value: Value, *, once: bool = False) -> None:
        """Give a symbol a value (`.set`, `=`); `once` refuses to redefine it (`.equiv`)."""
        symbol = self.symbols.setdefault(name, Symbol(name))
        if symbol.fragment is not None or (symbol.is_defined and (once or not symbol.redefinable)):
            raise SourceError(f"symbol '{name}' is already defined", name=name)
        symbol.value, symbol.redefinable = value, not once
        symbol.definition = self.statement

    # --- emission

    def mark(self, *, is_code: bool = False) -> None:
        """Remember that the current statement starts here, for listings and debuggers."""
        assert self.statement is not None
        fragment = self.fragment
        self.section.marks.append(Mark(self.statement.line, fragment, len(fragment.data), is_code))

    def emit(self, data: bytes) -> None:
        if self.section.is_nobits and any(data):
            raise SourceError(f"section '{self.section.name}' holds no bytes, only zeros")
        fragment = self.fragment
        fragment.data += data

    def emit_value(self, value: Value, size: int) -> None:
        """A little-endian number of `size` bytes; symbolic values become fixups."""
        if isinstance(value, Linear) and not value.terms:
            number = value.constant
            if not fits_in(number, size):
                self.warn(f"value {number:#x} is truncated to {size} byte(s)")
            self.emit((number & ((1 << (8 * size)) - 1)).to_bytes(size, "little"))
            return
        self.add_fixup(Fixup(len(self.fragment.data), size, value, self._current()))
        self.emit(bytes(size))

    def add_fixup(self, fixup: Fixup) -> None:
        if self.section.is_nobits:
            raise SourceError(f"section '{self.section.name}' holds no bytes, only zeros")
        self.fragment.fixups.append(fixup)

    def close_fragment(self, tail: Tail) -> None:
        """End the current fragment with a tail whose size layout decides."""
        section, subsection = self._place
        fragments = section.open_subsection(subsection)
        fragments[-1].tail = tail
        fragments.append(Fragment(section, len(fragments)))

    def warn(self, message: str) -> None:
        self.warnings.append(self._current().diagnostic(message, severity="warning"))

    def _current(self) -> Statement:
        assert self.statement is not None
        return self.statement
