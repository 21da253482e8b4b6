"""The events of a run and the header before them, as frozen values.

Integers are unsigned and at most 64 bits wide; a reader in another language must keep all 64.
Bytes are base64 in JSON Lines and raw in the binary form. Must not know how events are stored or
what produced them.
"""

from __future__ import annotations

from hashlib import sha256 as _sha256
from typing import Literal

from msgspec import UNSET, Struct, UnsetType, field

from vtx import spec

FORMAT = "vtx-trace"
VERSION = 1

VALID_INTERRUPTION = 1 << 31
"""Bit 31 of interruption information: the rest of it means something."""

VECTOR = 0xFF
"""Bits 7:0 of interruption information."""


def sha256(data: bytes) -> str:
    """The hash by which traces name images, modules and memory: SHA-256 in hex."""
    return _sha256(data).hexdigest()


class Module(Struct, frozen=True):
    """A boot module by its command string and the hash of its bytes."""

    name: str
    sha256: str


class Header(Struct, frozen=True, kw_only=True):
    """What a trace is of: everything needed to run it again.

    style: the style of virtualization; cpu: the CPU profile; memory: guest memory in bytes;
    command_line: what the guest got as its command line; cpus: how many CPUs the machine has, left
    out where it is one. The engine is left out on purpose.
    """

    format: str = FORMAT
    version: int = VERSION
    image_sha256: str
    style: str
    cpu: str
    memory: int
    command_line: str = ""
    modules: tuple[Module, ...] = ()
    initrd_sha256: str | None = None
    cpus: int | UnsetType = UNSET


class Exit(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="event", tag="exit"):
    """One VM exit and what the VMM did about it.

    seq counts exits from 0; retired is the guest instructions retired before it. `number` and
    `reason` are the basic exit reason. instruction_bytes is hex, instruction_text Intel syntax.
    None: not defined for this exit (SDM 3C, Information for VM Exits). vmcs_changes and
    register_changes hold the new value of everything the handler changed. `action` is the kind
    of action ("resume", "inject", "stop", ...), action_text the same in words.
    """

    seq: int
    retired: int
    vcpu: int
    reason: str
    number: int
    qualification: int
    rip: int
    entry_failure: bool = False
    decoded: dict[str, int] = field(default_factory=dict)
    symbol: str = ""
    instruction_bytes: str = ""
    instruction_text: str = ""
    instruction_length: int | None = None
    instruction_info: int | None = None
    gla: int | None = None
    gpa: int | None = None
    intr_info: int | None = None
    intr_error: int | None = None
    idt_vectoring_info: int | None = None
    idt_vectoring_error: int | None = None
    action: str = ""
    action_text: str = ""
    vmcs_changes: dict[str, int] = field(default_factory=dict)
    register_changes: dict[str, int] = field(default_factory=dict)

    @property
    def vector(self) -> int | None:
        """The vector of the event that caused the exit, where there was one."""
        if self.intr_info is None or not self.intr_info & VALID_INTERRUPTION:
            return None
        return self.intr_info & VECTOR


class Input(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="event", tag="input"):
    """Bytes that reached the console's receiver at `now` (clock ticks of the machine)."""

    now: int
    data: bytes


class Interrupt(
    Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="event", tag="interrupt"
):
    """An external interrupt entering the guest: delivered by the CPU or injected by the VMM."""

    retired: int
    vector: int
    how: Literal["delivered", "injected"] = "delivered"
    vcpu: int = 0


class Note(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="event", tag="note"):
    """Something worth saying that is no event of the architecture."""

    retired: int
    text: str


class End(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="event", tag="end"):
    """How the run ended; the last event of every whole trace.

    memory_sha256: hash of guest memory from 0 to its size, "" where the run never had any.
    """

    retired: int
    ended: str
    exit_status: int
    memory_sha256: str


class Probe(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="event", tag="probe"):
    """The instruction at a place that was asked for has retired.

    retired: guest instructions retired before it; symbol: the place as it was asked for; cr3: the
    guest's own CR3 when the instruction began, not what a VMM put into the hardware's.
    """

    retired: int
    rip: int
    symbol: str
    cr3: int
    vcpu: int = 0


class Startup(
    Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="event", tag="startup"
):
    """A CPU took INIT, or a start-up IPI that makes it run real-mode code at vector * 4 KiB."""

    retired: int
    how: Literal["init", "startup"]
    vcpu: int
    vector: int = 0


Event = Exit | Input | Interrupt | Note | End | Probe | Startup
KINDS: tuple[type[Event], ...] = (Exit, Input, Interrupt, Note, End, Probe, Startup)
"""Every kind of event. The binary form numbers kinds by place: new ones go to the end."""


def kind(event: Event) -> str:
    """The event's kind as files name it: "exit", "input", "interrupt", "note", ..."""
    return str(event.__struct_config__.tag)


def when(event: Event) -> int:
    """The event's place in guest time: retired instructions (an input's clock tick)."""
    return event.now if isinstance(event, Input) else event.retired


def decode_exit_qualification(
    number: int, qualification: int, intr_info: int | None = None
) -> dict[str, int]:
    """The qualification of basic exit reason `number` taken apart, {} where it says nothing.

    `intr_info` tells apart the exceptions of EXCEPTION_OR_NMI.
    """
    vector = None if intr_info is None else intr_info & VECTOR
    return spec.decode_qualification(number, qualification, vector)
