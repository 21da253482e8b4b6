"""From ops of the algebra to LLVM text IR: what stencils and routines have in common.

A `Body` writes the ops of one program. Where its registers, numbers and ends go is decided by
the subclass. The only thing assumed of the surroundings are the two pointers `%s` (the state
words) and `%t` (the translations of the current address space).
"""

from collections.abc import Iterable, Sequence
from functools import cache

from vtx.engine.native.context import CONTEXT, LEFT_BY_MEMORY, TLB_ENTRIES, TLB_TABLE
from vtx.engine.native.numbering import PRIVILEGE_NUMBER, SERVICES, WALK_LEVELS, describe_access
from vtx.engine.native.pure import HANDLED, pure_lines
from vtx.engine.native.text import LIKELY, UNLIKELY, Text, constant
from vtx.isa.layout import SLOTS
from vtx.isa.primitives import PURE, Prim
from vtx.isa.program import Access, Op, Service, routine
from vtx.isa.tables import table

_VECTOR, _ERROR, _HAS_ERROR = (SLOTS[f"fault_{n}"] for n in ("vector", "error", "has_error"))
_EXIT_REASON = SLOTS["exit_reason"]
_NATIVE_SERVICES = {
    Service.CONTEXT: "context", Service.FLUSH_TLB: "flush_tlb", Service.CPUID: "answer_cpuid",
}  # fmt: skip
"""Services with functions that ask Python only for what they do not know."""


class Body(Text):
    """Writes the ops of one program."""

    def __init__(self, variables: Sequence[int]) -> None:
        super().__init__(variables)
        self._translations = ""
        """Cell of the current translations, where they are not always those passed on."""

    @classmethod
    def handled(cls) -> frozenset[Prim]:
        """The primitives it can write."""
        own = {prim for prim in Prim if hasattr(cls, f"_op_{prim.name.lower()}")}
        return HANDLED | own | {Prim.CONST, Prim.IF, Prim.ELSE, Prim.END}

    # --- ops -------------------------------------------------------------------------------
    def write(self, ops: Sequence[Op]) -> None:
        at = 0
        while at < len(ops):
            at = self._one(ops, at)

    def _one(self, ops: Sequence[Op], at: int) -> int:
        op = ops[at]
        if op.prim is Prim.IF:
            return self._if(ops, at)
        if op.prim is Prim.CONST:
            self.define(op.dst[0], constant(op.attr, op.width), op.width)
        elif op.prim in PURE:
            lines, result = pure_lines(op, [self.value(t) for t in op.args], self.fresh)
            self.lines.extend(f"  {line}" for line in lines)
            self.define(op.dst[0], result, op.width)
        else:
            getattr(self, f"_op_{op.prim.name.lower()}")(op)
        return at + 1

    def _if(self, ops: Sequence[Op], at: int) -> int:
        then, otherwise, after = self.label(), self.label(), self.label()
        self.branch(self.value(ops[at].args[0]), then, otherwise)
        self.place(then)
        at = self._until_end(ops, at + 1)
        then_ended = self.ended
        if not then_ended:
            self.line(f"br label %{after}")
        self.place(otherwise)
        if ops[at].prim is Prim.ELSE:
            at = self._until_end(ops, at + 1)
        if not self.ended:
            self.line(f"br label %{after}")
        if then_ended and self.ended:
            return at + 1
        self.place(after)
        return at + 1

    def _until_end(self, ops: Sequence[Op], at: int) -> int:
        while ops[at].prim not in (Prim.ELSE, Prim.END):
            at = self._one(ops, at)
        return at

    def _op_get(self, op: Op) -> None:
        text = self.add(f"load i64, ptr {self.slot(op.attr)}")
        self.define(op.dst[0], self.resized(text, 64, op.width), op.width)

    def _op_put(self, op: Op) -> None:
        value = self.resized(self.value(op.args[0]), self.width(op.args[0]), 64)
        self.line(f"store i64 {value}, ptr {self.slot(op.attr)}")

    def _op_getvar(self, op: Op) -> None:
        self.define(op.dst[0], self.add(f"load i{op.width}, ptr %var{op.attr}"), op.width)

    def _op_setvar(self, op: Op) -> None:
        self.line(f"store i{op.width} {self.value(op.args[0])}, ptr %var{op.attr}")

    def _op_lookup(self, op: Op) -> None:
        name, default = op.attr
        entries = table(name)
        width, index = self.width(op.args[0]), self.value(op.args[0])
        done = self.label()
        cell = self.cell(op.width)
        self.line(f"store i{op.width} {constant(default, op.width)}, ptr {cell}")
        labels = {key: self.label() for key in entries}
        cases = " ".join(f"i{width} {constant(key, width)}, label %{labels[key]}" for key in labels)
        self.line(f"switch i{width} {index}, label %{done} [{cases}]")
        for key, label in labels.items():
            self.place(label)
            self.line(f"store i{op.width} {constant(entries[key], op.width)}, ptr {cell}")
            self.line(f"br label %{done}")
        self.place(done)
        self.define(op.dst[0], self.add(f"load i{op.width}, ptr {cell}"), op.width)

    # --- translations ------------------------------------------------------------------------
    def keep_translations(self, ops: Sequence[Op]) -> None:
        """Called before `ops` are written: some of them may make other translations current."""
        if changes_translations(ops):
            self._translations = self.fresh()
            self.cells.append(f"  {self._translations} = alloca ptr")
            self.line(f"store ptr %t, ptr {self._translations}")

    def translations(self) -> str:
        """Pointer to the translations of the current address space."""
        return self.add(f"load ptr, ptr {self._translations}") if self._translations else "%t"

    def _translations_changed(self) -> None:
        current = self.add(f"inttoptr i64 {self.get_word(CONTEXT['tlb'])} to ptr")
        self.line(f"store ptr {current}, ptr {self._translations}")

    # --- linear memory -----------------------------------------------------------------------
    def _entry(self, gva: str, access: Access) -> str:
        """Pointer to the entry of the translations that `gva` would be in."""
        index = self.add(f"lshr i64 {gva}, 7")
        index = self.add(f"and i64 {index}, {(TLB_ENTRIES - 1) * 32}")
        offset = PRIVILEGE_NUMBER[access.privilege] * TLB_TABLE
        if offset:
            index = self.add(f"or disjoint i64 {index}, {offset}")
        return self.add(f"getelementptr i8, ptr {self.translations()}, i64 {index}")

    def _hit(self, entry: str, gva: str, access: Access, size: int) -> str:
        """The entry translates all `size` bytes from `gva` for this access."""
        tag = self.add(f"getelementptr i8, ptr {entry}, i64 8") if access.write else entry
        known = self.add(f"load i64, ptr {tag}")
        last = self.add(f"add i64 {gva}, {size - 1}") if size > 1 else gva
        page = self.add(f"and i64 {last}, -4096")
        return self.add(f"icmp eq i64 {known}, {page}")

    def _host(self, entry: str, gva: str) -> str:
        """Host pointer of `gva`, by its entry."""
        field = self.add(f"getelementptr i8, ptr {entry}, i64 16")
        distance = self.add(f"load i64, ptr {field}")
        place = self.add(f"add i64 {gva}, {distance}")
        return self.add(f"inttoptr i64 {place} to ptr")

    def _op_load(self, op: Op) -> None:
        gva, width = self.value(op.args[0]), op.width
        hit, miss, join = self.label(), self.label(), self.label()
        entry = self._entry(gva, op.attr)
        self.branch(self._hit(entry, gva, op.attr, width // 8), hit, miss, LIKELY)
        self.place(hit)
        fast = self._host(entry, gva)
        self.line(f"br label %{join}")
        self.place(miss)
        slow = self._ask("ptr", "slow_load", f"i64 {gva}", describe_access(op.attr, width))
        failed, onward = self.label(), self.label()
        self.branch(self.add(f"icmp eq ptr {slow}, null"), failed, onward, UNLIKELY)
        self.place(failed)
        self.abandon()
        self.place(onward)
        self.line(f"br label %{join}")
        self.place(join)
        pointer = self.add(f"phi ptr [ {fast}, %{hit} ], [ {slow}, %{onward} ]")
        self.define(op.dst[0], self.add(f"load i{width}, ptr {pointer}, align 1"), width)

    def _op_store(self, op: Op) -> None:
        gva, value = self.value(op.args[0]), self.value(op.args[1])
        width = self.width(op.args[1])
        access = op.attr._replace(write=True)
        hit, miss, join = self.label(), self.label(), self.label()
        entry = self._entry(gva, access)
        self.branch(self._hit(entry, gva, access, width // 8), hit, miss, LIKELY)
        self.place(hit)
        self.line(f"store i{width} {value}, ptr {self._host(entry, gva)}, align 1")
        self.line(f"br label %{join}")
        self.place(miss)
        wide = self.resized(value, width, 64)
        number = describe_access(access, width)
        status = self._ask("i64", "slow_store", f"i64 {gva}, i64 {wide}", number)
        failed, onward = self.label(), self.label()
        self.branch(self.add(f"icmp slt i64 {status}, 0"), failed, onward, UNLIKELY)
        self.place(failed)
        self.abandon()
        self.place(onward)
        self.stored_slowly(status)
        self.line(f"br label %{join}")
        self.place(join)

    def _op_probe(self, op: Op) -> None:
        gva = self.value(op.args[0])
        miss, join = self.label(), self.label()
        hit = self._hit(self._entry(gva, op.attr), gva, op.attr, max(op.attr.size, 1))
        self.branch(hit, join, miss, LIKELY)
        self.place(miss)
        status = self._ask("i64", "slow_probe", f"i64 {gva}", describe_access(op.attr, 0))
        failed = self.label()
        self.branch(self.add(f"icmp slt i64 {status}, 0"), failed, join, UNLIKELY)
        self.place(failed)
        self.abandon()
        self.place(join)

    def _ask(self, result: str, function: str, arguments: str, access: int) -> str:
        """Call a slow path; it sees how far the machine has come."""
        self.set_word(CONTEXT["budget"], self.exact_budget())
        call = f"call preserve_mostcc {result} @{function}(ptr %s, {arguments}, i64 {access})"
        return self.add(call)

    # --- physical memory ---------------------------------------------------------------------
    def _op_pload(self, op: Op) -> None:
        hpa = self.value(op.args[0])
        call = f"call i64 @physical_load(ptr %s, i64 {hpa}, i64 {op.width})"
        self.define(op.dst[0], self.resized(self.add(call), 64, op.width), op.width)

    def _op_pstore(self, op: Op) -> None:
        hpa, width = self.value(op.args[0]), self.width(op.args[1])
        value = self.resized(self.value(op.args[1]), width, 64)
        self.line(f"call void @physical_store(ptr %s, i64 {hpa}, i64 {value}, i64 {width})")

    def _op_walk_load(self, op: Op) -> None:
        hpa, level = self.value(op.args[0]), WALK_LEVELS[op.attr]
        call = f"call i64 @walk_load(ptr %s, i64 {hpa}, i64 {op.width}, i64 {level})"
        self.define(op.dst[0], self.resized(self.add(call), 64, op.width), op.width)

    # --- routines ----------------------------------------------------------------------------
    def _op_call(self, op: Op) -> None:
        callee = routine(op.attr)
        pairs = zip(op.args, callee.params, strict=True)
        arguments = "".join(f", i{width} {self.value(t)}" for t, width in pairs)
        kind = result_type(callee.results)
        result = self.add(
            f"call {kind} @routine_{op.attr}"
            f"(ptr %s, ptr {self.translations()}, i64 {self.exact_budget()}{arguments})"
        )
        status = self.add(f"extractvalue {kind} {result}, 0")
        failed, onward = self.label(), self.label()
        self.branch(self.add(f"icmp eq i32 {status}, 0"), onward, failed, LIKELY)
        self.place(failed)
        self.abandon(self.resized(status, 32, 64))
        self.place(onward)
        for n, (temp, width) in enumerate(zip(op.dst, callee.results, strict=True)):
            self.define(temp, self.add(f"extractvalue {kind} {result}, {n + 1}"), width)
        if changes_context(op.attr):
            self._translations_changed()

    def _op_service(self, op: Op) -> None:
        """Arguments and results stand in the context; a function or Python does the rest."""
        if op.attr is Service.NOW:
            self._now(op)
            return
        for n, temp in enumerate(op.args):
            value = self.resized(self.value(temp), self.width(temp), 64)
            self.set_word(CONTEXT[f"argument{n}"], value)
        self.set_word(CONTEXT["budget"], self.exact_budget())
        native = _NATIVE_SERVICES.get(op.attr)
        if native is not None:
            status = self.add(f"call i64 @{native}(ptr %s)")
        else:
            function = self.add(f"inttoptr i64 {self.get_word(CONTEXT['on_service'])} to ptr")
            status = self.add(f"call i64 {function}(i64 {SERVICES.index(op.attr)})")
        failed, onward = self.label(), self.label()
        self.branch(self.add(f"icmp slt i64 {status}, 0"), failed, onward, UNLIKELY)
        self.place(failed)
        self.abandon()
        self.place(onward)
        for n, (temp, width) in enumerate(zip(op.dst, op.attr.results, strict=True)):
            result = self.get_word(CONTEXT[f"argument{n}"])
            self.define(temp, self.resized(result, 64, width), width)
        if op.attr is Service.CONTEXT:
            self._translations_changed()

    def _now(self, op: Op) -> None:
        """Instructions retired, and the time that was skipped."""
        until, idle = self.get_word(CONTEXT["until"]), self.get_word(SLOTS["idle"])
        retired = self.add(f"sub i64 {until}, {self.exact_budget()}")
        self.define(op.dst[0], self.add(f"add i64 {retired}, {idle}"), 64)

    # --- ends that fill slots ------------------------------------------------------------------
    def _op_fault(self, op: Op) -> None:
        error = "0"
        if op.args:
            error = self.resized(self.value(op.args[0]), self.width(op.args[0]), 64)
        self.set_word(_VECTOR, str(op.attr))
        self.set_word(_HAS_ERROR, str(len(op.args)))
        self.set_word(_ERROR, error)
        self.abandon("1")

    def _op_exit(self, op: Op) -> None:
        self.set_word(_EXIT_REASON, str(op.attr))
        self.abandon("2")

    def _op_raised(self, op: Op) -> None:
        self.abandon("3")

    # --- for subclasses ------------------------------------------------------------------------
    def exact_budget(self) -> str:
        """Instructions that may still be run, this one included."""
        raise NotImplementedError

    def abandon(self, status: str = str(LEFT_BY_MEMORY)) -> None:
        """End the program without completing the instruction; sets `ended`."""
        raise NotImplementedError

    def stored_slowly(self, status: str) -> None:
        """A slow store succeeded; `status` 1 says that nothing may follow its instruction."""


def called(ops: Iterable[Op]) -> list[str]:
    """Routines that ops call, each once, in order."""
    return list(dict.fromkeys(op.attr for op in ops if op.prim is Prim.CALL))


@cache
def changes_context(name: str) -> bool:
    """The routine may make another address space the current one."""
    return changes_translations(routine(name).ops)


def changes_translations(ops: Iterable[Op]) -> bool:
    """Behind some of these ops the translations may be others."""
    return any(
        op.attr is Service.CONTEXT
        if op.prim is Prim.SERVICE
        else op.prim is Prim.CALL and changes_context(op.attr)
        for op in ops
    )


def result_type(results: Sequence[int]) -> str:
    """LLVM type of what a routine returns: how it ended, and its results."""
    return "{ i32" + "".join(f", i{width}" for width in results) + " }"
