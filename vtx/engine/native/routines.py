"""Routines of the algebra as native functions.

A routine takes the state, the translations, the exact budget and its arguments, and returns how
it ended with its results. Arithmetic flags stand in their slots while a routine runs.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple

from vtx.engine.native.context import CONTEXT, LEFT_BY_MEMORY
from vtx.engine.native.lower import Body, result_type
from vtx.engine.native.numbering import WALK_LEVELS
from vtx.engine.native.text import LIKELY, UNLIKELY
from vtx.isa.flags import lower
from vtx.isa.layout import SLOTS
from vtx.isa.primitives import Prim
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


_POINTER = SLOTS["vmcs_pointer"]
_PINNED_READ, _PINNED_WRITE = "%vmcs.read", "%vmcs.write"


class _Hit(NamedTuple):
    """Where an access to RAM goes on, and the host address of its page."""

    label: str
    page: str


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

    def text(self) -> str:
        """The function's definition."""
        self.keep_translations(self._program.ops)
        if self._fields:
            for cell in (_PINNED_READ, _PINNED_WRITE):
                self.cells.append(f"  {cell} = alloca i64")
            self._pin()
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

    # --- physical memory ---------------------------------------------------------------------
    # Routines read a VMCS field by field and walk page tables: what functions of the runtime do
    # for RAM is written out, with the width known.
    def _op_pload(self, op: Op) -> None:
        hpa = self.value(op.args[0])
        if op.args[0] in self._fields:
            self._read_field(op, self._fields[op.args[0]])
            return
        slow = f"call i64 @physical_load(ptr %s, i64 {hpa}, i64 {op.width})"
        self._read(op, hpa, slow)

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
        slow = f"call i64 @physical_load(ptr %s, i64 {hpa}, i64 {op.width})"
        self._read(op, hpa, slow)

    def _read(self, op: Op, hpa: str, slow: str) -> None:
        hit, miss, join = self._ram("ram_read", hpa, op.width)
        self.place(hit.label)
        fast = self.add(f"load i{op.width}, ptr {self._inside(hit.page, hpa)}, align 1")
        self.line(f"br label %{join}")
        self.place(miss)
        asked = self.resized(self.add(slow), 64, op.width)
        self._pin()
        self.line(f"br label %{join}")
        self.place(join)
        value = f"phi i{op.width} [ {fast}, %{hit.label} ], [ {asked}, %{miss} ]"
        self.define(op.dst[0], self.add(value), op.width)

    def _op_pstore(self, op: Op) -> None:
        hpa, value, width = self.value(op.args[0]), self.value(op.args[1]), self.width(op.args[1])
        if op.args[0] in self._fields:
            self._write_field(op, self._fields[op.args[0]])
            return
        hit, miss, join = self._ram("ram_write", hpa, width)
        self.place(hit.label)
        self.line(f"store i{width} {value}, ptr {self._inside(hit.page, hpa)}, align 1")
        self.line(f"br label %{join}")
        self.place(miss)
        wide = self.resized(value, width, 64)
        self.line(f"call void @physical_store(ptr %s, i64 {hpa}, i64 {wide}, i64 {width})")
        self._pin()
        self.line(f"br label %{join}")
        self.place(join)

    # --- the current VMCS --------------------------------------------------------------------
    # Its page is looked up where the routine begins, and behind whatever may have asked Python.
    def _pin(self) -> None:
        """Note the host page of the current VMCS for reading and writing; 0: not plain RAM."""
        if not self._fields:
            return
        pointer = self.get_word(_POINTER)
        page = self.add(f"lshr i64 {pointer}, 12")
        known = self.add(f"icmp ult i64 {page}, {self.get_word(CONTEXT['ram_pages'])}")
        aligned = self.add(f"icmp eq i64 {self.add(f'and i64 {pointer}, 4095')}, 0")
        usable = self.add(f"and i1 {known}, {aligned}")
        index = self.add(f"select i1 {usable}, i64 {page}, i64 0")
        for table, cell in (("ram_read", _PINNED_READ), ("ram_write", _PINNED_WRITE)):
            pages = self.add(f"inttoptr i64 {self.get_word(CONTEXT[table])} to ptr")
            place = self.add(f"getelementptr i64, ptr {pages}, i64 {index}")
            host = self.add(f"load i64, ptr {place}")
            self.line(f"store i64 {self.add(f'select i1 {usable}, i64 {host}, i64 0')}, ptr {cell}")

    def _pinned(self, cell: str, offset: int) -> tuple[str, str, str, str]:
        """Branch by whether the VMCS is plain RAM: both labels, the one behind, the place."""
        hit, miss, join = self.label(), self.label(), self.label()
        host = self.add(f"load i64, ptr {cell}")
        self.branch(self.add(f"icmp ne i64 {host}, 0"), hit, miss, LIKELY)
        self.place(hit)
        place = self.add(f"inttoptr i64 {self.add(f'add i64 {host}, {offset}')} to ptr")
        return hit, miss, join, place

    def _read_field(self, op: Op, offset: int) -> None:
        hpa = self.value(op.args[0])
        hit, miss, join, place = self._pinned(_PINNED_READ, offset)
        fast = self.add(f"load i{op.width}, ptr {place}, align 1")
        self.line(f"br label %{join}")
        self.place(miss)
        slow = self.add(f"call i64 @physical_load(ptr %s, i64 {hpa}, i64 {op.width})")
        asked = self.resized(slow, 64, op.width)
        self._pin()
        self.line(f"br label %{join}")
        self.place(join)
        value = f"phi i{op.width} [ {fast}, %{hit} ], [ {asked}, %{miss} ]"
        self.define(op.dst[0], self.add(value), op.width)

    def _write_field(self, op: Op, offset: int) -> None:
        hpa, value, width = self.value(op.args[0]), self.value(op.args[1]), self.width(op.args[1])
        _, miss, join, place = self._pinned(_PINNED_WRITE, offset)
        self.line(f"store i{width} {value}, ptr {place}, align 1")
        self.line(f"br label %{join}")
        self.place(miss)
        wide = self.resized(value, width, 64)
        self.line(f"call void @physical_store(ptr %s, i64 {hpa}, i64 {wide}, i64 {width})")
        self._pin()
        self.line(f"br label %{join}")
        self.place(join)

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

    def _ram(self, table: str, hpa: str, width: int) -> tuple["_Hit", str, str]:
        """Branch by whether an access lies in a page of RAM: labels of both cases and behind."""
        look, hit, miss, join = self.label(), self.label(), self.label(), self.label()
        page = self.add(f"lshr i64 {hpa}, 12")
        known = self.add(f"icmp ult i64 {page}, {self.get_word(CONTEXT['ram_pages'])}")
        self.branch(known, look, miss, LIKELY)
        self.place(look)
        pages = self.add(f"inttoptr i64 {self.get_word(CONTEXT[table])} to ptr")
        place = self.add(f"getelementptr i64, ptr {pages}, i64 {page}")
        host = self.add(f"load i64, ptr {place}")
        fits = self.add(f"icmp ne i64 {host}, 0")
        if width > 8:
            inside = self.add(f"and i64 {hpa}, 4095")
            whole = self.add(f"icmp ule i64 {inside}, {4096 - width // 8}")
            fits = self.add(f"and i1 {fits}, {whole}")
        self.branch(fits, hit, miss, LIKELY)
        return _Hit(hit, host), miss, join

    def _inside(self, page: str, hpa: str) -> str:
        """Host pointer of a physical address, by the host address of its page."""
        inside = self.add(f"and i64 {hpa}, 4095")
        return self.add(f"inttoptr i64 {self.add(f'add i64 {page}, {inside}')} to ptr")

    def _op_return(self, op: Op) -> None:
        result = "zeroinitializer"
        for n, (temp, width) in enumerate(zip(op.args, self._program.results, strict=True)):
            value = self.value(temp)
            result = self.add(f"insertvalue {self._result} {result}, i{width} {value}, {n + 1}")
        self.line(f"ret {self._result} {result}")
        self.ended = True


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
