"""The text of a region: one function of many blocks, entered like a stencil.

Guest registers are loaded when it is entered and stored when it is left. Every way out stores
what changed: the state is then that of the instruction named by RIP, as with stencils. Which
region is compiled, and where its exits lead, is decided elsewhere.
"""

from vtx.engine.native.context import (
    CONTEXT,
    JUMP_CACHE_ENTRIES,
    LEFT_AFTER_STORE,
    LEFT_BY_MEMORY,
    LEFT_MISS,
    LEFT_REGION_BUDGET,
)
from vtx.engine.native.flag_values import FLAG_NAMES, KEEPS_CARRY, KIND_NUMBERS
from vtx.engine.native.forms import GPR_SLOTS
from vtx.engine.native.region_body import ALIAS_METADATA, RegionBody
from vtx.engine.native.region_flags import known_at_entries
from vtx.engine.native.region_graph import ENTRY, Graph
from vtx.engine.native.region_hoisting import hoisted_words
from vtx.engine.native.region_plan import Region, Step
from vtx.engine.native.stencil import ATTRIBUTES, DECLARATIONS, PARAMETERS, TYPES
from vtx.engine.native.text import METADATA
from vtx.isa.layout import SLOTS
from vtx.isa.primitives import Prim
from vtx.isa.program import Op

_UNUSED = "i64 undef, i64 undef"
_WITH_CARRY = frozenset(n for (name, _), n in KIND_NUMBERS.items() if name in KEEPS_CARRY)
_MORE_METADATA = f"""
!2 = !{{!"branch_weights", i32 20, i32 1}}
!3 = !{{!"branch_weights", i32 1, i32 20}}
{ALIAS_METADATA}"""
_CALL = "musttail call preserve_nonecc i64"


def region_text(region: Region) -> tuple[str, tuple[int, ...]]:
    """A module with the function `region`, and where its exits @X0, @X1, ... lead."""
    body = _RegionText(region)
    function = body.text()
    exits = tuple(body.exits)
    declarations = [
        f"declare dso_local preserve_nonecc i64 @X{n}({TYPES})" for n in range(len(exits))
    ]
    parts = [DECLARATIONS, *declarations, function, METADATA, _MORE_METADATA]
    return "\n".join(parts), exits


class _RegionText(RegionBody):
    """Writes one region."""

    def __init__(self, region: Region) -> None:
        super().__init__()
        self._graph = Graph(region)
        self._entries = known_at_entries(self._graph)
        self._registers, self._dirty = _registers(region)
        self._base = "%bud"
        """The budget somewhere before ..."""
        self._used = 0
        """... and the instructions between there and the present one."""
        self._spent: dict[int, tuple[str, int]] = {}
        """Node -> base and used at its end."""
        self._left_labels: dict[frozenset[str], str] = {}
        self.exits: list[int] = []
        self.cells += [f"  %reg{slot} = alloca i64" for slot in self._registers]
        self.cells += [
            f"  %left_{name} = alloca i64" for name in ("status", "rip", "budget", "used")
        ]
        self.cells += [f"  %left{n} = alloca i64" for n in range(4)]
        self.cells += [f"  %left_{name} = alloca i1" for name in FLAG_NAMES]
        self.cells.append("  %budget = alloca i64")
        self._range_words = hoisted_words(region)
        self.cells += [f"  %range{offset} = alloca i64" for offset in self._range_words]

    def text(self) -> str:
        """The function's definition."""
        self._enter()
        for node in self._graph.order:
            self._write_node(node)
        for single, label in self._left_labels.items():
            self._write_leave(single, label)
        head = f"define dso_local preserve_nonecc i64 @region({PARAMETERS}) {ATTRIBUTES} {{"
        return "\n".join([head, *self.function_lines(), "}"])

    def _enter(self) -> None:
        for slot in self._registers:
            self.line(f"store i64 {self.get_word(slot)}, ptr %reg{slot}")
        self._take_ranges()
        self._go_to_node(ENTRY)

    # --- blocks ----------------------------------------------------------------------------
    def _write_node(self, node: int) -> None:
        self.place(_label(node))
        block = self._graph.block(node)
        self._enter_flags(self._entries[node])
        origin = self._graph.only_way.get(node)
        if origin is not None:
            self._base, self._used = self._spent[origin]
        else:
            self._base, self._used = self.add("load i64, ptr %budget"), 0
        need = self._graph.needs.get(node)
        if need is not None:
            self._check_budget(need, block.ip)
        for step in block.steps[:-1]:
            self.write_step(step)
            self._used += 1
        self._at_last = True
        self._guess = self._guess_way(node)
        self._spent[node] = self._base, self._used + 1
        self.write_step(block.steps[-1])
        self._at_last, self._guess = False, ""
        assert self.ended, "the last instruction of a block says where to go"

    def _guess_way(self, node: int) -> str:
        """Loops go on rather than end: the weights of a conditional jump that closes one."""
        step = self._graph.block(node).steps[-1]
        closes = [target in self._graph.closed_by(node) for target in step.targets]
        if len(closes) != 2 or closes[0] == closes[1]:
            return ""
        return "!prof !2" if closes[1] else "!prof !3"

    def _check_budget(self, need: int, ip: int) -> None:
        """Leave if the budget may end before it is looked at again."""
        out, onward = self.label(), self.label()
        self.branch(self.add(f"icmp slt i64 {self._base}, {need}"), out, onward, "!prof !1")
        self.place(out)
        self._leave(str(LEFT_REGION_BUDGET), str(ip), self._used)
        self.place(onward)

    # --- ends of instructions ------------------------------------------------------------------
    def _op_next(self, op: Op) -> None:
        if self._leaving:
            self._leave(str(LEFT_AFTER_STORE), str(self._step.behind), self._used + 1)
        elif self._at_last:
            self._go_to(self._step.behind)

    def _op_jump(self, op: Op) -> None:
        target = op.args[0]
        known = None if target >= 0 else self._step.numbers[-1 - target]
        if self._leaving:
            rip = self.value(target) if known is None else str(known)
            self._leave(str(LEFT_AFTER_STORE), rip, self._used + 1)
        elif known is not None:
            self._go_to(known)
        else:
            self._go_to_computed(self.value(target))

    def _go_to(self, place: int) -> None:
        if place in self._entries:
            self._used += 1
            self._go_to_node(place)
            self._used -= 1
        else:
            self._go_out(place)

    def _go_to_node(self, node: int) -> None:
        self._hand_over_flags(self._entries[node])
        if node not in self._graph.only_way:
            self.line(f"store i64 {self._budget_after(self._used)}, ptr %budget")
        self.line(f"br label %{_label(node)}")
        self.ended = True

    def _go_to_computed(self, rip: str) -> None:
        """Go on behind a call of this region, or where the table of block entries says."""
        for place in self._graph.region.return_places:
            if place not in self._entries:
                continue
            here, elsewhere = self.label(), self.label()
            self.branch(self.add(f"icmp eq i64 {rip}, {place}"), here, elsewhere)
            self.place(here)
            with self.cold():
                self._go_to(place)
            self.place(elsewhere)
        self._go_through_cache(rip)

    # --- leaving for other code ----------------------------------------------------------------
    def _go_out(self, place: int) -> None:
        if place not in self.exits:
            self.exits.append(place)
        self._store_registers()
        arguments = f"{self._passed()}, {_UNUSED}"
        self._tail_call(f"@X{self.exits.index(place)}", arguments)

    def _go_through_cache(self, rip: str) -> None:
        self._store_registers()
        passed = self._passed()
        hit, miss = self.label(), self.label()
        cache = self.get_word(CONTEXT["jump_cache"])
        folded = self.add(f"xor i64 {self.add(f'lshr i64 {rip}, 12')}, {rip}")
        index = self.add(f"and i64 {folded}, {JUMP_CACHE_ENTRIES - 1}")
        offset = self.add(f"shl i64 {index}, 4")
        base = self.add(f"inttoptr i64 {cache} to ptr")
        entry = self.add(f"getelementptr i8, ptr {base}, i64 {offset}")
        known = self.add(f"load i64, ptr {entry}")
        self.branch(self.add(f"icmp eq i64 {known}, {rip}"), hit, miss, "!prof !0")
        self.place(hit)
        field = self.add(f"getelementptr i8, ptr {entry}, i64 8")
        code = self.add(f"load ptr, ptr {field}")
        self._tail_call(code, f"{passed}, {_UNUSED}")
        self.place(miss)
        self.set_word(CONTEXT["link"], "0")
        self._tail_call("@leave", f"{passed}, i64 {LEFT_MISS}, i64 {rip}")

    def _tail_call(self, function: str, arguments: str) -> None:
        self.line(f"ret i64 {self.add(f'{_CALL} {function}({arguments})')}")
        self.ended = True

    def _passed(self) -> str:
        """The arguments for other code, once the registers are stored."""
        kind, operands = self._settled_flags()
        f0, f1, f2 = operands
        budget = self._budget_after(self._used + 1)
        return f"ptr %s, i64 {budget}, i64 {kind}, i64 {f0}, i64 {f1}, i64 {f2}, ptr %t"

    def _settled_flags(self) -> tuple[str, list[str]]:
        """Kind and operands with which no flag stands by itself any more."""
        kind, operands, single = self._flags_to_leave()
        if not single:
            return kind, operands
        self._materialise(kind, operands)
        for name, value in single.items():
            self.set_word(SLOTS[name], self.resized(value, 1, 64))
        return "0", ["0", "0", "0"]

    def _flags_to_leave(self) -> tuple[str, list[str], dict[str, str]]:
        """Kind, operands, and the flags that stand by themselves."""
        single = {name: self._flag(name) for name in FLAG_NAMES if self._stands_alone(name)}
        operands = [*self._wide_operands().values()]
        if self._flags.kind in _WITH_CARRY:
            operands = [*operands[:2], self.resized(single.pop("cf"), 1, 64)]
        return self._flags.kind_text, operands, single

    def _stands_alone(self, name: str) -> bool:
        return self._in_branches or name in self._flags.single

    def _materialise(self, kind: str, operands: list[str]) -> None:
        if kind != "0":
            f0, f1, f2 = operands
            arguments = f"ptr %s, i64 {kind}, i64 {f0}, i64 {f1}, i64 {f2}"
            self.line(f"call void @materialise({arguments})")

    def _store_registers(self) -> None:
        for slot in self._dirty:
            self.set_word(slot, self.add(f"load i64, ptr %reg{slot}"))

    # --- leaving native code -------------------------------------------------------------------
    def exact_budget(self) -> str:
        return self._budget_after(self._used)

    def _budget_after(self, used: int) -> str:
        return self.add(f"sub i64 {self._base}, {used}") if used else self._base

    def abandon(self, status: str = str(LEFT_BY_MEMORY)) -> None:
        self._leave(status, str(self._step.here), self._used)

    def _leave(self, status: str, rip: str, used: int) -> None:
        """Leave through the code that all cold exits with the same single flags share."""
        with self.cold():
            kind, operands, single = self._flags_to_leave()
        self.line('call void asm sideeffect "", ""()')  # or its constants move to the hot way
        values = ("status", status), ("rip", rip), ("budget", self._base), ("used", str(used))
        for name, value in values:
            self.line(f"store i64 {value}, ptr %left_{name}")
        for n, value in enumerate([kind, *operands]):
            self.line(f"store i64 {value}, ptr %left{n}")
        for name, value in single.items():
            self.line(f"store i1 {value}, ptr %left_{name}")
        names = frozenset(single)
        label = self._left_labels.setdefault(names, f"leave{len(self._left_labels)}")
        self.line(f"br label %{label}")
        self.ended = True

    def _write_leave(self, single: frozenset[str], label: str) -> None:
        self.place(label)
        self._store_registers()
        status, rip, base, used = (
            self.add(f"load i64, ptr %left_{name}") for name in ("status", "rip", "budget", "used")
        )
        budget = self.add(f"sub i64 {base}, {used}")
        kind, *operands = (self.add(f"load i64, ptr %left{n}") for n in range(4))
        flags = {name: self.add(f"load i1, ptr %left_{name}") for name in sorted(single)}
        if flags:
            self._materialise(kind, operands)
            for name, value in flags.items():
                self.set_word(SLOTS[name], self.resized(value, 1, 64))
            kind, operands = "0", ["0", "0", "0"]
        f0, f1, f2 = operands
        self._tail_call(
            "@leave",
            f"ptr %s, i64 {budget}, i64 {kind}, i64 {f0}, i64 {f1}, i64 {f2}, ptr %t, "
            f"i64 {status}, i64 {rip}",
        )


def _label(node: int) -> str:
    return "entered" if node == ENTRY else f"B{node:x}"


def _registers(region: Region) -> tuple[list[int], list[int]]:
    """General registers that the region uses, and those of them that it writes."""
    used: set[int] = set()
    written: set[int] = set()
    for block in region.blocks:
        for step in block.steps:
            _note_registers(step, used, written)
    assert used <= GPR_SLOTS
    return sorted(used), sorted(written)


def _note_registers(step: Step, used: set[int], written: set[int]) -> None:
    for op in step.form.ops:
        if op.prim in (Prim.GET, Prim.PUT) and op.attr < 0:
            slot = step.numbers[-1 - op.attr] // 8
            used.add(slot)
            if op.prim is Prim.PUT:
                written.add(slot)
