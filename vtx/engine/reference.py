"""The reference engine: finds code, runs it block by block or instruction by instruction.

It executes until a virtual time, an event that needs attention, or a stop. Which of the two
readers of the algebra runs the programs is a constructor argument; both give the same state
after every instruction. What happens *between* instructions is `engine.boundary`'s business.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from vtx.engine.evaluate import Evaluator
from vtx.engine.families import load_all
from vtx.engine.generate import RETIRED, RIP, Step, compile_block
from vtx.engine.namespace import Namespace
from vtx.engine.probes import Probes
from vtx.engine.translate import LONGEST, Translated, translate_bytes
from vtx.isa.key import Key, current_key
from vtx.isa.layout import SLOTS
from vtx.isa.program import Access, Privilege
from vtx.isa.task_switch import PENDING_TASK_TRAP
from vtx.machine.cpu import EXIT, FAULT, OK, SOFTWARE_EVENT, Cpu

_PENDING = SLOTS["pending_debug"]
_CS_BASE, _CS_LIMIT, _CS_AR = SLOTS["cs_base"], SLOTS["cs_limit"], SLOTS["cs_ar"]
_MOST_STEPS = 24
_MOST_BLOCKS = 20_000

_Place = tuple[int, Key, bool, int, int]
"""(host address of the first byte, translation key, one instruction only, host page on which
the instruction continues or -1, bytes of it that CS has)."""

_HANDLERS = {FAULT: "deliver_fault", EXIT: "vm_exit", SOFTWARE_EVENT: "deliver_software_event"}
"""How a program ended -> the routine that carries on. A routine may end the same ways."""


class Waiting(Protocol):
    """Whether a hardware event waits, be it held back or not."""

    def interrupt_pending(self) -> bool: ...

    def nmi_pending(self) -> bool: ...


class Block(Protocol):
    """Runs one or more instructions; returns how they ended."""

    def __call__(self) -> int: ...


@dataclass(slots=True)
class Translation:
    """A block found in memory."""

    run: Callable[[], int]
    count: int
    """Instructions in it."""
    resync: bool
    """The key or the interrupt state may differ behind it."""
    repeats: bool = False
    """Its last instruction is a repeated string instruction."""


class Reference:
    """Executes one CPU with the evaluator (`quick=False`) or with generated Python."""

    def __init__(self, cpu: Cpu, features: frozenset[str], *, quick: bool = True) -> None:
        load_all()
        self.cpu = cpu
        self.features = features
        self.quick = quick
        self._evaluator = Evaluator(cpu)
        self._names = Namespace(cpu)
        self._blocks: dict[_Place, Translation] = {}
        self._of_page: dict[int, dict[_Place, None]] = {}
        self._probes: Probes | None = None
        self.key = current_key(cpu.words)
        self.repeats = False
        """The last block ended in a repeated string instruction, complete or not."""
        self.raised = False
        """The last program that did not simply complete was INT n or one of its kin."""
        self.source: Waiting | None = None
        """Where hardware events wait."""
        self.python_root = False
        """VMX root mode is played by Python, which VM exits have to reach."""
        cpu.translator = self._translator()

    @property
    def problem(self) -> str | None:
        """Why something had to run more slowly than it should; None if nothing had to."""
        return None

    # --- routines ----------------------------------------------------------------------------
    def call(self, name: str, *args: int) -> tuple[int, ...] | None:
        """Run a routine of the algebra; None when it ended in a fault or exit."""
        if not self.quick:
            return self._evaluator.call(name, *args)
        result = self._names.routine(name)(*args)
        if result is None or isinstance(result, tuple):
            return result
        return (result,)

    def enter_guest(self, *, launch: bool) -> int:
        """VM entry, and it may be the guest's run to its next VM exit. The VM-entry's status.

        For a VMM in Python, on a CPU to which no hardware event comes.
        """
        result = self.call("vmx_enter", int(launch))
        self.settle(OK if result is not None else self.cpu.status)
        return 0 if result is None else result[0]

    def _translator(self) -> Callable[[int, int], tuple[int, int] | None]:
        if self.quick:
            return self._generated_translator
        return lambda gva, access: self._evaluator.call("translate", gva, access)  # type: ignore[return-value]

    def _generated_translator(self, gva: int, access: int) -> tuple[int, int] | None:
        """`translate`, generated when it is first needed."""
        return self._names.routine("translate")(gva, access)  # type: ignore[no-any-return]

    def settle(self, status: int) -> None:
        """Deliver what a program ended in, until something is ready to run."""
        self.raised = status == SOFTWARE_EVENT
        while True:
            while status != OK:
                self.cpu.breakpoints.hits = 0  # the program did not complete
                handler = _HANDLERS[status]
                status = OK if self.call(handler) is not None else self.cpu.status
            if not self.cpu.words[_PENDING] & PENDING_TASK_TRAP:
                break
            # The debug trap of a task switch belongs to it; the VMCS has no place for it.
            status = OK if self.call("deliver_debug_trap") is not None else self.cpu.status
        self.key = current_key(self.cpu.words)

    def deliver(self, routine: str, *args: int) -> None:
        """Run an event-delivery routine and whatever follows from it."""
        self.cpu.watch_data()
        self.settle(OK if self.call(routine, *args) is not None else self.cpu.status)
        self.cpu.end_watch()

    # --- instructions ------------------------------------------------------------------------
    def run_block(self, room: int) -> bool:
        """Run the next block if it fits in `room` instructions, else one instruction.

        True when the world may look different afterwards: something ended otherwise than by
        falling through, or the block may change mode or interrupt state.
        """
        found = self._find(room < 2)
        if found is None:
            self.settle(self.cpu.status)
            return True
        if found.count > room:
            found = self._find(True)
            if found is None:
                self.settle(self.cpu.status)
                return True
        self.repeats = found.repeats
        status = found.run()
        if status:
            self.settle(status)
            return True
        if found.resync:
            self.key = current_key(self.cpu.words)
            return True
        return False

    def set_probes(self, probes: Probes | None) -> None:
        """Report what retires at probed addresses from now on."""
        self._probes = probes
        self.forget_blocks()

    def forget_blocks(self) -> None:
        """Drop every translation (they are made again from memory)."""
        self._blocks.clear()
        self._of_page.clear()

    def _find(self, single: bool) -> Translation | None:
        """The block at RIP; None when fetching it faults."""
        words = self.cpu.words
        key = self.key
        rip, room = words[RIP], LONGEST
        if key.bits != 64:
            if not key.flat & 2:
                single = True
                room = self._inside_code_segment(rip)
                if not room:
                    return None
            gva = (rip + words[_CS_BASE]) & 0xFFFF_FFFF
        else:
            gva = rip
        host = self._fetched(gva, key)
        if host < 0:
            return None
        place = (host + (gva & 0xFFF), key, single or not self.quick, -1, room)
        found = self._blocks.get(place)
        if found is None:
            found = self._translate(gva, host, place)
        return found

    def _inside_code_segment(self, rip: int) -> int:
        """How many bytes of an instruction at `rip` CS has; 0: none, and the fault is told.

        A limit of 4 GiB may wrap (SDM 3A, Limit Checking); here it does, as flat segments do.
        """
        limit = self.cpu.words[_CS_LIMIT]
        if rip > limit:
            self._fault(13, 0)
        return LONGEST if limit == 0xFFFF_FFFF else max(0, min(LONGEST, limit - rip + 1))

    def _fault(self, vector: int, error: int) -> None:
        words = self.cpu.words
        words[SLOTS["fault_vector"]] = vector
        words[SLOTS["fault_has_error"]] = 1
        words[SLOTS["fault_error"]] = error
        self.cpu.status = FAULT

    def _fetched(self, gva: int, key: Key) -> int:
        """Host page to fetch `gva` from, or -1 (the CPU's status says why)."""
        host = self.cpu.tlb.space.fetch[0 if key.cpl == 3 else 1].get(gva >> 12, -1)
        return host if host >= 0 else self._fetch_page(gva, key)

    def _fetch_page(self, gva: int, key: Key) -> int:
        """The same by a page walk."""
        physical = self.cpu.page_of(gva, _fetch_access(key), False, fetch=True)
        if physical < 0:
            return -1
        host = self.cpu.bus.ram_offset(physical)
        if host < 0:  # nothing to execute in device space: it reads as ones, which is #UD
            words = self.cpu.words
            words[SLOTS["fault_vector"]] = 6
            words[SLOTS["fault_has_error"]] = words[SLOTS["fault_error"]] = 0
            self.cpu.status = FAULT
        return host

    # --- translation -------------------------------------------------------------------------
    def _translate(self, gva: int, host: int, place: _Place) -> Translation | None:
        if len(self._blocks) >= _MOST_BLOCKS:
            self.forget_blocks()
        key, single = place[1], place[2]
        inside = gva & 0xFFF
        single = single or self._cut(gva)
        page = bytes(self.cpu.memory[host : host + 4096])
        steps: list[Step] = []
        offset, last = 0, None
        while True:
            one = translate_bytes(page[inside + offset : inside + offset + place[4]], key,
                                  self.features)  # fmt: skip
            if one is None:
                break
            if steps and (one.program.alone or self._cut(gva + offset)):
                break
            last = one
            steps.append(Step(one.program, offset, one.length))
            offset += one.length
            if single or one.ends_block or len(steps) == _MOST_STEPS or inside + offset >= 4096:
                break
        if last is None:
            return self._across_pages(gva, page[inside:], place)
        self._depend(place, host, inside, offset)
        made = self._blocks[place] = self._make(gva, steps, key, last)
        return made

    def _cut(self, gva: int) -> bool:
        """The instruction there must be a block of its own."""
        return self._probes is not None and self._probes.cuts(gva)

    def _across_pages(self, gva: int, head: bytes, place: _Place) -> Translation | None:
        """One instruction that continues on the next page; which page that is, is seen anew
        each time. What lies behind the limit of CS cannot be fetched."""
        key, room = place[1], place[4]
        if room <= len(head):
            self._fault(13, 0)
            return None
        wrap = 0xFFFF_FFFF_FFFF_FFFF if key.bits == 64 else 0xFFFF_FFFF
        beyond = self._fetched((gva + len(head)) & wrap, key)
        if beyond < 0:
            return None
        place = (*place[:3], beyond, room)
        found = self._blocks.get(place)
        if found is None:
            code = head + bytes(self.cpu.memory[beyond : beyond + LONGEST])
            one = translate_bytes(code[:room], key, self.features)
            if one is None:  # fifteen bytes would be enough for any instruction
                self._fault(13, 0)
                return None
            self._depend(place, place[0] & -4096, 4096 - len(head), len(head))
            self._depend(place, beyond, 0, one.length - len(head))
            found = self._make(gva, [Step(one.program, 0, one.length)], key, one)
            self._blocks[place] = found
        return found

    def _make(self, gva: int, steps: list[Step], key: Key, last: Translated) -> Translation:
        made = self._compiled(steps, key, last)
        if self._probes is not None and self._probes.cuts(gva):
            made.run = self._probes.watched(self.cpu, made.run, self.settle, repeats=made.repeats)
            made.resync = True
        return made

    def _compiled(self, steps: list[Step], key: Key, last: Translated) -> Translation:
        resync = last.program.resync or last.program.alone
        if not self.quick:
            return Translation(self._evaluated(steps[0], key), 1, resync, last.repeats)
        ip_mask = 0xFFFF_FFFF_FFFF_FFFF if key.bits == 64 else 0xFFFF_FFFF
        code = _block_code(steps, ip_mask)
        for step in steps:
            self._names.need(step.program.ops)
        return Translation(self._names.block(code), len(steps), resync, last.repeats)

    def _evaluated(self, step: Step, key: Key) -> Callable[[], int]:
        words = self.cpu.words
        mask = 0xFFFF_FFFF_FFFF_FFFF if key.bits == 64 else 0xFFFF_FFFF

        def run() -> int:
            next_ip = (words[RIP] + step.length) & mask
            status = self._evaluator.instruction(step.program, next_ip)
            if status == OK:
                words[RETIRED] += 1
            return status

        return run

    def _depend(self, place: _Place, host: int, inside: int, length: int) -> None:
        """Forget what is at `place` when these bytes of a host page are written."""
        self._of_page.setdefault(host, {})[place] = None
        self.cpu.code.watch(host, self._forget_page, inside, inside + length - 1)

    def _forget_page(self, host: int) -> None:
        for place in self._of_page.pop(host, ()):
            self._blocks.pop(place, None)


_code: dict[tuple[Any, ...], Any] = {}


def _block_code(steps: list[Step], ip_mask: int) -> Any:
    """Compiled source of a block, shared by all CPUs of the process."""
    known_as = (ip_mask, *((id(s.program), s.offset) for s in steps))
    known = _code.get(known_as)
    if known is None:
        if len(_code) >= _MOST_BLOCKS:
            _code.clear()
        # The programs stay in the entry, so that their id() is not used again.
        known = _code[known_as] = (compile_block(steps, ip_mask, "<block>"), tuple(steps))
    return known[0]


_USER = Access(privilege=Privilege.USER)
_SUPERVISOR = Access(privilege=Privilege.SUPERVISOR)


def _fetch_access(key: Key) -> Access:
    return _USER if key.cpl == 3 else _SUPERVISOR
