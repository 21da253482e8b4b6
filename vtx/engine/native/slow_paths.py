"""What native code asks Python: memory accesses that miss, devices, walks that are observed.

Each is a C function that Python implements. An exception cannot pass through native code, so it
is kept and raised when native code has been left.
"""

import ctypes
from collections.abc import Callable

from vtx.engine.native.context import CONTEXT
from vtx.engine.native.lower import SERVICES, WALK_LEVELS, access_of
from vtx.engine.native.tlb import NativeSpace
from vtx.isa.layout import SLOTS
from vtx.machine.cpu import FAULT, STRUCTS, Cpu
from vtx.machine.tlb import PRIVILEGES

_RETIRED = SLOTS["retired"]
_U64, _I64 = ctypes.c_uint64, ctypes.c_int64
_Words = ctypes.Array[ctypes.c_uint64]
_INDEX = {privilege: n for n, privilege in enumerate(PRIVILEGES)}
_UNTIL, _BUDGET, _SCRATCH = CONTEXT["until"], CONTEXT["budget"], CONTEXT["scratch"]
_FAILED, _TLB, _ARGUMENTS = CONTEXT["failed"], CONTEXT["tlb"], CONTEXT["argument0"]


class SlowPaths:
    """Python's answers for one CPU."""

    def __init__(self, cpu: Cpu, words: _Words) -> None:
        self._cpu, self._words = cpu, words
        self._error: BaseException | None = None
        self._memory_hva = ctypes.addressof(ctypes.c_char.from_buffer(cpu.memory))
        pages = cpu.bus.memory.size >> 12
        self._pages = pages
        self._ram_read = (ctypes.c_uint64 * pages)()
        self._ram_write = (ctypes.c_uint64 * pages)()
        self._page_of_host: dict[int, int] = {}
        self._layout = cpu.bus.layout_version
        self._kept: list[object] = []
        self._answer("on_load", self._load, 2)
        self._answer("on_store", self._store, 3)
        self._answer("on_probe", self._probe, 2)
        self._answer("on_physical_load", self._physical_load, 2)
        self._answer("on_physical_store", self._physical_store, 3)
        self._answer("on_walk_load", self._walk_load, 2)
        self._answer("on_service", self._service, 1)
        words[CONTEXT["ram_read"]] = ctypes.addressof(self._ram_read)
        words[CONTEXT["ram_write"]] = ctypes.addressof(self._ram_write)
        words[CONTEXT["ram_pages"]] = pages

    def _answer(self, name: str, function: Callable[..., int], count: int) -> None:
        """Let native code call `function`, whose `count` arguments are unsigned words."""

        def guarded(*arguments: int) -> int:
            try:
                result = function(*arguments)
            except BaseException as error:
                self._error = error
                self._cpu.status = FAULT
                result = -1
            if result < 0:
                self._words[_FAILED] = self._cpu.status
            return result

        pointer = ctypes.CFUNCTYPE(_I64, *([_U64] * count))(guarded)
        self._kept.append(pointer)
        self._words[CONTEXT[name]] = ctypes.cast(pointer, ctypes.c_void_p).value or 0

    def raise_error(self) -> None:
        """Raise what went wrong while native code ran."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    def protect(self, host_page: int) -> None:
        """A host page holds translated code now: physical stores to it have to be told."""
        page = self._page_of_host.get(host_page)
        if page is not None:
            self._ram_write[page] = 0

    def _tell_time(self) -> None:
        """Let the CPU's clock show how far native code has come."""
        budget = ctypes.c_int64(self._words[_BUDGET]).value
        self._cpu.words[_RETIRED] = self._words[_UNTIL] - budget

    # --- linear memory -----------------------------------------------------------------------
    def _load(self, gva: int, how: int) -> int:
        cpu, width = self._cpu, how & 0xFF
        access = access_of(how)
        space = cpu.tlb.space
        pages = (space.writes if access.write else space.reads)[_INDEX[access.privilege]]
        inside = gva & 0xFFF
        whole = inside <= 4096 - (width >> 3)
        host = pages.get(gva >> 12) if whole else None
        if host is None:
            self._tell_time()
            value = cpu.load_slow(gva, width, access)
            if value < 0:
                return -1
            host = pages.get(gva >> 12)
        else:
            value = STRUCTS[width].unpack_from(cpu.memory, host + inside)[0]
        self._words[_SCRATCH] = value
        if host is not None:
            self._enter(space, gva, access.privilege, host, access.write)
        return 0

    def _enter(self, space: object, gva: int, privilege: object, host: int, write: bool) -> None:
        assert isinstance(space, NativeSpace)
        index = _INDEX[privilege]  # type: ignore[index]
        space.enter(gva >> 12, index, self._memory_hva + host, write=write)

    def _store(self, gva: int, value: int, how: int) -> int:
        cpu, width = self._cpu, how & 0xFF
        access = access_of(how)
        space = cpu.tlb.space
        pages = space.writes[_INDEX[access.privilege]]
        inside = gva & 0xFFF
        whole = inside <= 4096 - (width >> 3)
        host = pages.get(gva >> 12) if whole else None
        result = 0
        if host is None:
            self._tell_time()
            result = cpu.store_slow(gva, value, width, access)
            if result < 0:
                return -1
            host = pages.get(gva >> 12)
        else:
            STRUCTS[width].pack_into(cpu.memory, host + inside, value)
        if host is not None:
            self._enter(space, gva, access.privilege, host, True)
        return result

    def _probe(self, gva: int, how: int) -> int:
        self._tell_time()
        return self._cpu.probe(gva, access_of(how))

    # --- physical memory ---------------------------------------------------------------------
    def _physical_load(self, hpa: int, width: int) -> int:
        value = self._cpu.load_physical(hpa, width)
        self._know(hpa)
        return value - (1 << 64) if value >> 63 else value

    def _physical_store(self, hpa: int, value: int, width: int) -> int:
        self._cpu.store_physical(hpa, value & ((1 << width) - 1), width)
        self._know(hpa)
        return 0

    def _know(self, hpa: int) -> None:
        """Let native code reach the page of `hpa` itself, if it is RAM."""
        cpu, page = self._cpu, hpa >> 12
        if cpu.bus.layout_version != self._layout:
            ctypes.memset(self._ram_read, 0, ctypes.sizeof(self._ram_read))
            ctypes.memset(self._ram_write, 0, ctypes.sizeof(self._ram_write))
            self._layout = cpu.bus.layout_version
        host = cpu.bus.ram_offset(hpa)
        if host < 0 or page >= self._pages:
            return
        self._page_of_host[host] = page
        self._ram_read[page] = self._memory_hva + host
        if host not in cpu.code.pages:
            self._ram_write[page] = self._memory_hva + host

    def _walk_load(self, hpa: int, level: int) -> int:
        if self._cpu.on_walk_load is not None:
            name = next(name for name, number in WALK_LEVELS.items() if number == level)
            self._cpu.on_walk_load(name, hpa)
        return 0

    # --- services ----------------------------------------------------------------------------
    def _service(self, number: int) -> int:
        """Answer a service in the words its arguments stand in."""
        cpu, words, service = self._cpu, self._words, SERVICES[number]
        self._tell_time()
        count = len(service.params)
        result = cpu.services[service](*words[_ARGUMENTS : _ARGUMENTS + count])
        if isinstance(result, tuple):
            words[_ARGUMENTS : _ARGUMENTS + len(result)] = result
        elif result is not None:
            words[_ARGUMENTS] = result
        return 0
