"""Values of a region that are written where they are asked for.

Most of what an instruction computes for the flags is only wanted on a cold way out, if at all.
So pure operations are remembered and written at their first use; a use on a way that is not
always taken does not count for the others. Nothing here knows flags, memory or ends.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from vtx.engine.native.lower import Body
from vtx.engine.native.pure import pure_lines
from vtx.engine.native.region_plan import Step
from vtx.engine.native.text import constant
from vtx.isa.primitives import PURE, Prim
from vtx.isa.program import Op


class Lazy:
    """A value that has perhaps been written already."""

    __slots__ = ("text", "write")

    def __init__(self, write: Callable[[], str]) -> None:
        self.write = write
        """Writes it here and now; its text."""
        self.text = ""
        """Its text, valid wherever the value may be asked for; "" if it is not written."""


Text = str | Lazy


class Scope:
    """The temporaries of one instruction, or of one fragment (then without a step)."""

    __slots__ = ("names", "step", "widths")

    def __init__(self, step: Step | None) -> None:
        self.step = step
        self.names: dict[int, Text] = {}
        self.widths: dict[int, int] = {}


class ValueBody(Body):
    """Writes values."""

    def __init__(self) -> None:
        super().__init__(())
        self._scope = Scope(None)
        self._depth = 0
        """IFs around what is being written."""
        self._is_cold = False
        """What is being written does not come before what follows in the text."""
        self._written: dict[Lazy, str] = {}
        """Values written on the way that is being written, and valid on no other."""

    def text_of(self, value: Text) -> str:
        """The text of a value, which is written here if need be."""
        if isinstance(value, str):
            return value
        text = value.text or self._written.get(value)
        if not text:
            text = value.write()
            if self._depth or self._is_cold:
                self._written[value] = text
            else:
                value.text = text
        return text

    @contextmanager
    def cold(self) -> Iterator[None]:
        """What is written meanwhile lies on a way of its own."""
        outer, self._is_cold = self._is_cold, True
        yield
        self._is_cold = outer

    def place(self, label: str) -> None:
        super().place(label)
        self._written.clear()

    def _if(self, ops: Sequence[Op], at: int) -> int:
        self.value(ops[at].args[0])  # written before the ways part
        self._depth += 1
        behind = super()._if(ops, at)
        self._depth -= 1
        return behind

    # --- temporaries ---------------------------------------------------------------------------
    def value(self, temp: int) -> str:
        return self._value_in(self._scope, temp)

    def _value_in(self, scope: Scope, temp: int) -> str:
        if temp >= 0:
            return self.text_of(scope.names[temp])
        width = self._width_in(scope, temp)
        assert scope.step is not None
        return constant(scope.step.numbers[-1 - temp] & ((1 << width) - 1), width)

    def later(self, temp: int) -> Text:
        """The value of a temporary, for whoever may never need it."""
        scope = self._scope
        return scope.names[temp] if temp >= 0 else self._value_in(scope, temp)

    def width(self, temp: int) -> int:
        return self._width_in(self._scope, temp)

    def _width_in(self, scope: Scope, temp: int) -> int:
        if temp >= 0:
            return scope.widths[temp]
        assert scope.step is not None
        return scope.step.hole_width(temp)

    def define(self, temp: int, text: str, width: int) -> None:
        self._scope.names[temp], self._scope.widths[temp] = text, width

    def _one(self, ops: Sequence[Op], at: int) -> int:
        op = ops[at]
        if op.prim not in PURE or op.prim is Prim.CONST:
            return super()._one(ops, at)
        scope = self._scope
        scope.names[op.dst[0]] = Lazy(lambda: self._write_pure(scope, op))
        scope.widths[op.dst[0]] = op.width
        return at + 1

    def _write_pure(self, scope: Scope, op: Op) -> str:
        arguments = [self._value_in(scope, temp) for temp in op.args]
        lines, result = pure_lines(op, arguments, self.fresh)
        self.lines.extend(f"  {line}" for line in lines)
        return result

    def fragment(self, ops: tuple[Op, ...], inputs: Sequence[Text]) -> dict[int, Text]:
        """The values by temporary of pure ops over `inputs`."""
        outer, self._scope = self._scope, Scope(None)
        self._scope.names = dict(enumerate(inputs))
        self.write(ops)
        values, self._scope = self._scope.names, outer
        return values
