"""Routines of the algebra as native functions.

A routine takes the state, the translations, the exact budget and its arguments, and returns how
it ended with its results. Arithmetic flags stand in their slots while a routine runs.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple

from vtx.engine.native.context import CONTEXT, LEFT_BY_MEMORY
from vtx.engine.native.lower import Body, called, result_type
from vtx.engine.native.numbering import WALK_LEVELS
from vtx.engine.native.text import LIKELY, UNLIKELY, Text
from vtx.isa.flags import lower
from vtx.isa.layout import SLOTS
from vtx.isa.primitives import Prim
from vtx.isa.program import Op, routine
from vtx.vmx.entry_checks import STEADY


def signature(name: str, named: bool, label: str = "routine_") -> str:
    """How the routine, or another function of its kind, is declared; `named`: for a definition."""
    arguments = "".join(
        f", i{width}" + (f" %a{n}" if named else "") for n, width in enumerate(routine(name).params)
    )
    pointers = "ptr %s, ptr %t, i64 %bud" if named else "ptr, ptr, i64"
    return f"dso_local {result_type(routine(name).results)} @{label}{name}({pointers}{arguments})"


def declaration(name: str) -> str:
    """For a module that calls the routine."""
    return f"declare {signature(name, False)}\n"


_POINTER = SLOTS["vmcs_pointer"]
_PINNED = {"ram_read": "%vmcs.read", "ram_write": "%vmcs.write"}
"""Cells of the host page of the current VMCS: by which table it was found."""


class _Way(NamedTuple):
    """Where an access to physical memory goes on; what follows is written at `ram`."""

    ram: str
    place: str
    """Host pointer there."""
    ask: str
    join: str
    """Labels: it is not plain RAM; behind the access."""


_SMALL = 400
"""Ops of a routine that callers may take into themselves."""


def callees_text(ops: Sequence[Op]) -> str:
    """The routines that ops call, for a module that calls them: small ones with their bodies."""
    texts = dict[str, str]()
    waiting = called(ops)
    while waiting:
        name = waiting.pop()
        if name not in texts:
            program = routine(name)
            texts[name] = declaration(name)
            if len(program.ops) <= _SMALL and name not in STEADY:
                texts[name] = copy_text(name)
                waiting.extend(called(program.ops))
    return "\n".join(texts.values())


def copy_text(name: str) -> str:
    """The routine again, for a module whose functions may take it into themselves."""
    return RoutineBody(name).text(linkage="available_externally")


class RoutineBody(Body):
    """Writes one routine."""

    def __init__(self, name: str) -> None:
        self._program = lower(routine(name))
        super().__init__(self._program.variables)
        self._name = name
        self._result = result_type(self._program.results)
        self._fields = vmcs_fields(self._program.ops)
        """Temporaries that hold places in the current VMCS -> offset there."""
        for n, width in enumerate(self._program.params):
            self.define(n, f"%a{n}", width)

    def text(self, label: str = "routine_", linkage: str = "") -> str:
        """The function's definition."""
        self.keep_translations(self._program.ops)
        if self._fields:
            for cell in _PINNED.values():
                self.cells.append(f"  {cell} = alloca i64")
            self._pin()
        self.write(self._program.ops)
        head = (
            f'define {signature(self._name, True, label)} nounwind section ".text.{self._name}" {{'
        )
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

    # --- physical memory ---------------------------------------------------------------------
    # Routines read a VMCS field by field and walk page tables: what functions of the runtime do
    # for RAM is written out, with the width known.
    def _op_pload(self, op: Op) -> None:
        self._load_by(self._way(op, "ram_read", op.width), op)

    def _op_walk_load(self, op: Op) -> None:
        hpa, level = self.value(op.args[0]), WALK_LEVELS[op.attr]
        count = self.get_word(CONTEXT["walk_references"])
        self.set_word(CONTEXT["walk_references"], self.add(f"add i64 {count}, 1"))
        told, onward = self.label(), self.label()
        observed = self.add(f"icmp ne i64 {self.get_word(CONTEXT['walk_observed'])}, 0")
        self.branch(observed, told, onward, UNLIKELY)
        self.place(told)
        function = self.add(f"inttoptr i64 {self.get_word(CONTEXT['on_walk_load'])} to ptr")
        self.line(f"call i64 {function}(i64 {hpa}, i64 {level})")
        self.line(f"br label %{onward}")
        self.place(onward)
        self._load_by(self._way(op, "ram_read", op.width), op)

    def _op_pstore(self, op: Op) -> None:
        hpa, value, width = self.value(op.args[0]), self.value(op.args[1]), self.width(op.args[1])
        way = self._way(op, "ram_write", width)
        self.line(f"store i{width} {value}, ptr {way.place}, align 1")
        self.line(f"br label %{way.join}")
        self.place(way.ask)
        wide = self.resized(value, width, 64)
        self.line(f"call void @physical_store(ptr %s, i64 {hpa}, i64 {wide}, i64 {width})")
        self._pin()
        self.line(f"br label %{way.join}")
        self.place(way.join)

    def _load_by(self, way: _Way, op: Op) -> None:
        hpa = self.value(op.args[0])
        fast = self.add(f"load i{op.width}, ptr {way.place}, align 1")
        self.line(f"br label %{way.join}")
        self.place(way.ask)
        slow = self.add(f"call i64 @physical_load(ptr %s, i64 {hpa}, i64 {op.width})")
        asked = self.resized(slow, 64, op.width)
        self._pin()
        self.line(f"br label %{way.join}")
        self.place(way.join)
        value = f"phi i{op.width} [ {fast}, %{way.ram} ], [ {asked}, %{way.ask} ]"
        self.define(op.dst[0], self.add(value), op.width)

    def _way(self, op: Op, table: str, width: int) -> _Way:
        """Branch by whether an access lies in a page of RAM that `table` has."""
        offset = self._fields.get(op.args[0])
        hpa = self.value(op.args[0])
        ram, ask, join = self.label(), self.label(), self.label()
        if offset is not None:
            page = self.add(f"load i64, ptr {_PINNED[table]}")
        else:
            page = self._page_of(table, hpa, ask)
        fits = self.add(f"icmp ne i64 {page}, 0")
        inside = str(offset)
        if offset is None:
            inside = self.add(f"and i64 {hpa}, 4095")
            if width > 8:
                whole = self.add(f"icmp ule i64 {inside}, {4096 - width // 8}")
                fits = self.add(f"and i1 {fits}, {whole}")
        self.branch(fits, ram, ask, LIKELY)
        self.place(ram)
        place = self.add(f"inttoptr i64 {self.add(f'add i64 {page}, {inside}')} to ptr")
        return _Way(ram, place, ask, join)

    def _page_of(self, table: str, hpa: str, beyond: str) -> str:
        """Host address of a page, 0 if the table has it not; to `beyond` if it cannot."""
        look = self.label()
        page = self.add(f"lshr i64 {hpa}, 12")
        known = self.add(f"icmp ult i64 {page}, {self.get_word(CONTEXT['ram_pages'])}")
        self.branch(known, look, beyond, LIKELY)
        self.place(look)
        return _entry_of(self, table, page)

    # --- the current VMCS --------------------------------------------------------------------
    # Its page is looked up where the routine begins, and behind whatever may have asked Python.
    def _pin(self) -> None:
        """Note the host page of the current VMCS for reading and writing; 0: not plain RAM."""
        if self._fields:
            for table, cell in _PINNED.items():
                self.line(f"store i64 {page_of_vmcs(self, table)}, ptr {cell}")

    def _op_call(self, op: Op) -> None:
        super()._op_call(op)
        self._pin()

    def _op_service(self, op: Op) -> None:
        super()._op_service(op)
        self._pin()

    def _op_load(self, op: Op) -> None:
        super()._op_load(op)
        self._pin()

    def _op_store(self, op: Op) -> None:
        super()._op_store(op)
        self._pin()

    def _op_probe(self, op: Op) -> None:
        super()._op_probe(op)
        self._pin()

    def _op_return(self, op: Op) -> None:
        result = "zeroinitializer"
        for n, (temp, width) in enumerate(zip(op.args, self._program.results, strict=True)):
            value = self.value(temp)
            result = self.add(f"insertvalue {self._result} {result}, i{width} {value}, {n + 1}")
        self.line(f"ret {self._result} {result}")
        self.ended = True


def page_of_vmcs(text: Text, table: str) -> str:
    """Host address of the page of the current VMCS if `table` has it, or 0."""
    pointer = text.get_word(_POINTER)
    page = text.add(f"lshr i64 {pointer}, 12")
    known = text.add(f"icmp ult i64 {page}, {text.get_word(CONTEXT['ram_pages'])}")
    aligned = text.add(f"icmp eq i64 {text.add(f'and i64 {pointer}, 4095')}, 0")
    usable = text.add(f"and i1 {known}, {aligned}")
    host = _entry_of(text, table, text.add(f"select i1 {usable}, i64 {page}, i64 0"))
    return text.add(f"select i1 {usable}, i64 {host}, i64 0")


def _entry_of(text: Text, table: str, page: str) -> str:
    pages = text.add(f"inttoptr i64 {text.get_word(CONTEXT[table])} to ptr")
    return text.add(f"load i64, ptr {text.add(f'getelementptr i64, ptr {pages}, i64 {page}')}")


def vmcs_fields(ops: Sequence[Op]) -> dict[int, int]:
    """Temporaries that hold the current VMCS's place plus an offset -> the offset.

    None where some of the ops may make another VMCS the current one.
    """
    if _changes_vmcs(ops):
        return {}
    pointers, numbers, fields = set[int](), dict[int, int](), dict[int, int]()
    for op in ops:
        if op.prim is Prim.GET and op.attr == _POINTER and op.width == 64:
            pointers.add(op.dst[0])
        elif op.prim is Prim.CONST:
            numbers[op.dst[0]] = op.attr
        elif op.prim is Prim.ADD and op.args[0] in pointers and op.args[1] in numbers:
            offset = numbers[op.args[1]]
            if offset <= 4096 - 8:
                fields[op.dst[0]] = offset
    return fields


def _changes_vmcs(ops: Iterable[Op]) -> bool:
    return any(
        (op.prim is Prim.PUT and op.attr == _POINTER)
        or (op.prim is Prim.CALL and _routine_changes_vmcs(op.attr))
        for op in ops
    )


@cache
def _routine_changes_vmcs(name: str) -> bool:
    return _changes_vmcs(routine(name).ops)


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
