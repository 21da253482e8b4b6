"""What a VMM does, as trace events: exits with their handling, injected interrupts, probe hits.

It looks at the VMM through its port and changes nothing: translating the guest's RIP to show
the instruction leaves no accessed flag behind. It decides nothing.
"""

from collections.abc import Callable

from vtx.isa.layout import GPR_NAMES
from vtx.machine.loader import SymbolTable
from vtx.machine.paging import FETCH, USER
from vtx.trace import Event, Interrupt, Probe, disassemble
from vtx.trace import Exit as ExitEvent
from vtx.vmm import exits
from vtx.vmm.exits import Action, Exit
from vtx.vmm.port import Port
from vtx.vmm.vcpu import Vcpu
from vtx.vmm.vm import VirtualMachine

_HAS_LENGTH = frozenset({9, *range(10, 29), 29, 30, 31, 32, 36, 39, 40, 46, 47, 50, 51, 53, 54,
                         55, 57, 58, 59, 61})  # fmt: skip
_HAS_INFO = frozenset({19, 21, 22, 23, 25, 27, 46, 47, 50, 53, 57, 58, 61})
_LONGEST = 15


def _has_info(exit: Exit) -> bool:
    """VM-exit instruction information is defined (of I/O, for INS and OUTS only)."""
    if exit.reason == exits.IO_INSTRUCTION:
        return bool(exit.decoded.get("string"))
    return exit.reason in _HAS_INFO


class Observer:
    """Turns the exits of one VM into trace events."""

    def __init__(
        self, emit: Callable[[Event], None], port: Port, vm: VirtualMachine, vcpu: Vcpu,
        symbols: SymbolTable,
    ) -> None:  # fmt: skip
        self._emit, self._port, self._vm, self._vcpu = emit, port, vm, vcpu
        self._symbols = symbols
        self._count = 0
        self._registers: dict[str, int] = {}
        self._shown: tuple[str, str] = ("", "")
        self._held: list[Probe] | None = None
        """Hits of probes while an exit is being handled: they stand behind it."""

    def interrupt(self, vector: int) -> None:
        """An external interrupt is injected at the coming VM entry."""
        self._emit(Interrupt(retired=self._vm.retired, vector=vector, how="injected"))

    def probe(self, hit: Probe) -> None:
        """A probed instruction retired; if the VMM completed it, behind the exit it made."""
        if self._held is None:
            self._emit(hit)
        else:
            self._held.append(hit)

    def before(self, exit: Exit) -> None:
        """Remember what the handler may change."""
        self._held = []
        self._shown = self._instruction(exit)
        self._registers = self._read_registers()
        self._port.record_writes()

    def after(self, exit: Exit, action: Action) -> None:
        """Write the exit and what was done about it."""
        written = self._port.recorded_writes()
        registers = self._read_registers()
        ept = exit.reason in (exits.EPT_VIOLATION, exits.EPT_MISCONFIGURATION)
        valid = exit.interruption_info & exits.VALID
        vectoring = exit.idt_vectoring_info & exits.VALID
        self._emit(
            ExitEvent(
                seq=self._count,
                retired=exit.retired,
                vcpu=0,
                reason=exit.name,
                number=exit.reason,
                qualification=exit.qualification,
                rip=exit.rip,
                decoded=exit.decoded,
                symbol=self._symbols.describe(exit.rip) or "",
                instruction_bytes=self._shown[0],
                instruction_text=self._shown[1],
                instruction_length=exit.instruction_length if exit.reason in _HAS_LENGTH else None,
                instruction_info=exit.instruction_info if _has_info(exit) else None,
                gla=exit.gla if exit.reason == exits.EPT_VIOLATION else None,
                gpa=exit.gpa if ept else None,
                intr_info=exit.interruption_info if valid else None,
                intr_error=exit.interruption_error
                if valid and exit.interruption_info & exits.ERROR_VALID
                else None,
                idt_vectoring_info=exit.idt_vectoring_info if vectoring else None,
                idt_vectoring_error=exit.idt_vectoring_error
                if vectoring and exit.idt_vectoring_info & exits.ERROR_VALID
                else None,
                action=type(action).__name__.lower(),
                action_text=action.why,
                vmcs_changes=written,
                register_changes={
                    name: value
                    for name, value in registers.items()
                    if value != self._registers[name]
                },
            )
        )
        self._count += 1
        held, self._held = self._held or [], None
        for hit in held:
            self._emit(hit)

    def _read_registers(self) -> dict[str, int]:
        values = {name: self._port.register(name) for name in GPR_NAMES if name != "rsp"}
        values["cr2"] = self._port.register("cr2")
        return values

    def _instruction(self, exit: Exit) -> tuple[str, str]:
        """Hex bytes and text of the instruction at RIP, empty where it cannot be read."""
        code, bits = self._fetch(exit.rip)
        if not code:
            return "", ""
        length, text = disassemble(code, exit.rip, bits)
        return code[:length].hex(), text

    def _fetch(self, rip: int) -> tuple[bytes, int]:
        rights = self._port.vmread("GUEST_CS_ACCESS_RIGHTS")
        long = self._vm.soft.state.read("efer") & 0x400
        bits = 64 if long and rights & 0x2000 else 32 if rights & 0x4000 else 16
        gva = rip if bits == 64 else (rip + self._port.vmread("GUEST_CS_BASE")) & 0xFFFF_FFFF
        code = b""
        while len(code) < _LONGEST:
            gpa = self._peek(gva + len(code))
            if gpa is None:
                break
            room = min(4096 - (gpa & 0xFFF), _LONGEST - len(code))
            code += self._vm.platform.bus.read_bytes(gpa, room)
        return code, bits

    def _peek(self, gva: int) -> int | None:
        """The guest-physical address of `gva`, leaving accessed flags as they are."""
        soft, bus = self._vm.soft, self._vm.platform.bus
        self._vcpu.load_paging()
        seen: list[tuple[int, bytes]] = []
        known = soft.on_walk_load
        soft.on_walk_load = lambda level, gpa: seen.append((gpa, bus.read_bytes(gpa, 8)))
        user = self._port.vmread("GUEST_SS_ACCESS_RIGHTS") >> 5 & 3 == 3
        found = self._vm.translate(gva, FETCH | (USER if user else 0))
        soft.on_walk_load = known
        for gpa, before in reversed(seen):
            if bus.read_bytes(gpa, 8) != before:
                bus.write_bytes(gpa, before)
        return None if found is None else found[0] | gva & 0xFFF
