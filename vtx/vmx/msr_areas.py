"""MSR areas: MSRs loaded by VM entries, and stored and loaded by VM exits.

An area is a list of 16-byte entries: index, zero, value. The algebra has no loops, so the list
is walked by nested calls of eight steps each, which end early. What an MSR means is known to
RDMSR and WRMSR alone.
Sources: SDM 3C, Loading MSRs; Saving MSRs.
"""

from collections.abc import Callable

from vtx.isa import msrs as msrs
from vtx.isa.builder import Builder, Value, routine_
from vtx.spec import MSRS
from vtx.vmx.capability import MOST_MSR_ENTRIES

_ENTRY_SIZE = 16
_STEPS = 8
_X2APIC_ENABLED = 1 << 10


@routine_(64, results=(1,))
def load_msr_entry(b: Builder, place: Value) -> None:
    """Load the MSR that the entry at physical address `place` names; 0 when it may not be."""
    first, value = b.load_physical(64, place), b.load_physical(64, place + 8)
    index = first.trunc(32)
    x2apic_mode = (b.get("apic_base") & _X2APIC_ENABLED) != 0
    refused = b.any_of(
        (first >> 32) != 0,
        (index == MSRS.IA32_FS_BASE) | (index == MSRS.IA32_GS_BASE),
        x2apic_mode & ((index >> 8) == 8),
    )
    with b.if_(refused):
        b.return_(b.const(1, 0))
    b.return_(*b.call("write_msr", index, value))


@routine_(64, results=(1,))
def store_msr_entry(b: Builder, place: Value) -> None:
    """Store the MSR that the entry at `place` names behind its index; 0 when it may not be."""
    first = b.load_physical(64, place)
    index = first.trunc(32)
    x2apic_mode = (b.get("apic_base") & _X2APIC_ENABLED) != 0
    with b.if_(((first >> 32) != 0) | (x2apic_mode & ((index >> 8) == 8))):
        b.return_(b.const(1, 0))
    legal, value = b.call("read_msr", index)
    with b.if_(legal):
        b.store_physical(place + 8, value)
    b.return_(legal)


def _walker(name: str, step: str, span: int) -> None:
    """A routine that runs `step` over up to _STEPS parts of `span` entries each.

    (place, position, count) -> 1-based number of the first entry that failed, or 0.
    """

    @routine_(64, 64, 64, results=(64,), name=name)
    def walk(b: Builder, place: Value, position: Value, count: Value) -> None:
        for n in range(_STEPS):
            here = position + n * span
            with b.if_(count.ule(here)):
                b.return_(b.const(64, 0))
            there = place + n * span * _ENTRY_SIZE
            if span == 1:
                (done,) = b.call(step, there)
                with b.if_(~done):
                    b.return_(here + 1)
            else:
                (failed,) = b.call(step, there, here, count)
                with b.if_(failed != 0):
                    b.return_(failed)
        b.return_(b.const(64, 0))


def _area(kind: str) -> str:
    """Register the walkers of `kind` ("load" or "store"); the name of the outermost."""
    step, span = f"{kind}_msr_entry", 1
    while span < MOST_MSR_ENTRIES:
        name = f"{kind}_msr_area_{span * _STEPS}"
        _walker(name, step, span)
        step, span = name, span * _STEPS
    return step


_LOAD, _STORE = _area("load"), _area("store")


def _walk(walker: str) -> Callable[[Builder, Value, Value], Value]:
    def run(b: Builder, place: Value, count: Value) -> Value:
        failed = b.var(64, 0)
        with b.if_(count != 0):
            failed.set(b.call(walker, place, b.const(64, 0), count)[0])
            too_long = b.const(64, MOST_MSR_ENTRIES).ult(count) & (failed.get() == 0)
            with b.if_(too_long):
                failed.set(MOST_MSR_ENTRIES + 1)
        return failed.get()

    return run


load_msr_area = _walk(_LOAD)
"""(builder, address, 64-bit count) -> 1-based number of the entry that failed, 0 when none did.
An area longer than the CPU recommends fails at its first entry past MOST_MSR_ENTRIES."""
store_msr_area = _walk(_STORE)
"""The same for storing."""
