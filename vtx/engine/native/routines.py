"""Routines of the algebra as native functions.

A routine takes the state, the translations, the exact budget and its arguments, and returns how
it ended with its results. Arithmetic flags stand in their slots while a routine runs.
"""

from collections.abc import Iterable

from vtx.engine.native.context import LEFT_BY_MEMORY
from vtx.engine.native.lower import Body, result_type
from vtx.isa.flags import lower
from vtx.isa.primitives import Prim
from vtx.isa.program import Op, routine


def called(ops: Iterable[Op]) -> list[str]:
    """Routines that ops call, each once, in order."""
    return list(dict.fromkeys(op.attr for op in ops if op.prim is Prim.CALL))


def _signature(name: str, named: bool) -> str:
    arguments = "".join(
        f", i{width}" + (f" %a{n}" if named else "") for n, width in enumerate(routine(name).params)
    )
    pointers = "ptr %s, ptr %t, i64 %bud" if named else "ptr, ptr, i64"
    return f"dso_local {result_type(routine(name).results)} @routine_{name}({pointers}{arguments})"


def declaration(name: str) -> str:
    """For a module that calls the routine."""
    return f"declare {_signature(name, False)}\n"


class RoutineBody(Body):
    """Writes one routine."""

    def __init__(self, name: str) -> None:
        self._program = lower(routine(name))
        super().__init__(self._program.variables)
        self._name = name
        self._result = result_type(self._program.results)
        for n, width in enumerate(self._program.params):
            self.define(n, f"%a{n}", width)

    def text(self) -> str:
        """The function's definition."""
        self.write(self._program.ops)
        head = f'define {_signature(self._name, True)} nounwind section ".text.{self._name}" {{'
        return "\n".join([head, *self.function_lines(), "}"])

    def exact_budget(self) -> str:
        return "%bud"

    def abandon(self, status: str = str(LEFT_BY_MEMORY)) -> None:
        narrow = status if not status.startswith("%") else self.resized(status, 64, 32)
        failed = self.add(f"insertvalue {self._result} zeroinitializer, i32 {narrow}, 0")
        self.line(f"ret {self._result} {failed}")
        self.ended = True

    def stored_slowly(self, status: str) -> None:
        """The machine notices a store to code or a device when the instruction is complete."""

    def _op_return(self, op: Op) -> None:
        result = "zeroinitializer"
        for n, (temp, width) in enumerate(zip(op.args, self._program.results, strict=True)):
            value = self.value(temp)
            result = self.add(f"insertvalue {self._result} {result}, i{width} {value}, {n + 1}")
        self.line(f"ret {self._result} {result}")
        self.ended = True
