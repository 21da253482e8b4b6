"""Probes of a guest: from names to linear addresses, and from hits to trace events.

On the bare machine a hit is an event as it stands. Under a VMM the guest's instructions retire
in three places (the CPU in non-root operation, the completing CPU, and a handler that skips
what it has emulated); here all of them are put on the VM's clock, with the guest's own CR3. It
does not know how hits are found.
"""

import difflib
from collections.abc import Callable, Iterable, Mapping

from vtx.engine.probes import Hit, Probes
from vtx.engine.reference import Reference
from vtx.machine.loader import SymbolTable
from vtx.spec.registers import ACCESS_RIGHTS, EFER
from vtx.trace import Event, Probe
from vtx.vmm.port import Port
from vtx.vmm.vcpu import Vcpu
from vtx.vmm.vm import VirtualMachine

Places = Mapping[int, str]
"""Linear address -> the name its hits carry."""


class ProbeError(Exception):
    """A probe that has no place; one line that says which and why."""


def resolve_probes(texts: Iterable[str], symbols: SymbolTable) -> Places:
    """The addresses of symbols and of numbers in hex. Raises ProbeError.

    Of two names for one address the first one asked for stands for it.
    """
    places: dict[int, str] = {}
    for text in texts:
        gva = symbols.address_of(text)
        if gva is not None:
            places.setdefault(gva, text)
        else:
            gva = _number(text, symbols)
            places.setdefault(gva, f"{gva:#x}")
    return places


def _number(text: str, symbols: SymbolTable) -> int:
    if text[:2] in ("0x", "0X"):
        try:
            gva = int(text, 16)
        except ValueError:
            raise ProbeError(f"--probe {text}: not a number in hex") from None
        if gva >> 64:
            raise ProbeError(f"--probe {text}: more than 64 bits")
        return gva
    if not symbols:
        raise ProbeError(f"--probe {text}: the image has no symbols; write 0xADDRESS")
    close = difflib.get_close_matches(text, [symbol.name for symbol in symbols], 3)
    hint = f"; close: {', '.join(close)}" if close else ""
    raise ProbeError(f"--probe {text}: the image has no such symbol{hint}")


def probe_bare(engine: Reference, places: Places, emit: Callable[[Event], None]) -> None:
    """Write hits of the machine itself to a trace from now on."""

    def report(hit: Hit) -> None:
        emit(Probe(retired=hit.retired, rip=hit.rip, symbol=places[hit.gva], cr3=hit.cr3))

    engine.set_probes(Probes(places, report))


class GuestProbes:
    """The probes of one VM. `emit` gets their events in guest order."""

    def __init__(
        self, port: Port, vm: VirtualMachine, vcpu: Vcpu, places: Places,
        emit: Callable[[Probe], None],
    ) -> None:  # fmt: skip
        self._port, self._vm, self._vcpu = port, vm, vcpu
        self._places, self._emit = places, emit
        self._ahead = 0
        self._completing = Probes(places, self._completed)
        port.engine.set_probes(Probes(places, self._in_guest))
        vm.engine.set_probes(self._completing)

    def entering(self) -> None:
        """VM entry: the physical CPU counts on from here for the VM."""
        self._ahead = self._vm.retired - self._port.retired

    def _in_guest(self, hit: Hit) -> None:
        """Retired in non-root operation. Where the VMM has the hardware's CR3 for itself, the
        guest's is in the completing CPU: no CR3 is loaded without an exit then."""
        cr3 = hit.cr3 if self._vcpu.cr3_is_guests else self._vm.soft.state.read("cr3")
        self._write(hit.gva, hit.rip, hit.retired + self._ahead, cr3)

    def _completed(self, hit: Hit) -> None:
        self._write(hit.gva, hit.rip, hit.retired, hit.cr3)

    def delivering(self, deliver: Callable[[], None]) -> None:
        """Delivery in the completing CPU; an INT n retires with that of its event."""
        self._completing.around(self._vm.soft, deliver)

    def skipped(self, rip: int) -> None:
        """The VMM did the work of the instruction at `rip` and is about to step over it."""
        gva = self._linear(rip)
        if gva in self._places:
            self._write(gva, rip, self._vm.retired, self._guest_cr3())

    def _linear(self, rip: int) -> int:
        """Linear address of `rip`, while the vCPU's registers are in the VMCS."""
        long = self._vm.soft.state.read("efer") & EFER.LMA
        if long and self._port.vmread("GUEST_CS_ACCESS_RIGHTS") & ACCESS_RIGHTS.L:
            return rip
        return (rip + self._port.vmread("GUEST_CS_BASE")) & 0xFFFF_FFFF

    def _guest_cr3(self) -> int:
        if self._vcpu.cr3_is_guests:
            return self._port.vmread("GUEST_CR3")
        return self._vm.soft.state.read("cr3")

    def _write(self, gva: int, rip: int, retired: int, cr3: int) -> None:
        self._emit(Probe(retired=retired, rip=rip, symbol=self._places[gva], cr3=cr3))
