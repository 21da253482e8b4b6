"""The names generated code refers to, bound to one CPU.

Memory accessors are made here, one per width, direction and privilege, around the CPU's
current TLB maps; a context switch rebinds the maps. Everything else is the CPU's own method.
"""

from collections.abc import Callable, Iterable
from types import CodeType
from typing import Any

from vtx.engine.generate import RETIRED, RIP, compile_routine
from vtx.engine.native.kept import kept
from vtx.isa.layout import SLOTS
from vtx.isa.primitives import PURE, Prim
from vtx.isa.program import Access, Op, Privilege, Service, is_declared, routine
from vtx.isa.tables import table
from vtx.machine.cpu import EXIT, FAULT, SOFTWARE_EVENT, STRUCTS, Cpu
from vtx.machine.tlb import PRIVILEGES

_VECTOR, _ERROR, _HAS_ERROR = (SLOTS[f"fault_{n}"] for n in ("vector", "error", "has_error"))
_EXIT_REASON = SLOTS["exit_reason"]

_LOAD = """
def {name}(g, k):
    p = {maps}.get(g >> 12)
    o = g & 4095
    if p is None or o > {last}:
        return slow_load(g, {width}, {access}, k)
    return unpack{width}(M, p + o)[0]
"""
_STORE = """
def {name}(g, v, k):
    p = {maps}.get(g >> 12)
    o = g & 4095
    if p is None or o > {last}:
        return slow_store(g, v, {width}, {access}, k)
    pack{width}(M, p + o, v)
    return 0
"""


def _accessor_source() -> str:
    parts = []
    for n, privilege in enumerate(PRIVILEGES):
        for stack in (False, True):
            suffix = f"{n}{'s' * stack}"
            for width in STRUCTS:
                for write in (False, True):
                    access = f"Access({write}, Privilege.{privilege.name}, {stack}, 0)"
                    label = f"A{'w' if write else 'r'}{suffix}"
                    common = {"width": width, "last": 4096 - width // 8, "access": label}
                    if width == 8:
                        parts.append(f"{label} = {access}\n")
                    name = f"ld{width}{'w' if write else 'r'}{suffix}"
                    maps = f"{'W' if write else 'R'}{n}"
                    parts.append(_LOAD.format(name=name, maps=maps, **common))
                    if write:
                        parts.append(_STORE.format(name=f"st{width}{suffix}", maps=maps, **common))
    return "".join(parts)


_ACCESSORS = compile(_accessor_source(), "<accessors>", "exec")
_RoutineCode = tuple[CodeType, tuple[str, ...], tuple[str, ...]]
"""What defines `routine`, the routines it calls, and the tables it looks things up in."""
_ROUTINE_CODE: dict[str, _RoutineCode] = {}


def _routine_code(name: str) -> _RoutineCode:
    """The generated code of a routine, from an earlier process if there was one."""
    code = _ROUTINE_CODE.get(name)
    if code is None and is_declared(name):
        code = kept().get("python", name.encode())
    if code is None:
        program = routine(name)
        calls = dict.fromkeys(op.attr for op in program.ops if op.prim is Prim.CALL)
        tables = dict.fromkeys(op.attr[0] for op in program.ops if op.prim is Prim.LOOKUP)
        code = (compile_routine(program), tuple(calls), tuple(tables))
        if is_declared(name):
            kept().put("python", name.encode(), code)
    _ROUTINE_CODE[name] = code
    return code


class Namespace:
    """Globals of the generated code of one CPU."""

    def __init__(self, cpu: Cpu) -> None:
        self._cpu = cpu
        self.names: dict[str, Any] = {
            "S": cpu.words, "M": cpu.memory, "Access": Access, "Privilege": Privilege,
            "probe": cpu.probe, "pload": cpu.load_physical, "pstore": cpu.store_physical,
            "walk_load": cpu.walk_load, "leave": self._leave, "fault": self._fault,
            "exit_": self._exit, "raised": self._raised,
            "slow_load": self._slow_load, "slow_store": self._slow_store,
        }  # fmt: skip
        for width, struct in STRUCTS.items():
            self.names[f"unpack{width}"] = struct.unpack_from
            self.names[f"pack{width}"] = struct.pack_into
        for prim, meaning in PURE.items():
            self.names[f"PURE_{prim.name}"] = meaning
        for service in Service:
            self.names[f"service_{service.label}"] = self._service(service)
        self.bind_maps()
        cpu.on_context = self.bind_maps
        exec(_ACCESSORS, self.names)

    def bind_maps(self) -> None:
        """Point the accessors at the current address space's maps."""
        space = self._cpu.tlb.space
        for n in range(len(PRIVILEGES)):
            self.names[f"R{n}"] = space.reads[n]
            self.names[f"W{n}"] = space.writes[n]

    def need(self, ops: Iterable[Op]) -> None:
        """Make available what `ops` call and look up."""
        for op in ops:
            if op.prim is Prim.LOOKUP:
                self.names[f"table_{op.attr[0]}"] = table(op.attr[0])
            elif op.prim is Prim.CALL:
                self.routine(op.attr)

    def routine(self, name: str) -> Callable[..., Any]:
        """The Python function of a routine."""
        function = self.names.get(f"routine_{name}")
        if function is None:
            code, callees, tables = _routine_code(name)
            exec(code, self.names)
            function = self.names.pop("routine")
            self.names[f"routine_{name}"] = function
            for label in tables:
                self.names[f"table_{label}"] = table(label)
            for callee in callees:
                self.routine(callee)
        return function  # type: ignore[no-any-return]

    def block(self, code: Any) -> Callable[[], int]:
        """The Python function of a compiled block."""
        exec(code, self.names)
        return self.names.pop("block")  # type: ignore[no-any-return]

    # --- what generated code calls -----------------------------------------------------------
    def _service(self, service: Service) -> Callable[..., Any]:
        services = self._cpu.services
        return lambda *args: services[service](*args)

    def _leave(self, rip: int, completed: int) -> int:
        words = self._cpu.words
        words[RIP] = rip
        words[RETIRED] += completed
        return self._cpu.status

    def _fault(self, vector: int, error: int) -> None:
        words = self._cpu.words
        words[_VECTOR] = vector
        words[_HAS_ERROR] = error >= 0
        words[_ERROR] = max(error, 0)
        self._cpu.status = FAULT

    def _exit(self, reason: int) -> None:
        self._cpu.words[_EXIT_REASON] = reason
        self._cpu.status = EXIT

    def _raised(self) -> None:
        self._cpu.status = SOFTWARE_EVENT

    def _slow_load(self, gva: int, width: int, access: Access, ahead: int) -> int:
        cpu = self._cpu
        cpu.ahead = ahead
        value = cpu.load_slow(gva, width, access)
        cpu.ahead = 0
        return value

    def _slow_store(self, gva: int, value: int, width: int, access: Access, ahead: int) -> int:
        cpu = self._cpu
        cpu.ahead = ahead
        result = cpu.store_slow(gva, value, width, access)
        cpu.ahead = 0
        return result
