"""One emulated CPU: its state, its TLB and its way to memory.

Whoever executes the algebra calls the methods here for LOAD, STORE, PROBE, physical accesses
and services, and gives the CPU a `translator` that runs the `translate` routine. Memory
accesses return -1 where they fault; `status` then says what kind of end it was. The CPU does
not know which executor runs it, nor what the devices behind its bus are.
"""

from collections.abc import Callable
from struct import Struct
from typing import Any

from vtx.isa.key import CR0_PG
from vtx.isa.layout import SLOTS
from vtx.isa.program import Access, Flush, Privilege, Service
from vtx.machine import paging
from vtx.machine.breakpoints import DataBreakpoints
from vtx.machine.bus import Bus
from vtx.machine.code_watch import CodeWatch
from vtx.machine.signals import Signals
from vtx.machine.state import State
from vtx.machine.tlb import PRIVILEGES, Tlb
from vtx.machine.walk_counts import WalkCounts
from vtx.spec import CONTROLS
from vtx.spec.registers import CR4

OK, FAULT, EXIT, SOFTWARE_EVENT = 0, 1, 2, 3
"""How a program ended: complete, a fault to deliver, a VM exit, an event of INT n and kin."""

LEAVE = 1
"""What a store returns when nothing behind its instruction may be run from the same block."""

STRUCTS = {8: Struct("<B"), 16: Struct("<H"), 32: Struct("<I"), 64: Struct("<Q")}

Translator = Callable[[int, int], tuple[int, int] | None]
ServiceCall = Callable[..., Any]

_ACCESS_BITS = {
    Privilege.USER: paging.USER,
    Privilege.SUPERVISOR: 0,
    Privilege.SUPERVISOR_AC: paging.AC_SUSPENDS,
    Privilege.SYSTEM: paging.IMPLICIT,
}
_INDEX = {privilege: n for n, privilege in enumerate(PRIVILEGES)}
_PAGE = ~0xFFF
_WRAP32, _WRAP64 = 0xFFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF

_CR0, _CR3, _CR4, _EFER = (SLOTS[n] for n in ("cr0", "cr3", "cr4", "efer"))
_VMX, _PROC, _PROC2 = (SLOTS[n] for n in ("vmx", "proc_controls", "proc2_controls"))
_VPID, _EPTP, _STOP = (SLOTS[n] for n in ("vpid", "eptp", "stop"))
_RETIRED, _IDLE = SLOTS["retired"], SLOTS["idle"]
_PENDING_DEBUG, ENABLED_BREAKPOINT = SLOTS["pending_debug"], 1 << 12
CR4_PCIDE = CR4.PCIDE
SECONDARY = CONTROLS.ACTIVATE_SECONDARY_CONTROLS.mask
ENABLE_EPT, ENABLE_VPID = CONTROLS.ENABLE_EPT.mask, CONTROLS.ENABLE_VPID.mask


class Cpu:
    """State, TLB and memory access of one processor."""

    def __init__(self, bus: Bus, code: CodeWatch | None = None) -> None:
        self.state = State()
        self.words = self.state.words
        self.bus = bus
        self.memory = bus.memory.buffer
        self.tlb = Tlb()
        self.breakpoints = DataBreakpoints(self.words)
        self.code = code or CodeWatch()
        self.code.add_tlb(self.tlb)
        self.services: dict[Service, ServiceCall] = {
            Service.FLUSH_TLB: self.flush,
            Service.CONTEXT: self.switch_context,
            Service.NOW: self.now,
        }
        self.constant_cpuid: Callable[[int], bool] = lambda leaf: False
        """Whether Service.CPUID gives the same answer for a leaf, and each subleaf, for ever."""
        self.translator: Translator = _no_translator
        self.on_context: Callable[[], None] | None = None
        self.signals = Signals()
        self.status = OK
        self.attention = False
        """A device was touched: what is due may have changed."""
        self.ahead = 0
        """Instructions retired in the running block but not yet counted in `retired`."""
        self.on_walk_load: Callable[[str, int], None] | None = None
        """Observer of page-walk references: level's name, physical address."""
        self.walk_references = 0
        """Page-walk references made so far."""
        self.walks = WalkCounts()

    # --- time --------------------------------------------------------------------------------
    def now(self) -> int:
        """Virtual time: instructions retired plus time skipped while idle."""
        return self.words[_RETIRED] + self.words[_IDLE] + self.ahead

    # --- linear memory -----------------------------------------------------------------------
    def page_of(self, gva: int, access: Access, write: bool, fetch: bool = False) -> int:
        """Physical address of the page of `gva`, or -1 after a fault; plain RAM is cached."""
        bits = _ACCESS_BITS[access.privilege]
        if write:
            bits |= paging.WRITE
        if fetch:
            bits |= paging.FETCH
        if access.stack:
            bits |= paging.STACK
        before = self.walk_references
        found = self.translator(gva, bits)
        if found is None:
            return -1
        if self.walk_references != before:
            self.walks.note(self.walk_references - before)
        physical, flags = found
        host = self.bus.ram_offset(physical)
        if host >= 0 and not self.breakpoints.watching:
            self._cache(gva >> 12, host, access.privilege, write, fetch, flags)
        return physical

    def _cache(
        self, page: int, host: int, privilege: Privilege, write: bool, fetch: bool, flags: int
    ) -> None:
        space = self.tlb.space
        n = _INDEX[privilege]
        if flags & 1:
            space.global_pages.add(page)
        if fetch:
            space.fetch[n][page] = host
            return
        space.reads[n][page] = host  # whoever may write may read
        if not write:
            return
        if host in self.code.pages:
            space.writes[n].pop(page, None)
            space.guarded[n][page] = host
        else:
            space.guarded[n].pop(page, None)
            space.writes[n][page] = host

    def load(self, gva: int, width: int, access: Access) -> int:
        """Read `width` bits of linear memory, or -1."""
        n = _INDEX[access.privilege]
        space = self.tlb.space
        pages = space.writes[n] if access.write else space.reads[n]
        host = pages.get(gva >> 12)
        inside = gva & 0xFFF
        if host is None or inside > 4096 - (width >> 3):
            return self.load_slow(gva, width, access)
        return STRUCTS[width].unpack_from(self.memory, host + inside)[0]  # type: ignore[no-any-return]

    def load_slow(self, gva: int, width: int, access: Access) -> int:
        """A load that missed the TLB, crosses a page or meets a device."""
        value = self._load_slow(gva, width, access)
        if self.breakpoints.watching and value >= 0 and access.privilege is not Privilege.SYSTEM:
            self.breakpoints.memory(gva, width >> 3, write=False)
        return value

    def _load_slow(self, gva: int, width: int, access: Access) -> int:
        size = width >> 3
        first = 4096 - (gva & 0xFFF)
        if access.write and size <= first:
            host = self._guarded(gva, access)
            if host >= 0:
                return STRUCTS[width].unpack_from(self.memory, host + (gva & 0xFFF))[0]  # type: ignore[no-any-return]
        physical = self.page_of(gva, access, access.write)
        if physical < 0:
            return -1
        if size <= first:
            return self.bus.load(physical + (gva & 0xFFF), width)
        beyond = self._wrap(gva + first)
        second = self.page_of(beyond, access, access.write)
        if second < 0:
            return -1
        low = self._load_bytes(physical + (gva & 0xFFF), first)
        return low | self._load_bytes(second, size - first) << (8 * first)

    def store(self, gva: int, value: int, width: int, access: Access) -> int:
        """Write `width` bits; 0 done, LEAVE done but the block must end, -1 a fault."""
        host = self.tlb.space.writes[_INDEX[access.privilege]].get(gva >> 12)
        inside = gva & 0xFFF
        if host is None or inside > 4096 - (width >> 3):
            return self.store_slow(gva, value, width, access)
        STRUCTS[width].pack_into(self.memory, host + inside, value)
        return 0

    def store_slow(self, gva: int, value: int, width: int, access: Access) -> int:
        """A store that missed the TLB, crosses a page, meets a device or translated code."""
        done = self._store_slow(gva, value, width, access)
        if self.breakpoints.watching and done >= 0 and access.privilege is not Privilege.SYSTEM:
            self.breakpoints.memory(gva, width >> 3, write=True)
        return done

    def _store_slow(self, gva: int, value: int, width: int, access: Access) -> int:
        size = width >> 3
        first = 4096 - (gva & 0xFFF)
        if size <= first:
            host = self._guarded(gva, access)
            if host >= 0:
                inside = gva & 0xFFF
                STRUCTS[width].pack_into(self.memory, host + inside, value)
                return self.written(host, inside, size)
        physical = self.page_of(gva, access, True)
        if physical < 0:
            return -1
        if size <= first:
            return self.store_physical(physical + (gva & 0xFFF), value, width)
        second = self.page_of(self._wrap(gva + first), access, True)
        if second < 0:
            return -1
        low = self._store_bytes(physical + (gva & 0xFFF), value, first)
        return self._store_bytes(second, value >> (8 * first), size - first) | low

    def _guarded(self, gva: int, access: Access) -> int:
        """Host page of a page that may be written with notice given, or -1."""
        n, page, space = _INDEX[access.privilege], gva >> 12, self.tlb.space
        host = space.guarded[n].get(page, -1)
        if host >= 0 and host not in self.code.pages:
            del space.guarded[n][page]
            space.writes[n][page] = host
        return host

    def probe(self, gva: int, access: Access) -> int:
        """0 when `access.size` bytes at `gva` may be accessed, else -1."""
        if not self._cached(gva, access) and self.page_of(gva, access, access.write) < 0:
            return -1
        last = self._wrap(gva + access.size - 1)
        if not (last ^ gva) & _PAGE or self._cached(last, access):
            return 0
        return min(self.page_of(last & _PAGE, access, access.write), 0)

    def _cached(self, gva: int, access: Access) -> bool:
        """The TLB lets this access be made."""
        n, page, space = _INDEX[access.privilege], gva >> 12, self.tlb.space
        if access.write:
            return page in space.writes[n] or page in space.guarded[n]
        return page in space.reads[n]

    def _wrap(self, gva: int) -> int:
        return gva & (_WRAP64 if self.words[_EFER] & (1 << 10) else _WRAP32)

    def _load_bytes(self, physical: int, count: int) -> int:
        return sum(self.bus.load(physical + n, 8) << (8 * n) for n in range(count))

    def _store_bytes(self, physical: int, value: int, count: int) -> int:
        done = 0
        for n in range(count):
            done |= self.store_physical(physical + n, (value >> (8 * n)) & 0xFF, 8)
        return done

    # --- data breakpoints ----------------------------------------------------------------------
    def watch_data(self) -> None:
        """Report accesses to the breakpoints, past the TLB, if DR7 enables one on data."""
        if self.breakpoints.wanted():
            self._watch(True)

    def end_watch(self) -> None:
        """Use the TLB again; the conditions that were met are pending debug exceptions."""
        if self.breakpoints.watching:
            self._watch(False)
            hits = self.breakpoints.take()
            if hits:
                self.words[_PENDING_DEBUG] |= hits | ENABLED_BREAKPOINT

    def _watch(self, on: bool) -> None:
        self.breakpoints.watching = on
        self.tlb.bypass(on)
        if self.on_context is not None:
            self.on_context()

    # --- physical memory ---------------------------------------------------------------------
    def load_physical(self, physical: int, width: int) -> int:
        host = self.bus.ram_pages.get(physical >> 12)
        inside = physical & 0xFFF
        if host is None or inside > 4096 - (width >> 3):
            return self.bus.load(physical, width)
        return STRUCTS[width].unpack_from(self.memory, host + inside)[0]  # type: ignore[no-any-return]

    def store_physical(self, physical: int, value: int, width: int) -> int:
        """Write physical memory; LEAVE when it is a device or held translated code."""
        host = self.bus.ram_pages.get(physical >> 12)
        inside = physical & 0xFFF
        if host is not None and inside <= 4096 - (width >> 3):
            STRUCTS[width].pack_into(self.memory, host + inside, value)
        else:
            self.bus.store(physical, width, value)
            host = self.bus.ram_offset(physical)
            if host < 0:
                self.attention = True
                return LEAVE
        return self.written(host, inside, width >> 3)

    def written(self, host: int, inside: int, size: int) -> int:
        """`size` bytes of a host page were written: LEAVE if they held translated code."""
        code = self.code
        if host in code.pages and code.written(host, inside, inside + size - 1):
            return LEAVE
        return 0

    def walk_load(self, physical: int, width: int, level: str) -> int:
        """Read a paging-structure entry."""
        self.walk_references += 1
        if self.on_walk_load is not None:
            self.on_walk_load(level, physical)
        return self.load_physical(physical, width)

    # --- translations ------------------------------------------------------------------------
    def switch_context(self) -> None:
        """Choose the TLB tag that belongs to the present control registers."""
        words = self.words
        vpid = eptp = 0
        if words[_VMX] == 2 and words[_PROC] & SECONDARY:
            controls = words[_PROC2]
            vpid = words[_VPID] if controls & ENABLE_VPID else 0
            eptp = words[_EPTP] & _PAGE if controls & ENABLE_EPT else 0
        pcid = words[_CR3] & 0xFFF if words[_CR4] & CR4_PCIDE and words[_CR0] & CR0_PG else 0
        before = self.tlb.space
        self.tlb.switch((vpid, pcid, eptp))
        if self.on_context is not None and self.tlb.space is not before:
            self.on_context()

    def flush(self, kind: int, first: int, second: int) -> None:
        """Service.FLUSH_TLB: see Flush for the operands."""
        tlb, vpid = self.tlb, self.tlb.tag[0]
        match Flush(kind):
            case Flush.PAGE:
                tlb.flush_page(first, vpid=vpid, pcid=second)
            case Flush.PAGE_LOCAL:
                tlb.flush_page(first, vpid=vpid, pcid=second)
            case Flush.PCID_LOCAL:
                tlb.flush(vpid=vpid, pcid=first, keep_global=True)
            case Flush.LOCAL:
                tlb.flush(vpid=vpid, keep_global=True)
            case Flush.ALL:
                tlb.flush(vpid=vpid)
            case Flush.VPID_PAGE:
                tlb.flush_page(second, vpid=first)
            case Flush.VPID:
                tlb.flush(vpid=first)
            case Flush.VPID_LOCAL:
                tlb.flush(vpid=first, keep_global=True)
            case Flush.EPT:
                tlb.flush(eptp=first & _PAGE)
            case Flush.ALL_VPIDS | Flush.ALL_EPT:
                tlb.flush()


def _no_translator(gva: int, access: int) -> tuple[int, int] | None:
    raise RuntimeError("the CPU has no executor yet")
