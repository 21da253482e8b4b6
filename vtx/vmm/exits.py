"""What comes in to a VMM and what goes out: a VM exit as a value, and the actions.

An exit is read once from the VMCS and never changes; an action says what the base loop shall
do before the next VM entry. This module knows no handler and no style.
"""

from dataclasses import dataclass
from functools import cache, cached_property

from vtx.spec import EXITS, SpecError, decode_qualification, exit_reason

ENTRY_FAILURE = 1 << 31
VALID = 1 << 31
ERROR_VALID = 1 << 11

EXCEPTION_OR_NMI, EXTERNAL_INTERRUPT, TRIPLE_FAULT = (
    EXITS.EXCEPTION_OR_NMI,
    EXITS.EXTERNAL_INTERRUPT,
    EXITS.TRIPLE_FAULT,
)
INTERRUPT_WINDOW, HLT, IO_INSTRUCTION, PREEMPTION_TIMER = (
    EXITS.INTERRUPT_WINDOW,
    EXITS.HLT,
    EXITS.IO_INSTRUCTION,
    EXITS.PREEMPTION_TIMER,
)
EPT_VIOLATION, EPT_MISCONFIGURATION = EXITS.EPT_VIOLATION, EXITS.EPT_MISCONFIGURATION


@cache
def _name(reason: int) -> str:
    try:
        return exit_reason(reason).name
    except SpecError:
        return f"REASON_{reason}"


@dataclass(frozen=True)
class Exit:
    """One VM exit. Raw values are as VMREAD gave them (SDM 3C, VM-Exit Information Fields)."""

    reason: int
    """Basic exit reason, bits 15:0 of EXIT_REASON."""
    failed_entry: bool
    qualification: int
    instruction_length: int
    instruction_info: int
    rip: int
    gla: int
    gpa: int
    interruption_info: int
    interruption_error: int
    idt_vectoring_info: int
    idt_vectoring_error: int
    now: int
    """The guest's clock at the exit."""
    retired: int
    """Guest instructions retired before it."""

    @classmethod
    def of(cls, values: dict[str, int]) -> "Exit":
        """The exit with a value for each of its fields. A frozen class's own way sets them one
        by one, which takes longer than reading them."""
        exit = object.__new__(cls)
        exit.__dict__.update(values)
        return exit

    @property
    def name(self) -> str:
        """Name of the basic exit reason, for example EPT_VIOLATION."""
        return _name(self.reason)

    @property
    def vector(self) -> int | None:
        """Vector of the event that caused the exit, where there is one."""
        return self.interruption_info & 0xFF if self.interruption_info & VALID else None

    @cached_property
    def decoded(self) -> dict[str, int]:
        """The qualification's fields by name."""
        return decode_qualification(self.reason, self.qualification, self.vector)


@dataclass(frozen=True)
class Resume:
    """Enter the guest again where it is; what made it exit has been mended."""

    why: str = "resume"


@dataclass(frozen=True)
class Complete:
    """Run the instruction that exited on the vCPU against the VM's own devices and memory.

    It counts as one retired instruction, or raises in the guest what it raises on the bare
    machine.
    """

    why: str = "complete the instruction"


@dataclass(frozen=True)
class Skip:
    """Go on behind the instruction that exited; the handler has done its work."""

    why: str = "skip the instruction"


@dataclass(frozen=True)
class Inject:
    """Deliver an event to the guest at the next VM entry."""

    vector: int
    type: int = 3
    """Interruption type: 0 external, 2 NMI, 3 hardware exception."""
    error_code: int | None = None
    cr2: int | None = None

    @property
    def why(self) -> str:
        """In words, for the trace."""
        error = "" if self.error_code is None else f" error {self.error_code:#x}"
        where = "" if self.cr2 is None else f" cr2 {self.cr2:#x}"
        return f"inject vector {self.vector}{error}{where}"


@dataclass(frozen=True)
class Stop:
    """End the VM; the run reports `message` with the exit status of a VMM that gave up."""

    message: str

    @property
    def why(self) -> str:
        return self.message


Action = Resume | Complete | Skip | Inject | Stop
