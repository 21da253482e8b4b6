"""Routines of the algebra as native functions.

A routine takes the state, the translations, the exact budget and its arguments, and returns how
it ended with its results. Arithmetic flags stand in their slots while a routine runs.
"""

from vtx.engine.native.context import CONTEXT, LEFT_BY_MEMORY
from vtx.engine.native.lower import Body, result_type
from vtx.isa.flags import lower
from vtx.isa.program import Op, routine


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
        self.keep_translations(self._program.ops)
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


def entry_text(name: str) -> str:
    """`call_<name>(state)`: the routine for callers that leave its arguments in the context.

    It returns how the routine ended; its results replace the arguments.
    """
    program = routine(name)
    body = Body(())
    arguments = []
    for n, width in enumerate(program.params):
        arguments.append(f", i{width} {body.resized(body.get_word(_argument(n)), 64, width)}")
    table = body.add(f"inttoptr i64 {body.get_word(CONTEXT['tlb'])} to ptr")
    budget = body.get_word(CONTEXT["budget"])
    kind = result_type(program.results)
    call = f"call {kind} @routine_{name}(ptr %s, ptr {table}, i64 {budget}{''.join(arguments)})"
    result = body.add(call)
    for n, width in enumerate(program.results):
        value = body.add(f"extractvalue {kind} {result}, {n + 1}")
        body.set_word(_argument(n), body.resized(value, width, 64))
    status = body.add(f"extractvalue {kind} {result}, 0")
    body.line(f"ret i64 {body.resized(status, 32, 64)}")
    head = f"define dso_local i64 @call_{name}(ptr %s) nounwind {{"
    return "\n".join([declaration(name), head, *body.function_lines(), "}"])


def _argument(number: int) -> int:
    return CONTEXT[f"argument{number}"]
