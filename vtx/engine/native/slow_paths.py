"""What native code asks Python: memory accesses that miss, devices, walks that are observed.

Each is a C function that Python implements. An exception cannot pass through native code, so it
is kept and raised when native code has been left.
"""

import ctypes
from collections.abc import Callable

from vtx.engine.native.context import CONTEXT, CPUID_ENTRIES
from vtx.engine.native.native_calls import cpuid_index
from vtx.engine.native.numbering import SERVICES, WALK_LEVELS, access_of
from vtx.engine.native.tlb import NativeTlb
from vtx.isa.layout import SLOTS
from vtx.isa.program import Service
from vtx.machine.cpu import FAULT, Cpu

_RETIRED = SLOTS["retired"]
_U64, _I64 = ctypes.c_uint64, ctypes.c_int64
_Words = ctypes.Array[ctypes.c_uint64]
_CHUNK = 512
"""Pages that native code gets to know at once."""
_UNTIL, _BUDGET, _SCRATCH = CONTEXT["until"], CONTEXT["budget"], CONTEXT["scratch"]
_FAILED, _ARGUMENTS = CONTEXT["failed"], CONTEXT["argument0"]
_TLB, _VOID, _NO_PAGE = CONTEXT["tlb"], CONTEXT["void"], (1 << 64) - 1
_OWN_FLUSH = CONTEXT["own_flush"]
_OBSERVED, _ATTENTION = CONTEXT["walk_observed"], CONTEXT["attention"]
_HARMLESS = frozenset(
    {
        Service.CONTEXT, Service.FLUSH_TLB, Service.NOW, Service.CPUID, Service.RANDOM,
        Service.VMENTRY, Service.VMEXIT, Service.TPR_READ, Service.TSC_DEADLINE_READ,
    }
)  # fmt: skip
"""Services after which no event can be due that was not before."""


class SlowPaths:
    """Python's answers for one CPU."""

    def __init__(self, cpu: Cpu, words: _Words) -> None:
        assert isinstance(cpu.tlb, NativeTlb)
        self._cpu, self._words, self._tlb = cpu, words, cpu.tlb
        self._error: BaseException | None = None
        self.memory_hva = ctypes.addressof(ctypes.c_char.from_buffer(cpu.memory))
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
        self._answer("on_page", self._page, 1)
        self._answer("on_code", self._code_written, 3)
        self._code_lines = (ctypes.c_uint64 * pages)()
        cpu.code.observe(self._lines_changed)
        words[CONTEXT["memory"]] = self.memory_hva
        words[CONTEXT["code_lines"]] = ctypes.addressof(self._code_lines)
        words[CONTEXT["ram_read"]] = ctypes.addressof(self._ram_read)
        words[CONTEXT["ram_write"]] = ctypes.addressof(self._ram_write)
        words[CONTEXT["ram_pages"]] = pages
        words[_VOID] = _NO_PAGE
        self._cpuid = (ctypes.c_uint64 * (4 * CPUID_ENTRIES))()
        words[CONTEXT["cpuid"]] = ctypes.addressof(self._cpuid)
        words[CONTEXT["spaces"]] = ctypes.addressof(self._tlb.list)

    def _answer(self, name: str, function: Callable[..., int], count: int) -> None:
        """Let native code call `function`, whose `count` arguments are unsigned words."""

        def guarded(*arguments: int) -> int:
            try:
                self.synchronize()
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

    def prepare(self) -> None:
        """Native code is about to be entered."""
        cpu = self._cpu
        self._words[_OBSERVED] = cpu.on_walk_load is not None
        self._words[_OWN_FLUSH] = cpu.services[Service.FLUSH_TLB] == cpu.flush
        self.refresh()

    def synchronize(self) -> None:
        """Let Python know which address space native code made the current one."""
        hva = self._words[_TLB]
        if self._tlb.switched_to != hva:
            self._tlb.adopt(hva)
            if self._cpu.on_context is not None:
                self._cpu.on_context()

    def returned(self) -> None:
        """Native code was left: raise what went wrong while it ran."""
        self.synchronize()
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
        self._tell_time()
        value = self._cpu.load_slow(gva, how & 0xFF, access_of(how))
        if value < 0:
            return -1
        self._words[_SCRATCH] = value
        return 0

    def _store(self, gva: int, value: int, how: int) -> int:
        self._tell_time()
        result = self._cpu.store_slow(gva, value, how & 0xFF, access_of(how))
        self._words[_ATTENTION] |= self._cpu.attention
        return result

    def _lines_changed(self, host_page: int, lines: int) -> None:
        self._code_lines[host_page >> 12] = lines

    def _code_written(self, hva: int, first: int, count: int) -> int:
        """Bytes of a page were written, among them some that hold translated code."""
        return self._cpu.written(hva - self.memory_hva, first, count)

    def _probe(self, gva: int, how: int) -> int:
        self._tell_time()
        return self._cpu.probe(gva, access_of(how))

    # --- physical memory ---------------------------------------------------------------------
    def _physical_load(self, hpa: int, width: int) -> int:
        value = self._cpu.load_physical(hpa, width)
        self._page(hpa)
        if self._cpu.bus.is_void(hpa):
            self._words[_VOID] = hpa >> 12
        return value - (1 << 64) if value >> 63 else value

    def _physical_store(self, hpa: int, value: int, width: int) -> int:
        self._cpu.store_physical(hpa, value & ((1 << width) - 1), width)
        self._words[_ATTENTION] |= self._cpu.attention
        self._page(hpa)
        return 0

    def _page(self, hpa: int) -> int:
        """Let native code reach RAM around `hpa` itself, but for pages that are watched."""
        cpu = self._cpu
        self.refresh()
        first = hpa >> 12 & -_CHUNK
        for page in range(first, min(first + _CHUNK, self._pages)):
            host = cpu.bus.ram_offset(page << 12)
            if host < 0:
                continue
            self._page_of_host[host] = page
            self._ram_read[page] = self.memory_hva + host
            if host not in cpu.code.pages:
                self._ram_write[page] = self.memory_hva + host
        return 0

    def refresh(self) -> None:
        """Forget which pages are RAM if that has changed."""
        if self._cpu.bus.layout_version != self._layout:
            ctypes.memset(self._ram_read, 0, ctypes.sizeof(self._ram_read))
            ctypes.memset(self._ram_write, 0, ctypes.sizeof(self._ram_write))
            self._words[_VOID] = _NO_PAGE
            self._layout = self._cpu.bus.layout_version

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
        given = words[_ARGUMENTS : _ARGUMENTS + count]
        result = cpu.services[service](*given)
        if service is Service.CPUID and cpu.constant_cpuid(given[0]):
            self._keep_cpuid(*given, *result)
        if isinstance(result, tuple):
            for place, value in enumerate(result, _ARGUMENTS):
                words[place] = value
        elif result is not None:
            words[_ARGUMENTS] = result
        self.refresh()
        if service not in _HARMLESS:
            words[_ATTENTION] = 1
        return 0

    def _keep_cpuid(self, leaf: int, sub: int, eax: int, ebx: int, ecx: int, edx: int) -> None:
        """Let native code give this answer the next time."""
        at = 4 * cpuid_index(leaf, sub)
        self._cpuid[at : at + 4] = [leaf | sub << 32, eax | ebx << 32, ecx | edx << 32, 1]
