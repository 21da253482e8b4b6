"""A function of LLVM text IR while it is written: its lines, its values, its way to the state.

The function has a parameter `%s`, which points to the state words. What the lines compute is
not known here.
"""

from collections.abc import Sequence

LIKELY, UNLIKELY = "!prof !0", "!prof !1"
"""Weights of a branch: almost always, almost never."""
METADATA = """
!0 = !{!"branch_weights", i32 100000, i32 1}
!1 = !{!"branch_weights", i32 1, i32 100000}
"""
"""Of every module whose branches have weights."""


class Text:
    """One function, line by line. Temporaries have a name and a width."""

    def __init__(self, variables: Sequence[int]) -> None:
        self.lines: list[str] = []
        self.cells: list[str] = []
        """Stack cells, which LLVM turns into registers if they stand at the function's start."""
        self._count = 0
        self._names: dict[int, str] = {}
        self._widths: dict[int, int] = {}
        self.variables = variables
        self.ended = False
        """The code just written does not go on."""

    # --- lines -----------------------------------------------------------------------------
    def line(self, text: str) -> None:
        self.lines.append(f"  {text}")

    def fresh(self) -> str:
        self._count += 1
        return f"%v{self._count}"

    def add(self, instruction: str) -> str:
        name = self.fresh()
        self.line(f"{name} = {instruction}")
        return name

    def label(self) -> str:
        self._count += 1
        return f"L{self._count}"

    def place(self, label: str) -> None:
        """Go on at `label`."""
        self.lines.append(f"{label}:")
        self.ended = False

    def branch(self, condition: str, then: str, otherwise: str, weight: str = "") -> None:
        suffix = f", {weight}" if weight else ""
        self.line(f"br i1 {condition}, label %{then}, label %{otherwise}{suffix}")

    def cell(self, width: int) -> str:
        """A new local variable; its address."""
        name = self.fresh()
        self.cells.append(f"  {name} = alloca i{width}")
        return name

    def function_lines(self) -> list[str]:
        """The function's lines: its cells, then what was written."""
        variables = [f"  %var{n} = alloca i{width}" for n, width in enumerate(self.variables)]
        return ["entry:", *variables, *self.cells, *self.lines]

    # --- values ----------------------------------------------------------------------------
    def value(self, temp: int) -> str:
        return self._names[temp]

    def define(self, temp: int, text: str, width: int) -> None:
        self._names[temp] = text
        self._widths[temp] = width

    def width(self, temp: int) -> int:
        return self._widths[temp]

    def resized(self, text: str, source: int, target: int) -> str:
        """`text` of `source` bits, zero-extended or cut to `target` bits."""
        if source == target:
            return text
        return self.add(f"{'zext' if target > source else 'trunc'} i{source} {text} to i{target}")

    # --- state -----------------------------------------------------------------------------
    def word(self, index: int) -> str:
        """Pointer to a state or context word."""
        return self.add(f"getelementptr i8, ptr %s, i64 {8 * index}")

    def slot(self, attr: int) -> str:
        """Pointer to a slot as GET and PUT name it."""
        return self.word(attr)

    def set_word(self, index: int, value: str) -> None:
        self.line(f"store i64 {value}, ptr {self.word(index)}")

    def get_word(self, index: int) -> str:
        return self.add(f"load i64, ptr {self.word(index)}")


def constant(number: int, width: int) -> str:
    """A constant as LLVM reads it."""
    if width == 1:
        return "true" if number else "false"
    return str(number)
